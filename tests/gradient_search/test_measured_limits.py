"""Limits on what is measured: what a search returns holds when it is measured."""

import itertools
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paretonas.constraint import Constraint
from paretonas.front import Front
from paretonas.gradient_search import Plan, halving
from paretonas.gradient_search.measured_limits import Correction, MeasuredLimits, unmet, verdict
from paretonas.gradient_search.sampler import OneShotSearch
from paretonas.gradient_search.search import search
from paretonas.nn import Depth, Linear, NetworkSpace, OneOf, Width
from paretonas.objectives import Memory, Parameters, TrainedMetric
from paretonas.objectives.table_objective import TableObjective
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.runs import Run
from paretonas.samplers import sample
from paretonas.space import every
from paretonas.surrogates.feasible import Feasible
from paretonas.training import Recipe

# --- what is learned from measurements ------------------------------------------------------------

positive = st.floats(0.01, 1e4)
tables = st.lists(positive, min_size=4, max_size=12, unique=True).filter(
    lambda values: min(b / a for a, b in itertools.pairwise(sorted(values))) > 1.01
)


@given(tables, st.floats(0.1, 10), st.floats(0, 10), positive)
def test_a_factor_and_a_shift_are_found_and_a_limit_is_moved_by_them(table, factor, shift, limit):
    found = Correction.of(table, [factor * value + shift for value in table])
    by_table = found.by_table(limit, margins=1)
    if by_table > 1e-6 * limit:  # otherwise the shift alone is beyond the limit
        assert factor * by_table + shift == pytest.approx(limit, rel=1e-6)
    else:
        assert limit <= shift * (1 + 1e-5)
    assert found.margin < 1e-6


@given(positive, positive, positive, st.floats(0, 0.5))
def test_one_network_tells_a_factor_and_the_table_tells_the_margin(table, measured, limit, known):
    found = Correction.of([table], [measured], known)
    assert found.by_table(limit, margins=0) == pytest.approx(limit * table / measured)
    assert found.by_table(limit, margins=1) * (1 + known) == pytest.approx(limit * table / measured)


def test_nine_of_ten_further_networks_hold():
    """Over many tables with noise; at even odds without the margin."""
    rng, shares = np.random.default_rng(0), {1: [], 0: [], -1: []}
    for _ in range(300):
        table = rng.uniform(0.3, 2.0, 212)
        measured = 1.3 * table * np.exp(0.06 * rng.standard_normal(212))
        found = Correction.of(table[:12], measured[:12])
        for margins, share in shares.items():
            limits = [found.by_table(m, margins=margins) for m in 1.3 * table[12:]]
            share.append(np.mean(measured[12:] * np.array(limits) / table[12:] <= 1.3 * table[12:]))
    assert 0.85 < np.mean(shares[1]) < 0.97
    assert 0.4 < np.mean(shares[0]) < 0.6
    assert 0.0 < np.mean(shares[-1]) < 0.2


# --- a search -------------------------------------------------------------------------------------


