"""Evolutionary algorithms of pymoo as samplers."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.core.algorithm import Algorithm
from pymoo.core.individual import Individual
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem as PymooProblem
from pymoo.operators.crossover.ux import UniformCrossover
from pymoo.operators.sampling.rnd import IntegerRandomSampling
from pymoo.util.ref_dirs import get_reference_directions

from paretonas.point import Outcome, Point
from paretonas.problem import Problem
from paretonas.space import Architecture, decode

__all__ = ["Pymoo", "agemoea2", "nsga2", "nsga2_steady", "nsga3", "operators", "smsemoa"]

LOST = 1e30  # the costs of a failure, told to an algorithm that knows no constraints


class Pymoo:
    """Let any algorithm of pymoo search: it proposes generations and is told their costs.

    A pick is an integer, the index of its option; an algorithm that varies real numbers has them
    rounded. A failure is told as a violated constraint, with the worst costs seen so far, so that
    it survives only where there are too few successes to fill the population; an algorithm that
    takes no constraints is told costs of 1e30. Each limit of the problem is a constraint of pymoo:
    what is exceeded, as a part of the limit, so that all count alike. The algorithm then prefers
    the feasible, and of others the one with the smaller sum; one that takes no constraints is told
    costs up to 1e30 where a limit is exceeded. A first generation without a success is drawn anew.
    The budget ends the run, not the algorithm's own termination. Outcomes that were not asked for
    are ignored: a population is made of its own children.

    Args:
        problem: what to search.
        algorithm: with its own operators, which is copied, not changed; see `operators`.
        seed: of its random numbers.

    Raises:
        TypeError: no algorithm of pymoo.

    References:
        Blank and Deb, "pymoo: multi-objective optimization in Python" (2020), arXiv 2002.04504.
        Deb, "An efficient constraint handling method for genetic algorithms" (2000).
    """

    def __init__(self, problem: Problem, algorithm: Algorithm, *, seed: int = 0) -> None:
        if not isinstance(algorithm, Algorithm):
            raise TypeError(f"needs an algorithm of pymoo, got {type(algorithm).__name__}")
        self._problem = problem
        self._highest = np.array([len(choice.options) - 1 for choice in problem.choices])
        self._generation: Any = None  # as pymoo gave it: a population, an individual, or nothing
        self._members: list[tuple[Architecture, Individual]] = []
        self._found: dict[Architecture, Outcome] = {}
        self._worst = np.full(len(problem.columns), -np.inf)
        self._failures = 0
        try:
            limits = len(problem.constraint.limits)
            self._algorithm = self._set_up(algorithm, seed, constraints=limits + 1)
        except AssertionError:  # pymoo's way to say that it takes no constraints
            self._algorithm = self._set_up(algorithm, seed, constraints=0)
        self._constrained = bool(self._algorithm.problem.has_constraints())

    def __repr__(self) -> str:
        return f"Pymoo({self._problem}, {type(self._algorithm).__name__})"

    def ask(self) -> list[Architecture]:
        """The next generation, or what is missing of this one; nothing if there is nothing new."""
        if not self._missing():
            with quiet():
                self._generation = self._algorithm.ask()
            self._members = [self._decoded(individual) for individual in self._individuals()]
            self._found = {}
        return self._missing()

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What the generation costs; the algorithm goes on once all of it is known."""
        self._found.update({outcome.architecture: outcome for outcome in outcomes})
        if self._missing() or not self._members:
            return
        told = [(self._found[architecture], i) for architecture, i in self._members]
        points = [outcome for outcome, _ in told if isinstance(outcome, Point)]
        if points:
            costs = self._problem.costs([point.objectives for point in points])
            self._worst = np.maximum(self._worst, costs.max(axis=0))
        self._members = []
        if not np.isfinite(self._worst).all():
            return
        for outcome, individual in told:
            self._judge(individual, outcome)
        with quiet():
            self._algorithm.tell(infills=self._generation)

    def _individuals(self) -> list[Individual]:
        if self._generation is None:
            return []
        alone = isinstance(self._generation, Individual)
        return [self._generation] if alone else list(self._generation)

    def _decoded(self, individual: Individual) -> tuple[Architecture, Individual]:
        individual.X = np.clip(np.rint(individual.X), 0, self._highest).astype(int)
        return decode(self._problem.choices, individual.X.tolist()), individual

    def _missing(self) -> list[Architecture]:
        return [
            architecture for architecture, _ in self._members if architecture not in self._found
        ]

    def _judge(self, individual: Individual, outcome: Outcome) -> None:
        limits, worst = self._problem.constraint.limits, self._worst
        if isinstance(outcome, Point):
            excess, failure = [*self._problem.excess(outcome).values()], 0.0
            individual.F = self._problem.costs([outcome.objectives])[0]
            if not self._constrained and (violation := self._problem.violation(outcome)):
                individual.F = np.full_like(worst, LOST * violation / (1 + violation))
        else:
            # No two failures alike: on ties NSGA-III draws from a generator that has no seed.
            self._failures += 1
            excess, failure = [0.0] * len(limits), 1.0 / self._failures
            if limits:  # worse than what exceeds a limit
                failure = LOST * (1 + failure)
            individual.F = worst.copy() if self._constrained else np.full_like(worst, LOST)
        individual.G = np.array([*excess, failure] if self._constrained else [])

    def _set_up(self, algorithm: Algorithm, seed: int, constraints: int) -> Algorithm:
        pymoo_problem = PymooProblem(
            n_var=len(self._highest),
            n_obj=len(self._worst),
            n_ieq_constr=constraints,
            xl=np.zeros_like(self._highest),
            xu=self._highest,
            vtype=int,
        )
        ready = copy.deepcopy(algorithm)
        # RVEA paces itself by a number of generations that it was given; all others go on.
        if not hasattr(ready.termination, "n_max_gen") and not hasattr(
            ready.termination, "n_max_evals"
        ):
            ready.termination = ("n_gen", math.inf)
        with quiet():
            return ready.setup(pymoo_problem, seed=seed)


