"""A comparison under limits: scores and fronts are of the feasible, and nothing is lost."""

import json
import re
from dataclasses import dataclass, field

import moocore
import numpy as np
import pandas as pd
import pytest

from paretonas.cli import run
from paretonas.compare import compare
from paretonas.compare.summary import feasibility
from paretonas.problem import Problem
from paretonas.samplers import LocalSearch
from paretonas.space import Architecture, Choice, encode

SPLIT = "op_0_1,op_0_2,op_1_2"


def command(csv, out, *limits, methods="random,nsga2", budget=64):
    """The arguments for the small table."""
    words = ["compare", "--table", csv, "--choices", SPLIT, "--minimize", "error,latency_ms"]
    words += ["--where", "ok", "--methods", methods, "--budget", budget, "--seeds", 2, "--jobs", 1]
    words += ["--out", out, *(word for limit in limits for word in ("--constraint", limit))]
    return [str(word) for word in words]


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """Latency is an objective, accuracy is only limited."""
    room = tmp_path_factory.mktemp("limits")
    frame.to_csv(room / "cells.csv", index=False)
    limits = ("latency<=6ms", "accuracy>=66")
    assert run(command(room / "cells.csv", room / "out", *limits, methods="random,tpe")) == 0
    return room / "out"


def test_scores_are_against_the_front_of_the_feasible(folder, frame):
    ok = frame[frame["ok"] & (frame["latency_ms"] <= 6) & (frame["accuracy"] >= 66)]
    points = ok[["error", "latency_ms"]].to_numpy()
    best = points[moocore.is_nondominated(points)]
    low, high = points.min(axis=0), points.max(axis=0)
    whole = moocore.hypervolume((best - low) / (high - low), ref=[1, 1])
    rows = pd.read_csv(folder / "anytime.csv")
    last = rows[(rows["method"] == "random") & (rows["evaluations"] == 64)]
    assert last["hypervolume"].to_numpy() == pytest.approx([whole] * 2)
    assert last["hypervolume_fraction"].to_numpy() == pytest.approx([1, 1])
    front = pd.read_csv(folder / "front-random.csv")
    assert {*map(tuple, front[["error", "latency_ms"]].to_numpy())} == {*map(tuple, best)}


def test_rows_tell_how_far_they_are_beyond_the_limits(folder):
    rows = pd.read_csv(folder / "evaluations.csv")
    there = rows[~rows["failed"]]
    beyond = (there["latency_ms"] - 6).clip(lower=0) / 6
    beyond += (66 - there["accuracy"]).clip(lower=0) / 66
    assert there["violation"].to_numpy() == pytest.approx(beyond.to_numpy())
    assert rows[rows["failed"]]["violation"].isna().all()
    summary = pd.read_csv(folder / "summary.csv").set_index(["method", "measure", "statistic"])
    feasible = there[there["violation"] == 0].groupby("method")["seed"].value_counts()
    found = summary.loc[("random", "feasible_evaluations", "median"), "value"]
    assert found == np.median(feasible["random"])
    assert summary.loc[("random", "feasible_runs", "count"), "value"] == 2


def test_the_folder_and_the_page_know_the_limits(folder, capsys):
    about = json.loads((folder / "compare.json").read_text())
    assert about["settings"]["constraint"] == ["accuracy>=66", "latency_ms<=6"]
    assert "latency_ms&lt;=6" in (folder / "report.html").read_text()
    before = {p: p.read_bytes() for p in folder.iterdir() if p.suffix in (".csv", ".json")}
    assert run(["compare", "--resume", str(folder)]) == 0
    assert "Scores and fronts are of architectures with" in capsys.readouterr().out
    assert before == {p: p.read_bytes() for p in before}
    assert run(["report", str(folder)]) == 0


def test_other_limits_are_another_comparison(table, tmp_path):
    def begun(constraint):
        return compare(
            table, "random", budget=5, seeds=1, constraint=constraint, folder=tmp_path / "out"
        )

    one = begun("latency<=6ms,error<=35")
    again = begun("error<=35,latency<=6ms")  # the same limits
    assert one.anytime().equals(again.anytime())
    for other in ("latency<=6ms", None):
        with pytest.raises(ValueError, match="a comparison with other settings: constraint was"):
            begun(other)


