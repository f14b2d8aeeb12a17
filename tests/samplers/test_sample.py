"""One bill for every method: what `sample` evaluates, counts, tells and refuses."""

import copy
import math

import pytest

from paretonas.front import Front
from paretonas.objectives import measured
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.samplers import base
from paretonas.samplers.base import Failure, Ledger, evaluate, sample
from paretonas.samplers.random import Random
from paretonas.space import Architecture, decode, every


class Script:
    """Asks for what it was given, and keeps what it was told."""

    def __init__(self, *batches):
        self.batches, self.told = list(batches), []

    def ask(self):
        return self.batches.pop(0) if self.batches else []

    def tell(self, outcomes):
        self.told.append(list(outcomes))


@pytest.fixture
def problem(problem_of, grid):
    return problem_of(grid(3, 3))


def at(problem, *picks):
    return decode(problem.choices, picks)


def run(problem, sampler, budget, **options):
    front, ledger = Front(problem.columns), Ledger()
    outcomes = list(sample(problem, sampler, front, budget=budget, ledger=ledger, **options))
    return outcomes, front, ledger


# --- the bill -----------------------------------------------------------------------------------


def test_outcomes_come_one_by_one_and_fill_the_front(problem):
    front = Front(problem.columns)
    running = sample(problem, Random(problem), front, budget=4)
    first = next(running)
    assert isinstance(first, Point) and first.architecture in front
    assert len(problem.objectives[0].asked) == 1
    assert len([first, *running]) == 4


@pytest.mark.parametrize("budget", [1, 3, 4, 9])
def test_the_budget_is_kept_also_within_a_batch(problem, budget):
    everything = [*every(problem.choices)]
    sampler = Script(everything[:3], everything[3:])
    outcomes, _, ledger = run(problem, sampler, budget)
    assert [o.architecture for o in outcomes] == everything[:budget]
    assert ledger.evaluations == budget == len(problem.objectives[0].asked)
    assert [o for told in sampler.told for o in told] == outcomes


def test_duplicates_are_free_told_again_and_counted(problem):
    a, b, c = at(problem, 0, 0), at(problem, 0, 1), at(problem, 0, 2)
    sampler = Script([a, b, a], [a], [c, b])
    outcomes, _, ledger = run(problem, sampler, 3)
    assert [o.architecture for o in outcomes] == [a, b, c]
    assert (ledger.evaluations, ledger.duplicates) == (3, 3)
    assert [[o.architecture for o in told] for told in sampler.told] == [[a, b, a], [a], [c, b]]
    assert sampler.told[0][0] is sampler.told[1][0]
    assert problem.objectives[0].asked == [a, b, c]


def test_failures_are_billed_told_and_kept_off_the_front(problem_of, grid):
    def second(picks):
        if picks[0] == 0:
            raise RuntimeError("the device is off")
        return {1: math.nan, 2: math.inf}.get(picks[1], 1.0)

    problem = problem_of(grid(2, 3), first=lambda p: 1.0, second=second)
    sampler = Script([*every(problem.choices)])
    outcomes, front, ledger = run(problem, sampler, 6)
    assert [type(o) for o in outcomes] == [Failure] * 3 + [Point] + [Failure] * 2
    assert [o.reason for o in outcomes if isinstance(o, Failure)] == [
        *["RuntimeError: the device is off"] * 3,
        "second is nan",
        "second is inf",
    ]
    assert (ledger.evaluations, ledger.failures) == (6, 5)
    assert [p.architecture for p in front] == [at(problem, 1, 0)]
    assert sampler.told == [outcomes]


def test_an_interrupt_is_no_failure(problem_of, grid):
    def stop(picks):
        raise KeyboardInterrupt

    problem = problem_of(grid(2, 2), a=stop, b=sum)
    with pytest.raises(KeyboardInterrupt):
        run(problem, Random(problem), 2)


def test_seconds_go_to_who_spent_them(problem_of, grid, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(base.time, "perf_counter", lambda: clock[0])

    def slow(picks):
        clock[0] += 10.0
        return 1.0

    problem = problem_of(grid(2, 2), a=slow, b=sum)

    class Thinker(Script):
        def ask(self):
            clock[0] += 1.0
            return super().ask()

        def tell(self, outcomes):
            clock[0] += 0.1
            super().tell(outcomes)

    everything = [*every(problem.choices)]
    ledger = run(problem, Thinker(everything[:2], everything[2:3]), 4)[2]
    assert ledger.evaluation_seconds == pytest.approx(30.0)
    assert ledger.thinking_seconds == pytest.approx(3 * 1.0 + 2 * 0.1)  # the last ask found nothing


# --- where it ends ------------------------------------------------------------------------------


def test_it_ends_when_nothing_is_proposed(problem):
    outcomes, _, _ = run(problem, Script([at(problem, 1, 1)], [], [at(problem, 2, 2)]), 9)
    assert len(outcomes) == 1


def test_it_ends_when_only_known_ones_are_proposed(problem, monkeypatch):
    monkeypatch.setattr(base, "PATIENCE", 5)
    a, b = at(problem, 0, 0), at(problem, 1, 0)
    outcomes, _, ledger = run(problem, Script([a], *[[a]] * 4, [b], *[[b]] * 50), 9)
    assert [o.architecture for o in outcomes] == [a, b]
    assert ledger.duplicates == 4 + 5


# --- an interrupted run -------------------------------------------------------------------------


@pytest.mark.parametrize("done", [0, 1, 4, 7])
def test_a_run_goes_on_from_what_is_known(problem_of, grid, done):
    def costly(picks):
        if picks == (1, 1):
            raise ValueError("broken")
        return float(picks[0])

    def fresh():
        return problem_of(grid(3, 3), a=costly, b=lambda p: -float(p[1]))

    whole, front, ledger = run(fresh(), Random(fresh(), seed=2), 7)
    problem = fresh()
    known = {o.architecture: o for o in copy.deepcopy(whole[:done])}
    again, front_again, ledger_again = run(problem, Random(problem, seed=2), 7, known=known)
    assert again == whole
    assert [*front] == [*front_again]
    assert ledger.evaluations == ledger_again.evaluations == 7
    assert ledger.failures == ledger_again.failures
    assert problem.objectives[0].asked == [o.architecture for o in whole[done:]]


def test_what_is_known_but_not_asked_for_is_not_billed(problem):
    known = {a: evaluate(a, problem.objectives) for a in every(problem.choices)}
    outcomes, _, ledger = run(problem, Script([at(problem, 2, 2)]), 3, known=known)
    assert outcomes == [known[at(problem, 2, 2)]]
    assert ledger.evaluations == 1


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [0, -1, 10])
def test_a_budget_outside_of_the_space_is_refused(problem, budget):
    with pytest.raises(ValueError, match=f"must be from 1 to the 9 architectures .* got {budget}"):
        run(problem, Random(problem), budget)


