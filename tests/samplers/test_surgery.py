"""The surgery sampler: what it finds, and what it never does."""

import itertools
import random

import moocore
import numpy as np
import pytest
import torch

from paretonas.cell import EdgeCell
from paretonas.front import Front
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.samplers import Failure, sample
from paretonas.samplers.random import Random
from paretonas.samplers.ridge import Ridge
from paretonas.samplers.surgery import Surgery
from paretonas.solvers import MGDA, SmoothTchebycheff
from paretonas.space import Choice, decode, every
from paretonas.table import Table

OPTIONS = ("conv", "none", "pool", "skip")
CELL = tuple(Choice(f"op_{edge}", OPTIONS) for edge in ("0_1", "0_2", "1_2", "1_3", "2_3"))
STRUCTURE = EdgeCell.infer(CELL)
PLAIN = (Choice("width", ("8", "16", "32")), Choice("act", ("relu", "gelu")), Choice("norm", "abc"))


def smooth(picks, noise=0.0):
    """Costs that depend on what the picks are, a little on their neighbors, and on luck."""
    luck = random.Random(str(picks)).gauss(0, noise) if noise else 0.0
    return sum((i + 1) * p for i, p in enumerate(picks)) + 0.5 * picks[0] * picks[-1] + luck


def table(cost, choices=CELL, columns=("error", "ms"), structure=STRUCTURE):
    rows = list(every(choices))
    picks = list(itertools.product(*(range(len(c.options)) for c in choices)))
    costs = np.array([cost(p) for p in picks], dtype=float)
    return Table("made", choices, columns, tuple(rows), costs, np.isfinite(costs).all(1), structure)


def conflict(picks):
    """An error of what the cell computes, the time of all that is picked."""
    name = STRUCTURE.canonical(decode(CELL, picks))
    if not name:
        return np.nan, np.nan
    good = name.count("conv") + 0.4 * name.count("pool")
    return 60 * np.exp(-0.5 * good), sum((3.0, 0.1, 1.0, 0.3)[p] for p in picks)


def run(space, sampler, budget):
    front = Front(space.columns)
    return list(sample(Problem(space), sampler, front, budget=budget)), front


def fraction(space, front, log=()):
    costs = space.costs[space.allowed]
    reference = costs.max(0)
    return front.hypervolume(reference.tolist()) / moocore.hypervolume(costs, ref=reference)


@pytest.fixture(scope="module")
def made():
    return table(conflict)


def test_it_is_far_ahead_of_random_and_of_ridge(made):
    problem = Problem(made)
    own, ridge = (
        [fraction(made, run(made, kind(problem, seed=seed), 24)[1]) for seed in range(3)]
        for kind in (Surgery, Ridge)
    )
    chance = [fraction(made, run(made, _random(problem, seed), 24)[1]) for seed in range(10)]
    assert np.mean(own) > 0.95 and min(own) > np.mean(chance) and np.mean(own) > np.mean(ridge)


def _random(problem, seed):
    from paretonas.samplers.random import Random

    return Random(problem, seed=seed)


def test_it_asks_for_nothing_twice_and_for_nothing_dead(made):
    outcomes, _ = run(made, Surgery(Problem(made), seed=1), 28)
    names = [STRUCTURE.canonical(outcome.architecture) for outcome in outcomes]
    assert len({outcome.architecture for outcome in outcomes}) == 28
    assert all(names)


def test_once_equal_functions_cost_the_same_it_asks_for_no_more_of_them():
    by_function = {}

    def cost(picks):
        name = STRUCTURE.canonical(decode(CELL, picks))
        first = by_function.setdefault(name, picks)
        return conflict(first)

    space = table(cost)
    outcomes, _ = run(space, Surgery(Problem(space), seed=0), 28)
    names = [STRUCTURE.canonical(outcome.architecture) for outcome in outcomes]
    assert len(names) - len(set(names)) <= 1


def test_it_learns_where_evaluations_fail():
    def cost(picks):
        return (np.nan, np.nan) if picks[0] == 0 else conflict(picks)

    space = table(cost)
    outcomes, _ = run(space, Surgery(Problem(space), seed=0), 40)
    failed = [isinstance(outcome, Failure) for outcome in outcomes]
    assert sum(failed[20:]) <= 4


def test_it_exhausts_a_small_space_and_then_asks_for_nothing():
    space = table(lambda p: (p[0] - p[1], p[1] + p[2]), PLAIN, structure=None)
    sampler = Surgery(Problem(space), seed=0)
    outcomes, front = run(space, sampler, 18)
    assert len({outcome.architecture for outcome in outcomes}) == 18
    assert fraction(space, front) == pytest.approx(1)
    assert list(sampler.ask()) == []


