"""Samplers propose whole architectures and learn from what they cost: ask and tell."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.cell import Structure
from paretonas.front import Front
from paretonas.objectives.base import Exact
from paretonas.point import FAILING, Failure, Point
from paretonas.space import Architecture, Choice, SearchSpace, encode, nearest, size

PATIENCE = 300  # proposals in a row that were all known, after which a sampler has converged


Outcome = Point | Failure
"""What an evaluation ends in."""


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


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """What a sampler is to search.

    Attributes:
        space: its choices, and its ``structure`` if it knows one.
        objectives: the costs, each with a column and an exact value for each architecture.
        log: columns that count by their ratios: half is as good a step from 10 as from 1.
        free: columns that cost no evaluation: a sampler may ask the objective itself.

    Raises:
        ValueError: no objective, one named twice, or a column that is no objective's.
    """

    space: SearchSpace
    objectives: tuple[Exact, ...]
    log: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("objectives", "log", "free"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.objectives or len(set(self.columns)) != len(self.columns):
            raise ValueError(
                f"a task needs at least one objective, each once, got {list(self.columns)}"
            )
        for column in (*self.log, *self.free):
            if column not in self.columns:
                raise ValueError(
                    f"no objective is called {column!r}{nearest(column, self.columns)}"
                )

    def __repr__(self) -> str:
        return f"Task({self.space.name!r}: {', '.join(self.columns)})"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The decisions of the space."""
        return self.space.choices

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the objectives, in order."""
        return tuple(objective.column for objective in self.objectives)

    @property
    def structure(self) -> Structure | None:
        """How the choices are wired, if the space knows."""
        return getattr(self.space, "structure", None)

    def costs(self, points: Sequence[Mapping[str, float]]) -> Float[NDArray[np.float64], "k m"]:
        """Objective values by column as a matrix, logarithms taken of the columns in `log`.

        Raises:
            ValueError: a logarithm is asked of 0.
        """
        table = np.array([[float(point[c]) for c in self.columns] for point in points])
        table = table.reshape(len(points), len(self.columns))
        for index, objective in enumerate(self.objectives):
            if objective.column in self.log:
                gain = getattr(objective, "gain", None)
                table[:, index] = logarithm(table[:, index], objective.column, gain)
        return table


def logarithm(
    values: NDArray[np.float64], column: str, gain: str | None = None
) -> NDArray[np.float64]:
    """Of positive costs their logarithm; of negated gains -log(gain), so that less stays better.

    Args:
        values: the costs.
        column: what they are called.
        gain: what the user calls it where the costs are a gain negated.

    Raises:
        ValueError: a value of 0, or values of both signs.
    """
    if (values > 0).all():
        return np.log(values)
    if (values < 0).all():
        return -np.log(-values)
    low, high = values.min(), values.max()
    low, high = (low, high) if gain is None else (0.0 - high, 0.0 - low)
    raise ValueError(
        f"a logarithmic objective is positive throughout, but {gain or column} goes from "
        f"{low:g} to {high:g}"
    )


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
    space: SearchSpace,
    objectives: Sequence[Exact],
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
        space: what the sampler may pick from.
        objectives: what to evaluate; the columns of the front.
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
            f"sampler must be an object, got a class: write {sampler.__name__}(task, seed=0)"
        )
    columns = tuple(objective.column for objective in objectives)
    if set(columns) != set(front.objectives):
        raise ValueError(
            f"the front has {', '.join(front.objectives)}, the objectives are {', '.join(columns)}"
        )
    if not 1 <= budget <= size(space.choices):
        raise ValueError(
            f"the budget must be from 1 to the {size(space.choices)} architectures of the space, "
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
            encode(space.choices, architecture)
            start = time.perf_counter()
            outcome = before.get(architecture) or evaluate(architecture, objectives)
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


def evaluate(architecture: Architecture, objectives: Sequence[Exact]) -> Outcome:
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
