"""The baselines of the gradient search: NSGA-II and random search over a table of costs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.operators.crossover.sbx import SBX
from pymoo.operators.mutation.pm import PM
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from truth import Array, Tabulated, Truth

from paretonas.front import Front
from paretonas.problem import Problem
from paretonas.samplers import sample
from paretonas.samplers.pymoo import Pymoo, operators


def random_order(truth: Truth, seed: int) -> Iterator[int]:
    """All architectures, none twice."""
    rows = list(range(len(truth.picks)))
    Random(seed).shuffle(rows)
    yield from rows


def nsga2_order(truth: Truth, errors: Array, seed: int, algorithm: NSGA2) -> Iterator[int]:
    """The architectures in the order in which NSGA-II evaluates them, none twice.

    Ends where NSGA-II has converged, as `paretonas.samplers.sample` has it.

    Args:
        truth: the space and its costs.
        errors: (N,) what an evaluation finds.
        seed: of its random numbers.
        algorithm: `by_pick` or `by_number`.

    References:
        Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II" (IEEE
        Trans. Evol. Comput. 6).
    """
    objectives = (Tabulated(truth, errors, "error", "percent"), *truth.objectives())
    problem = Problem(truth.space, objectives)
    sampler, front = Pymoo(problem, algorithm, seed=seed), Front(problem.columns)
    for outcome in sample(problem, sampler, front, budget=len(truth.picks)):
        yield truth.row(outcome.architecture)


def by_pick(population: int) -> NSGA2:
    """NSGA-II as `paretonas compare` has it, to which one option is as far as another."""
    return NSGA2(pop_size=population, **operators())


def by_number(population: int) -> NSGA2:
    """NSGA-II on the numbers of options, as pymoo's documentation has it for integers.

    Simulated binary crossover and polynomial mutation, rounded: options that are listed next to
    each other count as alike, which those of these spaces are.
    """
    return NSGA2(
        pop_size=population,
        sampling=IntegerRandomSampling(),
        crossover=SBX(repair=RoundingRepair()),
        mutation=PM(repair=RoundingRepair()),
        eliminate_duplicates=True,
    )
