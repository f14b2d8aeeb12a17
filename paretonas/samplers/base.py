"""Samplers propose whole architectures and learn from what they cost: ask and tell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from paretonas.front import Front
from paretonas.objectives.base import Objective
from paretonas.point import FAILING, Failure, Point
from paretonas.problem import Problem
from paretonas.space import Architecture, encode, size

PATIENCE = 300  # proposals in a row that were all known, after which a sampler has converged


Outcome = Point | Failure
"""What an evaluation ends in."""
Maker = Callable[[Problem, int], "Sampler"]
"""Makes the sampler of a method from a problem and a seed."""


@runtime_checkable
class Sampler(Protocol):
    """Proposes architectures, is told what they cost, and proposes better ones.

    `ask` and `tell` take turns. A sampler is told the outcome of each architecture that it asked
    for, in that order, also of one that was evaluated before; the last time, when the budget ends,
    perhaps only of the first few. It may be told of architectures that it never asked for.
    """

    def ask(self) -> Sequence[Architecture]:
        """What to evaluate next; nothing if there is nothing left to propose."""
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What the evaluations found."""
        ...


@dataclass
class Ledger:
    """What a method was billed.

    Attributes:
        evaluations: architectures evaluated, failures included, each once.
        duplicates: proposals that were known already; they are free.
        failures: evaluations that found no objectives.
        thinking_seconds: spent by the method itself, in `ask` and `tell`.
        evaluation_seconds: spent on evaluations.
    """

    evaluations: int = 0
    duplicates: int = 0
    failures: int = 0
    thinking_seconds: float = 0.0
    evaluation_seconds: float = 0.0


def sample(
    problem: Problem,
    sampler: Sampler,
    front: Front,
    *,
    budget: int,
    ledger: Ledger | None = None,
    known: Mapping[Architecture, Outcome] | None = None,
) -> Iterator[Outcome]:
    """Evaluate what a sampler asks for until the budget is spent, and fill the front.

    An evaluation that raises, or finds what is not finite, has failed: it is billed, told to the
    sampler as a `Failure`, and never enters the front. An architecture that was evaluated before
    is not evaluated again and costs nothing. Ends early if the sampler has nothing left to propose,
    or has proposed nothing new `PATIENCE` times in a row.

    Args:
        problem: the space that the sampler may pick from, and what to evaluate.
        sampler: proposes.
        front: gets every point.
        budget: how many architectures may be evaluated, each counted once.
        ledger: where the bill is written, if it is wanted.
        known: outcomes of an earlier, interrupted run. They are billed when the sampler comes to
            ask for them, but not evaluated anew: a sampler with the same seed goes on where that
            run stopped.

    Yields:
        Each new point or failure, in the order of evaluation.

    Raises:
        ValueError: a budget that is not positive or is larger than the space, objectives other than
            the front's, or an architecture that is none of the space.
        TypeError: a class in the place of a sampler, or one that asks for something else than
            architectures.
    """
    if isinstance(sampler, type):
        raise TypeError(
            f"sampler must be an object, got a class: write {sampler.__name__}(problem, seed=0)"
        )
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a Problem(space, objectives), got {problem!r}")
    if set(problem.columns) != set(front.objectives):
        raise ValueError(
            f"the front has {', '.join(front.objectives)}, "
            f"the objectives are {', '.join(problem.columns)}"
        )
    if not 1 <= budget <= size(problem.choices):
        raise ValueError(
            f"the budget must be from 1 to the {size(problem.choices)} architectures of the space, "
            f"got {budget}"
        )
    bill = ledger if ledger is not None else Ledger()
    before = known or {}
    seen: dict[Architecture, Outcome] = {}
    idle = 0
    while len(seen) < budget and idle < PATIENCE:
        start = time.perf_counter()
        asked = list(sampler.ask())
        bill.thinking_seconds += time.perf_counter() - start
        if not asked:
            return
        outcomes: list[Outcome] = []
        for architecture in asked:
            if not isinstance(architecture, Architecture):
                raise TypeError(
                    f"a sampler asks for Architecture(...), got {type(architecture).__name__}"
                )
            if architecture in seen:
                bill.duplicates += 1
                idle += 1
                outcomes.append(seen[architecture])
                continue
            if len(seen) == budget:
                break
            encode(problem.choices, architecture)
            start = time.perf_counter()
            outcome = before.get(architecture) or evaluate(architecture, problem.objectives)
            bill.evaluation_seconds += time.perf_counter() - start
            seen[architecture] = outcome
            outcomes.append(outcome)
            idle = 0
            bill.evaluations += 1
            if isinstance(outcome, Failure):
                bill.failures += 1
            else:
                front.add(outcome)
            yield outcome
        start = time.perf_counter()
        sampler.tell(outcomes)
        bill.thinking_seconds += time.perf_counter() - start


def evaluate(architecture: Architecture, objectives: Sequence[Objective]) -> Outcome:
    """The point of an architecture, or the failure that its evaluation ended in."""
    values: dict[str, float] = {}
    for objective in objectives:
        try:
            value = float(objective.exact(architecture))
        except FAILING as error:  # whatever goes wrong in there, the search goes on
            return Failure.of(architecture, error)
        if not math.isfinite(value):
            return Failure(architecture, f"{objective.column} is {value}")
        values[objective.column] = value
    return Point(architecture, values)