@pytest.mark.deep
def test_without_a_constraint_nothing_is_added(csv, tmp_path):
    assert run(command(csv, tmp_path / "out", budget=8)) == 0
    assert list(pd.read_csv(tmp_path / "out" / "evaluations.csv").columns)[-3:] == [
        "error",
        "latency_ms",
        "failed",
    ]
    about = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert "constraint" not in {**about["settings"], **about["asked"]}
    assert "feasible" not in (tmp_path / "out" / "summary.csv").read_text()


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("latency<=0.5ms", r"no architecture has latency_ms <= 0.5; the least is \d"),
        ("accuracy>=99", "no architecture has accuracy >= 99; the most is 75"),
        (
            "latency<=2ms,accuracy>=74",
            r"no architecture has latency_ms <= 2 and accuracy >= 74; the nearest has latency_ms "
            r"\S+, accuracy \d+$",
        ),
        ("speed<=2", "no objective is called 'speed'; there are error, latency_ms, accuracy, ok"),
        ("error>=2", "error is minimized, so its limit reads error<=2"),
        ("latency<2ms", "a constraint reads NAME<=NUMBER"),
    ],
)
def test_limits_that_cannot_be_met_are_bad_input(csv, tmp_path, capsys, limits, message):
    assert run(command(csv, tmp_path / "out", limits)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)
    assert not (tmp_path / "out").exists()


@dataclass(frozen=True)
class Space:
    choices: tuple[Choice, ...] = tuple(Choice(f"c{i}", ("a", "b", "c")) for i in range(3))
    name: str = "made"


@dataclass
class Cost:
    column: str
    weights: tuple[float, ...]
    choices: tuple[Choice, ...] = field(default_factory=lambda: Space().choices)

    def exact(self, architecture):
        return float(np.dot(self.weights, encode(self.choices, architecture)) + 10)


def made(constraint, **more):
    costs = (Cost("latency_ms", (1, 2, 3)), Cost("error", (-1, -1, -1)))
    return Problem(Space(), costs, constraint=constraint, **more)


def test_where_nothing_is_feasible_the_nearest_are_compared():
    found = compare(made("latency<=5ms"), "random,local", budget=12, seeds=2)
    told = feasibility(found)
    least = min(
        outcome.objectives["latency_ms"] for r in found.records.values() for outcome in r.outcomes
    )
    assert "No run found an architecture with latency_ms<=5" in told
    assert f"{100 * (least - 5) / 5:.3g} % of the limits" in told
    fronts = [found.front(method) for method in found.methods]
    assert all(len(front) for front in fronts)
    assert min(p.objectives["latency_ms"] for front in fronts for p in front) == least
    assert len(found.summary) and len(found.anytime()) == 4 * 12


def test_a_method_without_a_feasible_point_shows_its_nearest():
    class Last:
        """Proposes the dearest alone."""

        def __init__(self, problem, seed):
            self.left = [{"c0": "c", "c1": "c", "c2": "c"}]

        def ask(self):
            return [Architecture(self.left.pop())] if self.left else []

        def tell(self, outcomes):
            pass

    methods = {"local": lambda problem, seed: LocalSearch(problem, seed=seed), "last": Last}
    found = compare(made("latency<=12ms"), methods, budget=20, seeds=1)
    assert [p.objectives["latency_ms"] for p in found.front("last")] == [22]
    assert all(p.objectives["latency_ms"] <= 12 for p in found.front("local"))
    assert "last found none with 1 of 1 seeds." in feasibility(found)
    assert found.curves["last", 0].fraction[-1] == 0


def test_what_is_known_before_is_refused_before_anything_runs():
    with pytest.raises(ValueError, match="no architecture has latency_ms <= 5; the least is 10"):
        compare(made("latency<=5ms", free=("latency_ms",)), "random", budget=5, seeds=1)
    with pytest.raises(ValueError, match="the problem has limits of its own: latency_ms<=12"):
        compare(made("latency<=12ms"), "random", budget=5, seeds=1, constraint="error<=3")


def test_costs_of_networks_are_known_before_any_is_trained(tmp_path, capsys):
    words = ["compare", "--space", "toy", "--methods", "random", "--budget", "2", "--seeds", "1"]
    assert run([*words, "--constraint", "memory<=1B", "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no architecture has memory_kib <= 0.0009765625; the least is 2.6" in line
    assert not (tmp_path / "out").exists()