def test_a_front_of_other_objectives_is_refused(problem):
    with pytest.raises(ValueError, match="the front has up, other, the objectives are up, down"):
        list(sample(problem, Random(problem), Front(["up", "other"]), budget=1))


def test_an_architecture_of_another_space_is_refused(problem):
    with pytest.raises(ValueError, match="has no option 'o7'"):
        run(problem, Script([Architecture({"c0": "o7", "c1": "o0"})]), 2)


def test_a_class_in_the_place_of_a_sampler_is_refused(problem):
    with pytest.raises(TypeError, match=r"got a class: write Random\(problem, seed=0\)"):
        run(problem, Random, 2)


def test_what_is_no_architecture_is_refused(problem):
    with pytest.raises(TypeError, match=r"asks for Architecture\(\.\.\.\), got dict"):
        run(problem, Script([{"c0": "o1", "c1": "o0"}]), 2)


def test_a_task_refuses_objectives_that_are_missing_or_twice(problem):
    up, down = problem.objectives
    with pytest.raises(ValueError, match=r"at least one objective, each once, got \[\]"):
        Problem(problem.space, ())
    with pytest.raises(ValueError, match=r"each once, got \['up', 'up'\]"):
        Problem(problem.space, (up, up))
    with pytest.raises(ValueError, match="no objective is called 'dwon'; did you mean 'down'"):
        Problem(problem.space, (up, down), log=("dwon",))
    with pytest.raises(ValueError, match="no objective is called 'ups'; did you mean 'up'"):
        Problem(problem.space, (up, down), free=("ups",))


# --- costs --------------------------------------------------------------------------------------


def test_costs_are_in_the_order_of_columns_and_logarithms_where_wanted(problem_of, grid):
    problem = problem_of(grid(2, 2), a=sum, b=sum, log=("b",))
    costs = problem.costs([{"b": math.e, "a": 2.0}, {"a": -1.0, "b": 1.0}])
    assert costs.tolist() == [[2.0, 1.0], [-1.0, 0.0]]
    assert problem.costs([]).shape == (0, 2)


def test_a_gain_keeps_its_order_under_the_logarithm(problem_of, grid):
    """Whether it is maximized, or minimized as its negative."""
    problem = problem_of(grid(2, 2), gain=sum, log=("gain",))
    costs = problem.costs([{"gain": -4.0}, {"gain": -2.0}])[:, 0]
    assert costs.tolist() == pytest.approx([-math.log(4), -math.log(2)])
    (gain,) = measured(lambda picks: (len(picks),), ["gain"], maximize=["gain"])
    problem = Problem(problem.space, (gain,), log=("gain",))
    assert problem.maximize == ("gain",)
    assert problem.costs([{"gain": 4.0}, {"gain": 2.0}])[:, 0].tolist() == costs.tolist()


def test_a_front_of_another_direction_is_refused(problem_of, grid):
    (gain,) = measured(lambda picks: (len(picks),), ["gain"], maximize=["gain"])
    problem = Problem(problem_of(grid(2, 2), a=sum).space, (gain,))
    message = "maximizes nothing, the problem gain; use Front.*maximize=problem.maximize"
    with pytest.raises(ValueError, match=message):
        list(sample(problem, Random(problem), Front(problem.columns), budget=2))
    front = Front(problem.columns, problem.maximize)
    (point,) = sample(problem, Random(problem), front, budget=1)
    assert point.objectives == {"gain": 2.0}


@pytest.mark.parametrize("values", [(0.0, 1.0), (-1.0, 1.0)])
def test_a_logarithm_needs_one_sign(problem_of, grid, values):
    problem = problem_of(grid(2, 2), a=sum, log=("a",))
    low, high = values
    with pytest.raises(
        ValueError, match=f"positive throughout, but a goes from {low:g} to {high:g}"
    ):
        problem.costs([{"a": value} for value in values])
