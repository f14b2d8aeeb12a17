"""What every sampler promises, as a check that other people's samplers can run too."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from paretonas._promises import demand, naming
from paretonas.constraint import Constraint
from paretonas.front import Front
from paretonas.point import Failure, Outcome
from paretonas.problem import Problem
from paretonas.samplers.base import Maker, Sampler, evaluate, sample
from paretonas.space import Architecture, Choice, encode, size

__all__ = ["check_sampler"]

Cost = Callable[[int, tuple[int, ...]], float]  # of an objective's number and the picks


def check_sampler(make: Maker, *, budget: int = 33, objectives: Sequence[int] = (2, 3)) -> None:
    """Check that a sampler keeps its promises, on small problems made for it.

    The same seed gives the same run, also one that was interrupted, and whatever state the global
    random generators are in, which stay as they were. Only architectures of the space are proposed.
    Failures, ties, constant, logarithmic, limited and free objectives, a space that is exhausted, a
    partial last `tell` and outcomes that nobody asked for are coped with. With equal costs the run
    is the same, whether an objective is minimized or maximized.

    Args:
        make: the sampler for a problem and a seed.
        budget: evaluations of each run.
        objectives: the numbers of objectives that the sampler takes.

    Raises:
        AssertionError: a promise is broken; the message says which.

    >>> from paretonas.samplers.random import Random
    >>> check_sampler(lambda problem, seed: Random(problem, seed=seed))
    """
    for count in objectives:
        check = _Check(make, budget, count)
        check.is_repeatable()
        check.goes_on_where_it_stopped()
        check.leaves_global_generators_alone()
        check.copes_with_told_parts()
        check.does_not_mind_the_direction()
        for cost in (_none_succeeds, _one_succeeds, _half_fails, _ties, _constant):
            check.run(cost)
        check.run(_smooth, log=[f"cost_{index}" for index in range(count)])
        check.run(_smooth, free=["cost_0"])
        check.run(_smooth, constraint="cost_0<=3")
        check.run(_smooth, constraint="cost_0<=0", free=["cost_0"])  # nothing is feasible
        check.run(_smooth, choices=SMALL)


@dataclass(frozen=True)
class _Check:
    make: Maker
    budget: int
    objectives: int

    def is_repeatable(self) -> None:
        first = self.run(_smooth)
        self.demand(first == self.run(_smooth), "two runs of one seed differ")
        enough = 2 * len(first) >= self.budget
        self.demand(enough, f"ends after {len(first)} of {self.budget} evaluations")

    def goes_on_where_it_stopped(self) -> None:
        whole = self.run(_half_fails)
        known = {outcome.architecture: outcome for outcome in whole[: len(whole) // 2]}
        again = self.run(_half_fails, known=known)
        self.demand(whole == again, "a run that goes on differs from one in a single piece")

    def leaves_global_generators_alone(self) -> None:
        kept = random.getstate(), np.random.get_state(), torch.random.get_rng_state()
        expected = self.run(_smooth)
        try:
            untouched = _drawn_after(lambda: None)
            got: list[Outcome] = []
            touched = _drawn_after(lambda: got.extend(self.run(_smooth)))
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
            torch.random.set_rng_state(kept[2])
        self.demand(got == expected, "the run depends on a global random generator")
        self.demand(touched == untouched, "the run uses a global random generator")

    def does_not_mind_the_direction(self) -> None:
        same = [o.architecture for o in self.run(_half_fails)]
        found = [o.architecture for o in self.run(_half_fails, maximize=["cost_0"])]
        told = "proposes others if an objective is maximized; learn from problem.costs(...)"
        self.demand(found == same, told)

    def copes_with_told_parts(self) -> None:
        problem = _problem(LARGE, _smooth, self.objectives)
        with self.naming("told of what it never asked for, and of a part of what it did"):
            sampler = self.make(problem, 0)
            others = [
                Architecture({choice.name: choice.options[pick] for choice in LARGE})
                for pick in (0, 1)
            ]
            sampler.tell([evaluate(others[0], problem.objectives)])
            sampler.tell([Failure(others[1], "nobody asked")])
            for _ in range(2):
                asked = list(sampler.ask())
                outcomes = [evaluate(architecture, problem.objectives) for architecture in asked]
                sampler.tell(outcomes[: (len(asked) + 1) // 2])

    def run(
        self,
        cost: Cost,
        *,
        choices: tuple[Choice, ...] | None = None,
        log: Sequence[str] = (),
        free: Sequence[str] = (),
        maximize: Sequence[str] = (),
        constraint: str | None = None,
        known: Mapping[Architecture, Outcome] | None = None,
    ) -> list[Outcome]:
        choices = choices or LARGE
        problem = _problem(choices, cost, self.objectives, log, free, maximize, constraint)
        with self.naming(f"{cost.__name__[1:]}, {size(choices)} architectures"):
            asking = _Asking(self.make(problem, 0), choices, asks=10 * self.budget)
            budget = min(self.budget, size(choices))
            front = Front(problem.columns, problem.maximize)
            outcomes = list(sample(problem, asking, front, budget=budget, known=known))
        self.demand(bool(outcomes), f"{cost.__name__[1:]}: proposes nothing")
        return outcomes

    def demand(self, kept: bool, otherwise: str) -> None:
        demand(kept, f"{self.objectives} objectives: {otherwise}")

    def naming(self, what: str) -> AbstractContextManager[None]:
        return naming(f"{self.objectives} objectives, {what}")


def _drawn_after(action: Callable[[], None]) -> tuple[float, float, float]:
    """What the global generators draw after it; the same three numbers if it leaves them alone."""
    random.seed(7)
    np.random.seed(7)
    torch.manual_seed(7)
    action()
    return random.random(), float(np.random.random()), float(torch.rand(()))


@dataclass
class _Asking:
    """Watches a sampler, and stops one that makes no progress."""

    sampler: Sampler
    choices: tuple[Choice, ...]
    asks: int

    def ask(self) -> Sequence[Architecture]:
        self.asks -= 1
        asked = list(self.sampler.ask()) if self.asks >= 0 else []
        for architecture in asked:
            encode(self.choices, architecture)
        return asked

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        self.sampler.tell(outcomes)


# --- problems ----------------------------------------------------------------------------------

LARGE = tuple(Choice(name, ("p", "q", "r", "s")[: 2 + i % 3]) for i, name in enumerate("abcdef"))
SMALL = LARGE[:1] + tuple(Choice(name, ("p", "q", "r")) for name in "bc")


@dataclass(frozen=True)
class _Space:
    choices: tuple[Choice, ...]
    name: str = "conformance"


@dataclass(frozen=True)
class _Objective:
    index: int
    cost: Cost
    choices: tuple[Choice, ...]
    maximize: bool = False  # the same costs, shown as their negatives

    @property
    def column(self) -> str:
        return f"cost_{self.index}"

    def exact(self, architecture: Mapping[str, str]) -> float:
        return self.cost(self.index, encode(self.choices, architecture))


def _problem(
    choices: tuple[Choice, ...],
    cost: Cost,
    objectives: int,
    log: Sequence[str] = (),
    free: Sequence[str] = (),
    maximize: Sequence[str] = (),
    constraint: str | None = None,
) -> Problem:
    costs = tuple(
        _Objective(index, cost, choices, f"cost_{index}" in maximize) for index in range(objectives)
    )
    limits = None if constraint is None else Constraint.parse(constraint, [c.column for c in costs])
    return Problem(_Space(choices), costs, tuple(log), tuple(free), limits or Constraint({}))


def _smooth(index: int, picks: tuple[int, ...]) -> float:
    """Each objective has its own best pick in each choice, and neighboring choices interact."""
    alone = sum((pick - (index + place) % 3) ** 2 for place, pick in enumerate(picks))
    return 1.0 + alone + 0.3 * sum(a * b for a, b in pairwise(picks))


def _none_succeeds(index: int, picks: tuple[int, ...]) -> float:
    raise ValueError("nothing works")


def _one_succeeds(index: int, picks: tuple[int, ...]) -> float:
    if any(picks[1:]):
        raise RuntimeError("broken")
    return float(index + picks[0])


def _half_fails(index: int, picks: tuple[int, ...]) -> float:
    """Half of the architectures crash; of the others a few find what is no number."""
    if sum(picks) % 2:
        raise RuntimeError("broken")
    return math.nan if picks[0] and picks[-1] else _smooth(index, picks)


def _ties(index: int, picks: tuple[int, ...]) -> float:
    return float(picks[index % len(picks)])


def _constant(index: int, picks: tuple[int, ...]) -> float:
    return 2.0