def nsga2(problem: Problem, *, seed: int = 0, population: int = 20) -> Pymoo:
    """NSGA-II: survival by rank of dominance, then by distance to the neighbors.

    References:
        Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II" (2002).
    """
    return Pymoo(problem, NSGA2(pop_size=population, **operators()), seed=seed)


def nsga2_steady(problem: Problem, *, seed: int = 0, population: int = 20) -> Pymoo:
    """NSGA-II in a steady state: one child at a time, which may be a parent of the next.

    References:
        Durillo, Nebro, Luna and Alba, "On the effect of the steady-state selection scheme in
        multi-objective genetic algorithms" (2009).
    """
    algorithm = NSGA2(pop_size=population, n_offsprings=1, **operators())
    return Pymoo(problem, algorithm, seed=seed)


def nsga3(problem: Problem, *, seed: int = 0, population: int = 20) -> Pymoo:
    """NSGA-III: survival by closeness to reference directions, spread evenly.

    References:
        Deb and Jain, "An evolutionary many-objective optimization algorithm using
        reference-point-based nondominated sorting approach" (2014).
    """
    directions = reference_directions(len(problem.columns), population)
    algorithm = NSGA3(ref_dirs=directions, pop_size=max(population, len(directions)), **operators())
    return Pymoo(problem, algorithm, seed=seed)


def smsemoa(problem: Problem, *, seed: int = 0, population: int = 20) -> Pymoo:
    """SMS-EMOA: survival by the hypervolume that only this one adds.

    References:
        Beume, Naujoks and Emmerich, "SMS-EMOA: multiobjective selection based on dominated
        hypervolume" (2007).
    """
    return Pymoo(problem, SMSEMOA(pop_size=population, n_offsprings=1, **operators()), seed=seed)


def agemoea2(problem: Problem, *, seed: int = 0, population: int = 20) -> Pymoo:
    """AGE-MOEA-II: survival by distances along the front, whose curvature it estimates.

    Raises:
        ModuleNotFoundError: numba, which pymoo compiles it with, is not installed.

    References:
        Panichella, "An improved Pareto front modeling algorithm for large-scale many-objective
        optimization" (2022).
    """
    if find_spec("numba") is None:
        raise ModuleNotFoundError("AGE-MOEA-II needs numba: pip install numba", name="numba")
    from paretonas.samplers._age import algorithm

    return Pymoo(problem, algorithm(pop_size=population, **operators()), seed=seed)


def operators() -> dict[str, Any]:
    """Operators that suit picks, as keyword arguments for any genetic algorithm of pymoo.

    The options of a choice have no order, so a crossover takes each pick from either parent, and a
    mutation replaces about one pick by another one.
    """
    return {
        "sampling": IntegerRandomSampling(),
        "crossover": UniformCrossover(),
        "mutation": Replace(),
        "eliminate_duplicates": True,
    }


class Replace(Mutation):  # type: ignore[misc]
    """Replace each pick, with probability 1/c of c choices, by one of the other options."""

    def _do(
        self, problem: PymooProblem, picks: NDArray[np.int64], *, random_state: Any, **_: Any
    ) -> NDArray[np.int64]:
        options = (problem.xu - problem.xl + 1).astype(int)
        steps = random_state.integers(1, options, size=picks.shape)
        chosen = random_state.random(picks.shape) < self.get_prob_var(problem)
        return np.where(chosen, (picks + steps) % options, picks)


def reference_directions(objectives: int, most: int) -> Any:
    """(d, m) as many evenly spread directions as fit into so many, but one per objective at least.

    References:
        Das and Dennis, "Normal-boundary intersection" (1998): a grid on the simplex.
    """
    steps = 1
    while objectives > 1 and math.comb(objectives + steps, objectives - 1) <= most:
        steps += 1
    return get_reference_directions("das-dennis", objectives, n_partitions=steps)


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings: pymoo divides by a front's extent, which may be 0, and alters their filters."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
