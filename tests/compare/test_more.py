"""A comparison goes on with more budget and seeds, as if it had had them from the start."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from paretonas.cli import run
from paretonas.compare import compare
from paretonas.compare.folder import RunJournal
from paretonas.problem import Problem
from paretonas.samplers.methods import methods
from paretonas.samplers.random import Random

OLDER = Path(__file__).parents[1] / "older"


class Once:
    """An objective that no architecture may be asked for twice, and that may be interrupted."""

    def __init__(self, objective, stop_at=None):
        self.column, self._exact, self.stop_at = objective.column, objective.exact, stop_at
        self.asked = []

    def exact(self, architecture):
        self.asked.append(architecture)
        if len(self.asked) == self.stop_at:
            raise KeyboardInterrupt
        return self._exact(architecture)


class Halves:
    """A one-shot sampler: half of its budget is billed first, and decides where it begins."""

    def __init__(self, problem, seed):
        self._order = [a for a in iter(Random(problem, seed=seed).ask, [])]
        self.proxy_evaluations = self.weight_steps = self.weight_evaluations = 0

    def plan(self, budget):
        self.weight_evaluations = budget // 2

    def ask(self):
        first, self._order[0] = self._order[self.weight_evaluations], self._order[0]
        del self._order[self.weight_evaluations]
        return first

    def tell(self, outcomes):
        pass


def same(one, other):
    pd.testing.assert_frame_equal(one.evaluations(), other.evaluations())
    pd.testing.assert_frame_equal(one.anytime(), other.anytime())
    bills = [
        {pair: (r.ledger.evaluations, r.ledger.duplicates) for pair, r in found.records.items()}
        for found in (one, other)
    ]
    assert bills[0] == bills[1]


def budgets(folder):
    about = json.loads((folder / "compare.json").read_text())
    assert about["settings"]["budget"] == about["budgets"][-1]["budget"]
    return [(one["budget"], one["seeds"]) for one in about["budgets"]]


SLOW = {"gp": 12, "surgery": 15}  # their budgets


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=pytest.mark.deep) if name in ("gp", "agemoea2") else name
        for name in methods
        if name != "search"  # it needs networks
    ],
)
def test_more_budget_and_seeds_are_equal_to_having_had_them_from_the_start(table, tmp_path, method):
    """For every sampler; what is known is not evaluated again, failures included."""
    error, latency = table.objectives
    first, second = Once(error), Once(error)
    more = SLOW.get(method, 25)
    for counting, budget, seeds in [(first, 11, 1), (second, more, 2)]:
        problem = Problem(table, [counting, latency])
        found = compare(problem, [method], budget=budget, seeds=seeds, folder=tmp_path)
    same(found, compare(table, [method], budget=more, seeds=2))
    assert (len(first.asked), len(second.asked)) == (11, more - 11 + more)
    assert not {*first.asked} & {*second.asked[: more - 11]}
    assert budgets(tmp_path) == [(11, 1), (more, 2)]


def test_a_one_shot_sampler_begins_anew_and_nothing_that_it_found_is_lost(table, tmp_path):
    methods = {"halves": Halves}
    error, latency = table.objectives
    asked = []
    for budget in (10, 20, 30):
        counting = Once(error)
        problem = Problem(table, [counting, latency])
        found = compare(problem, methods, budget=budget, seeds=1, folder=tmp_path)
        same(found, compare(table, methods, budget=budget, seeds=1))
        assert not {*asked} & {*counting.asked}
        asked += counting.asked
    assert len(found.records["halves", 0].outcomes) == 15 < len(asked)
    assert {*RunJournal(tmp_path, "halves", 0).begun()} == {*asked}


def test_what_was_found_survives_a_stop_while_going_on(table, tmp_path):
    error, latency = table.objectives
    compare(table, ["random", "local"], budget=10, seeds=1, folder=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        problem = Problem(table, [Once(error, stop_at=7), latency])
        compare(problem, ["random", "local"], budget=30, seeds=1, folder=tmp_path)
    counting = Once(error)
    problem = Problem(table, [counting, latency])
    found = compare(problem, ["random", "local"], budget=30, seeds=1, folder=tmp_path)
    same(found, compare(table, ["random", "local"], budget=30, seeds=1))
    assert len(counting.asked) == 2 * 20 - 6
    assert budgets(tmp_path) == [(10, 1), (30, 1)]
    assert not list((tmp_path / "runs").glob("*unfinished*"))


def test_a_run_that_had_nothing_left_to_propose_has_ended_for_its_budget_only(table, tmp_path):
    class Few(Random):
        def ask(self):
            return super().ask() if self._left > 60 else []

    makers = {"few": lambda problem, seed: Few(problem, seed=seed)}
    for budget in (10, 10, 20):
        found = compare(table, makers, budget=budget, seeds=1, folder=tmp_path, jobs=None)
        assert len(found.records["few", 0].outcomes) == 4
    again = compare(table, makers, budget=20, seeds=1, folder=tmp_path, jobs=0)
    same(again, found)


@pytest.mark.parametrize("less", [{"budget": 9}, {"seeds": 1}])
def test_less_is_refused_and_changes_nothing(table, tmp_path, less):
    settings = {"budget": 10, "seeds": 2}
    compare(table, ["random"], **settings, folder=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.json*")}
    (name,) = less
    with pytest.raises(ValueError, match=f"^the {name} of the comparison in .* can only grow"):
        compare(table, ["random"], **{**settings, **less}, folder=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json*")} == before


def test_an_older_folder_goes_on_with_more(tmp_path, monkeypatch):
    """Its records do not tell their budget, and its `compare.json` tells only the last one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paretonas.cli.compare._processes", lambda *_: None)
    folder = tmp_path / "comparison"
    shutil.copytree(OLDER / "comparison", folder)
    shutil.copy(OLDER / "table.csv", tmp_path)
    about = folder / "compare.json"
    text = about.read_text().replace("/home/user", os.fspath(tmp_path))
    text = text.replace('"surgery",\n', "")
    about.write_text(text)
    assert run(["compare", "--resume", str(folder), "--budget", "30", "--seeds", "3"]) == 0
    assert budgets(folder) == [(20, 2), (30, 3)]
    assert run(["report", str(folder)]) == 0
    fresh = ["compare", "--table", "table.csv", "--choices", "op,width,depth"]
    fresh += ["--minimize", "error_percent,latency_ms", "--methods", "nsga2,tpe,random"]
    assert run([*fresh, "--budget", "30", "--seeds", "3", "--out", "fresh"]) == 0
    for name in ("evaluations.csv", "anytime.csv"):
        assert (folder / name).read_bytes() == (tmp_path / "fresh" / name).read_bytes()