def test_it_takes_three_objectives_logarithms_batches_and_any_solver():
    space = table(lambda p: (*conflict(p), 1.0 + smooth(p)), columns=("error", "ms", "params"))
    problem = Problem(space, log=("ms", "params"))
    for solver in (MGDA(), SmoothTchebycheff()):
        sampler = Surgery(problem, seed=0, solver=solver, batch=3)
        outcomes, _ = run(space, sampler, 14)
        assert len(outcomes) == 14
        asked = sampler.ask()
        assert len(asked) == len(set(asked)) == 3


@pytest.mark.deep
def test_with_many_objectives_it_is_ahead_of_random():
    """Each objective wants another option in each choice; the choices are 3^6."""
    choices = tuple(Choice(f"c{i}", "abc") for i in range(6))
    weights = np.random.default_rng(0).random((6, 6, 3))

    def costs(picks):
        return tuple(weights[j, range(6), list(picks)].sum() for j in range(6))

    many = table(costs, choices, tuple(f"cost_{j}" for j in range(6)), None)
    budget, found = 40, {}
    for name, sampler in (("surgery", Surgery), ("random", Random)):
        found[name] = np.mean(
            [fraction(many, run(many, sampler(Problem(many), seed=s), budget)[1]) for s in (0, 1)]
        )
    assert found["surgery"] > 1.05 * found["random"]


def test_a_free_objective_is_looked_up(made):
    asked = []

    class Watched:
        column = "ms"

        def exact(self, architecture):
            asked.append(architecture)
            return made.objectives[1].exact(architecture)

    problem = Problem(made, (made.objectives[0], Watched()), free=("ms",))
    _, front = run(made, Surgery(problem, seed=0), 20)
    assert len(asked) > 100 and fraction(made, front) > 0.95


def test_a_free_objective_is_differentiated_in_double_precision(made):
    seen = []

    class Dear:
        name, unit, column = "dear", "ms", "ms"

        def exact(self, architecture):
            return 1e60 * made.objectives[1].exact(architecture)

        def relaxed(self, probabilities):
            seen.append(probabilities.dtype)
            return 1e60 * probabilities.sum(-1)

    problem = Problem(made, (made.objectives[0], Dear()), free=("ms",))
    outcomes, _ = run(made, Surgery(problem, seed=0), 12)
    assert len(outcomes) == 12
    assert set(seen) == {torch.float64}


@pytest.mark.parametrize("log", [(), ("rate",)])
def test_a_free_objective_may_be_maximized(made, log):
    """As its negative minimized; also where the gradient goes through a logarithm."""

    class Rate:
        name, unit, column = "rate", "", "rate"

        def __init__(self, maximize):
            self.maximize = maximize

        def exact(self, architecture):
            return -30.0 + made.objectives[1].exact(architecture)

        def relaxed(self, probabilities):
            return -30.0 + probabilities[..., ::4].sum(-1)

    runs = []
    for maximize in (True, False):
        problem = Problem(made, (made.objectives[0], Rate(maximize)), log=log, free=("rate",))
        front = Front(problem.columns, problem.maximize)
        runs.append([*sample(problem, Surgery(problem, seed=0), front, budget=14)])
    assert [o.architecture for o in runs[0]] == [o.architecture for o in runs[1]]
    pairs = [[o for o in one if isinstance(o, Point)] for one in runs]
    for up, down in zip(*pairs, strict=True):
        assert up.objectives["rate"] == -down.objectives["rate"] > 0


def test_the_same_seed_gives_the_same_run_and_another_seed_another(made):
    problem = Problem(made)
    runs = [run(made, Surgery(problem, seed=seed), 14)[0] for seed in (0, 0, 1)]
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    "settings, message", [({"first": 1}, "first must be"), ({"batch": 0}, "batch")]
)
def test_settings_that_cannot_be_are_refused(made, settings, message):
    with pytest.raises(ValueError, match=message):
        Surgery(Problem(made), **settings)


def test_on_a_real_table_it_keeps_its_promise(shared_data):
    space = Table.read(
        shared_data / "nb201.parquet",
        [f"op_{a}_{b}" for b in range(1, 4) for a in range(b)],
        ["cifar10_valid_error_200ep", "latency_edgegpu_ms"],
        where="connected",
    )
    front = run(space, Surgery(Problem(space), seed=0), 30)[1]
    low, high = (f(space.costs[space.allowed], axis=0) for f in (np.min, np.max))
    true = moocore.hypervolume((space.costs[space.allowed] - low) / (high - low), ref=[1, 1])
    points = np.array([[p.objectives[c] for c in space.columns] for p in front])
    found = moocore.hypervolume((points - low) / (high - low), ref=[1, 1])
    assert found / true > 0.96
