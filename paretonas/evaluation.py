"""`Evaluation`: the only way from an architecture to a `Point` or a `Failure`.

All methods evaluate architectures here. The architecture is trained if an objective needs it, every
objective gives its cost, and a point gets it as the user's value: the negative, if the objective is
maximized. An error becomes a `Failure`, the outcome is written to a journal, and the ledger counts
evaluations and seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn

from paretonas.direction import turned
from paretonas.finalists import Finalist
from paretonas.objectives.base import Objective, maximizes
from paretonas.point import FAILING, Cell, Failure, Outcome, Point
from paretonas.space import Architecture

__all__ = ["Evaluation", "Journal", "Ledger", "MeasuredObjective", "TrainedObjective"]


@dataclass
class Ledger:
    """The evaluations and seconds of a method.

    Attributes:
        evaluations: architectures evaluated, failures included, each once.
        duplicates: proposals that were evaluated before; they are free.
        failures: evaluations that ended in a `Failure`.
        thinking_seconds: the method overhead: its own time, in `ask` and `tell`; the training of a
            supernet is part of it.
        evaluation_seconds: the time of the evaluations.
        proxy_evaluations: architectures scored with inherited weights.
        weight_steps: training steps of a supernet.
        weight_evaluations: these steps, divided by the steps of one evaluation.
    """

    evaluations: int = 0
    duplicates: int = 0
    failures: int = 0
    thinking_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    proxy_evaluations: int = 0
    weight_steps: int = 0
    weight_evaluations: int = 0


@runtime_checkable
class MeasuredObjective(Objective, Protocol):
    """An objective that is measured on the trained network."""

    def measure_network(self, finalist: Finalist) -> tuple[float, Mapping[str, Cell]]:
        """The cost, and further values that a point reports."""
        ...


@runtime_checkable
class TrainedObjective(MeasuredObjective, Protocol):
    """An objective that trains networks; it and other objectives are measured on them."""

    def train_networks(self, architectures: Sequence[Architecture]) -> Sequence[Finalist | Failure]:
        """A trained network, or a failure, for each architecture, in this order."""
        ...


class Journal(Protocol):
    """A record of outcomes on disk."""

    def add(self, outcome: Outcome, seconds: float, network: nn.Module | None) -> Outcome:
        """Write an outcome; it is on disk when this returns. A point may get its id here."""
        ...


class Evaluation:
    """Evaluates architectures.

    Args:
        objectives: the objectives of a point, in this order; at most one trains networks.
        journal: each outcome is written to it.
        ledger: it counts evaluations, failures and their seconds.
        origin: a word that each point reports as its origin.
        reported: further objectives, of which a point only reports the value.

    Raises:
        ValueError: two objectives train networks.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        *,
        journal: Journal | None = None,
        ledger: Ledger | None = None,
        origin: str = "",
        reported: Sequence[Objective] = (),
    ) -> None:
        self.objectives, self.ledger = tuple(objectives), ledger or Ledger()
        self._journal, self._origin, self._reported = journal, origin, tuple(reported)
        trained = [o for o in self.objectives if isinstance(o, TrainedObjective)]
        if len(trained) > 1:
            raise ValueError(
                f"one objective can train networks, got {' and '.join(o.column for o in trained)}"
            )
        self._trained = trained[0] if trained else None

    def __repr__(self) -> str:
        columns = ", ".join(objective.column for objective in self.objectives)
        return f"Evaluation({columns}: {self.ledger.evaluations} done)"

    def __call__(self, architectures: Sequence[Architecture]) -> Iterator[Outcome]:
        """Evaluate architectures, in parallel if the objective that trains them can do this.

        The seconds of a training of several count for each in equal parts.

        Yields:
            The outcome of each architecture, in order, after it is written to the journal.
        """
        start = time.perf_counter()
        finalists: Sequence[Finalist | Failure | None] = [None] * len(architectures)
        if self._trained is not None:
            finalists = self._trained.train_networks(architectures)
        trained_seconds = (time.perf_counter() - start) / max(1, len(architectures))
        for architecture, finalist in zip(architectures, finalists, strict=True):
            start = time.perf_counter()
            outcome = self._outcome(architecture, finalist)
            seconds = trained_seconds + time.perf_counter() - start
            if self._journal is not None:
                network = None
                if finalist is not None and not isinstance(finalist, Failure):
                    network = finalist.network
                outcome = self._journal.add(outcome, seconds, network)
            self.ledger.evaluations += 1
            self.ledger.failures += isinstance(outcome, Failure)
            self.ledger.evaluation_seconds += seconds
            yield outcome

    def _outcome(self, architecture: Architecture, finalist: Finalist | Failure | None) -> Outcome:
        if isinstance(finalist, Failure):
            return finalist
        values: dict[str, float] = {}  # as the user sees them
        reported: dict[str, Cell] = {}
        for objective in (*self.objectives, *self._reported):
            try:
                if finalist is not None and isinstance(objective, MeasuredObjective):
                    cost, besides = objective.measure_network(finalist)
                    reported |= besides
                else:
                    cost = objective.exact(architecture)
                values[objective.column] = turned(float(cost), maximizes(objective))
            except FAILING as error:  # a failure must not stop the search
                return Failure.of(architecture, error)
            if not math.isfinite(values[objective.column]):
                return Failure(architecture, f"{objective.column} is {values[objective.column]}")
        for objective in self._reported:
            reported[objective.column] = values.pop(objective.column)
        if self._origin:
            reported["origin"] = self._origin
        return Point(architecture, values, {k: v for k, v in reported.items() if k not in values})