class Net(nn.Module):
    """Eighteen sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 3, 4, 6, 8, 12)
        self.stem = Linear(2, self.width)
        self.act = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        layers = [nn.Sequential(Linear(self.width, self.width), nn.ReLU()) for _ in range(2)]
        self.deep = Depth(layers, at_least=0)
        self.head = Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.deep(self.act(self.stem(x))))


@dataclass(frozen=True)
class Off(TableObjective):
    """A table of parameters; what is measured is another number."""

    name: str = "latency"
    unit: str = "ms"
    factor: float = 2.5
    shift: float = 10.0

    def measure(self, network, example):
        return self.factor * size(network) + self.shift


@dataclass(frozen=True)
class Together(Off):
    """Measured together networks have other values, which count."""

    noisy = True

    def measure(self, network, example):
        return {"latency_ms": size(network), "latency_spread_ms": 20.0}

    def measure_all(self, networks, example, *, seconds):
        return [
            {"latency_ms": Off.measure(self, n, example), "latency_spread_ms": 1.0}
            for n in networks
        ]


class Weight:
    """Known of trained networks alone."""

    column = "weight"

    def measure(self, network, example):
        return 2.5 * size(network) + 10.0


def size(network):
    return float(sum(p.numel() for p in network.parameters()))


PLAN = Plan(supernet_steps=30, proxy_evaluations=8, finalists=8, recipe=Recipe(1, 30, 0.03))
LONGER = Plan(30, 8, 8, Recipe(2, 30, 0.03))
LIMIT = 80.0  # by table those of up to 80 parameters meet it, measured those of up to 28


@pytest.fixture(scope="module")
def sized(space):
    return NetworkSpace("sized", Net, space.task, Recipe(1, 30, 0.03))


@pytest.fixture(scope="module")
def count(sized):
    return Parameters.of(sized.supernet(), sized.load_task().example()).table


@pytest.fixture(autouse=True)
def one_worker(monkeypatch):
    monkeypatch.setattr("paretonas.gradient_search.settings.cores", lambda: 1)


def go(space, objectives, run=None, **more):
    given = {"constraint": f"latency<={LIMIT}", "budget": PLAN, "rays": 3, **more}
    return search(space, objectives=objectives, run=run, **given)


def begun(folder):
    return Run.create(folder, {}, device="cpu", seed=0)


def rows(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]


KINDS = {
    "a factor and a shift": (Off, {}),
    "measured together": (Together, {}),
    "a target": (Off, {"constraint": None, "target": f"latency={LIMIT}"}),
    "early stopping": (Off, {"early_stopping": "halving", "budget": LONGER}),
}


@dataclass
class Whole:
    """A search that was not disturbed, and what it had left after each step of the finalists."""

    steps: list
    run: Run
    objective: Off
    more: dict
    left: dict


@pytest.fixture(scope="module", params=KINDS)
def whole(request, sized, count, tmp_path_factory):
    kind, more = KINDS[request.param]
    folder = tmp_path_factory.mktemp("whole")
    run, more = begun(folder / "run"), {"budget": PLAN, **more}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paretonas.gradient_search.settings.cores", lambda: 1)
        if request.param == "early stopping":  # more is stopped
            patch.setattr(halving, "FEWEST", 2)
            patch.setattr(
                halving.Bar, "_gains_after", lambda self, rung, known: np.zeros((len(known), 1))
            )
        steps, left = [], {}
        for step in go(sized, [kind(count)], run, **more):
            steps.append(step)
            if step.phase == "finalists":
                left[len(steps)] = Path(shutil.copytree(run.folder, folder / f"{len(steps)}"))
        yield Whole(steps, run, kind(count), more, left)


def test_what_is_returned_holds_and_the_last_finalists_repair(whole, sized):
    run, last = whole.run, whole.steps[-1]
    points, front = run.evaluations(), Front(last.front.objectives)
    values = {}
    for point in points:
        values[point.architecture] = Off.measure(whole.objective, run.network(sized, point), None)
        assert point.objectives["latency_ms"] == values[point.architecture]
        if values[point.architecture] <= LIMIT:
            front.add(point)
    assert list(last.front) == list(front) == list(run.front())
    assert len(front)
    (measured,) = (n for n, step in enumerate(whole.steps, 1) if "as measured" in step.message)
    chosen_by_table = {
        outcome.architecture for outcome in Run.open(whole.left[measured]).outcomes()
    }
    assert any(values.get(a, 0) > LIMIT for a in chosen_by_table)
    repaired = {outcome.architecture for outcome in run.outcomes()} - chosen_by_table
    assert repaired
    assert all(values.get(a, 0) <= LIMIT for a in repaired)  # it has none if it was stopped early
    epochs = whole.more["budget"].recipe.epochs
    spent = epochs * len(points) + sum(stopped.epochs for stopped in run.stopped())
    assert spent <= epochs * PLAN.finalists
    assert bool(run.stopped()) == ("early_stopping" in whole.more)
    assert last.step <= last.steps
    told = run.about["limits"]
    assert told["asked"] == f"latency_ms<={LIMIT:g}"
    assert told["nearest"] is None


@pytest.mark.parametrize("each", [4, pytest.param(1, marks=pytest.mark.deep)])
def test_however_it_is_interrupted_it_ends_with_the_same(whole, sized, each):
    for place, folder in [*whole.left.items()][-2::-each]:
        again = Run.open(shutil.copytree(folder, folder.with_name(f"{place}-of-{each}")))
        list(go(sized, [whole.objective], again, **whole.more))
        assert again.evaluations() == whole.run.evaluations(), place
        assert list(again.front()) == list(whole.run.front()), place
        assert rows(again) == rows(whole.run), place
        assert again.about["limits"] == whole.run.about["limits"], place


@pytest.mark.parametrize("workers", [2, 3])
def test_with_several_workers_it_holds_too(sized, count, tmp_path, monkeypatch, workers):
    monkeypatch.setattr("paretonas.gradient_search.settings.cores", lambda: workers)
    run = begun(tmp_path / "run")
    *_, last = go(sized, [Off(count)], run)
    latencies = [point.objectives["latency_ms"] for point in run.evaluations()]
    assert len(latencies) <= PLAN.finalists
    assert len(last.front)
    assert all(value <= LIMIT for value in latencies[-2:])


def test_with_a_larger_budget_it_goes_on_and_holds(whole, sized, tmp_path):
    more = {**whole.more, "budget": Plan(45, 10, 12, whole.more["budget"].recipe)}
    run = Run.open(shutil.copytree(whole.run.folder, tmp_path / "run"))
    *_, last = go(sized, [whole.objective], run, **more)
    before, after = whole.run.outcomes(), run.outcomes()
    assert after[: len(before)] == before
    assert len(after) > len(before)
    assert all(point.objectives["latency_ms"] <= LIMIT for point in last.front)
    assert all(p.objectives["latency_ms"] <= LIMIT for p in after[-2:] if isinstance(p, Point))


def test_a_table_that_tells_what_is_measured_changes_nothing(sized, count):
    exact = [*go(sized, [Off(count, factor=1.0, shift=0.0)])]
    table = [*go(sized, [TableObjective(count, "latency", "ms")])]
    assert [s.objectives for s in exact] == [s.objectives for s in table]
    assert list(exact[-1].front) == list(table[-1].front)


def test_if_nothing_holds_the_nearest_is_found_and_named(sized, count, tmp_path):
    supernet = sized.supernet()
    least = min(size(supernet.extract(a)) for a in every(sized.choices))
    run, objective = begun(tmp_path / "run"), Off(count, factor=10.0)
    *_, last = go(sized, [objective], run, constraint=f"latency<={3 * least}")
    assert not len(last.front)
    points = run.evaluations()
    nearest = min(points, key=lambda point: point.objectives["latency_ms"])
    assert nearest.objectives["latency_ms"] == 10 * least + 10
    value = f"{10 * least + 10:.4g}"
    assert f"<= {3 * least:g}; the least is {value} ({nearest.id})" in last.message
    told = run.about["limits"]["nearest"]
    assert told == {"id": nearest.id, "latency_ms": 10 * least + 10}
    assert not len(run.front())


class Misled(Off):
    """By the table only the smallest meet a limit; measured, only others do."""

    def measure(self, network, example):
        return 100.0 if size(network) == 15 else size(network) / 2


def test_where_all_that_a_table_allows_is_beyond_the_nearest_others_are_tried(sized, count):
    *_, last = go(sized, [Misled(count)], constraint="latency<=16ms")
    assert len(last.front)
    assert all(point.objectives["latency_ms"] <= 16 for point in last.front)


def test_what_has_no_table_is_predicted_by_the_cost_that_goes_with_it(sized, count, tmp_path):
    run = begun(tmp_path / "run")
    example = sized.load_task().example()
    objectives = [Memory.of(sized.supernet(), example), Weight()]
    *_, last = go(sized, objectives, run, constraint=f"weight<={LIMIT}")
    weights = [point.objectives["weight"] for point in run.evaluations()]
    assert any(weight > LIMIT for weight in weights)
    assert all(weight <= LIMIT for weight in weights[-2:])
    assert len(last.front)


def test_as_a_method_of_a_comparison_it_repairs_too(sized, count):
    problem = Problem(sized, [TrainedMetric(sized), Off(count)], constraint=f"latency<={LIMIT}")
    sampler, front = OneShotSearch(problem), Front(problem.columns)
    outcomes = list(sample(problem, sampler, front, budget=12))
    latencies = [outcome.objectives["latency_ms"] for outcome in outcomes]
    assert len(latencies) + sampler.weight_evaluations <= 12
    assert any(latency > LIMIT for latency in latencies)
    assert all(latency <= LIMIT for latency in latencies[-2:])


# --- what is told ---------------------------------------------------------------------------------


def point(name, latency, spread=0.0, error=5.0):
    values = {"error_percent": error, "latency_ms": latency}
    return Point({"op": name}, values, {"latency_spread_ms": spread} if spread else {}, name)


def test_ties_and_the_nearest_are_told():
    limit = Constraint({"latency_ms": 2.0})
    points = [point("a", 1.5, 0.1), point("b", 1.95, 0.1), point("c", 2.05, 0.1), point("d", 3.0)]
    assert verdict(points, limit) == {"asked": "latency_ms<=2", "ties": ["b", "c"], "nearest": None}
    told = verdict(points[2:], limit)
    assert told["nearest"] == {"id": "c", "latency_ms": 2.05}
    text = "no trained network has latency_ms <= 2; the least is 2.05 (c, within its spread of the"
    assert unmet(points[2:], limit).startswith(text)
    assert unmet(points[3:], limit).endswith("the least is 3 (d)")
    both = Constraint({"latency_ms": 2.0, "error_percent": 1.0})
    assert verdict(points, both)["ties"] == []  # the error is clearly beyond


def test_a_tie_with_a_limit_is_named_at_the_end(sized, count, tmp_path):
    run, objective = begun(tmp_path / "run"), Together(count)
    *_, last = go(sized, [objective], run)
    values = sorted(point.objectives["latency_ms"] for point in last.front)
    run = begun(tmp_path / "at-the-limit")
    *_, last = go(sized, [objective], run, constraint=f"latency<={values[-1] + 0.5}")
    ties = [p.id for p in last.front if p.objectives["latency_ms"] > values[-1] - 0.5]
    assert ties
    assert re.search(rf"{', '.join(ties)} (is|are) within the spread of a limit", last.message)
    assert set(ties) <= set(run.about["limits"]["ties"])


def test_where_no_architecture_meets_other_limits_the_nearest_are_feasible(sized, count):
    cost = TableObjective(count, "latency", "ms")
    feasible = Feasible(sized.supernet(), [cost], Constraint({"latency_ms": LIMIT}), seed=0)
    least = min(cost.exact(a) for a in every(sized.choices))
    for limit in (least / 7, least, 50.0):
        found = feasible.within(Constraint({"latency_ms": limit}))
        for architecture in every(sized.choices):
            assert found(architecture) == (cost.exact(architecture) <= max(limit, least))
    assert all(feasible(a) == (cost.exact(a) <= LIMIT) for a in every(sized.choices))


def test_limits_on_what_is_maximized_or_only_in_a_table_keep_nothing(sized, count):
    class Gain(Weight):
        maximize = True

    limits = Constraint({"weight": 1.0, "latency_ms": 2.0}, frozenset({"weight"}))
    table = TableObjective(count, "latency", "ms")
    found = MeasuredLimits.of(limits, [Gain(), table], [table])
    assert (found.columns, found.kept(PLAN, 1, [])) == ((), 0)
    assert found.by_table([]) == limits
    assert math.isinf(Correction.of([1.0], [2.0]).error)
