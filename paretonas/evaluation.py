"""`Evaluation`: the only way from an architecture to a `Point` or a `Failure`.

All methods evaluate architectures here. The architecture is trained if an objective needs it, every
objective gives its cost, or is measured on the trained network, and a point gets the user's value:
the negative of the cost, if the objective is maximized. An error becomes a `Failure`, the outcome
is written to a journal, and the ledger counts evaluations and seconds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, Protocol, runtime_checkable

from torch import nn

from paretonas.direction import turned
from paretonas.finalists import Finalist
from paretonas.objectives.base import (
    AnyObjective,
    DifferentiableObjective,
    MeasuredObjective,
    Objective,
    is_noisy,
    maximizes,
    name_of,
    table_column,
)
from paretonas.point import FAILING, Cell, Failure, Outcome, Point
from paretonas.space import Architecture

__all__ = ["Evaluation", "Journal", "Ledger", "ScoredObjective", "TrainedObjective"]


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
class ScoredObjective(Objective, Protocol):
    """An objective that reads its cost from the scores of a training."""

    def score_finalist(self, finalist: Finalist) -> tuple[float, Mapping[str, Cell]]:
        """The cost, and further values that a point reports."""
        ...


@runtime_checkable
class TrainedObjective(ScoredObjective, Protocol):
    """An objective that trains networks; other objectives are measured on them."""

    def example(self) -> Any:
        """The inputs of one forward pass: a batch of one, on the CPU."""
        ...

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
        objectives: the objectives of a point, in this order; at most one trains networks, and
            each `MeasuredObjective` is measured on these.
        journal: each outcome is written to it.
        ledger: it counts evaluations, failures and their seconds.
        origin: a word that each point reports as its origin.
        known: points that were evaluated before. An architecture that is trained again keeps what
            is predicted and noisy, its latency: another measurement would only draw other noise.
        reported: further objectives, of which a point only reports the value.

    Raises:
        ValueError: two objectives train networks; one must be measured, and none trains; or one has
            a `measure` that cannot be called with a network and an example.
    """

    def __init__(
        self,
        objectives: Sequence[AnyObjective],
        *,
        journal: Journal | None = None,
        ledger: Ledger | None = None,
        origin: str = "",
        known: Mapping[Architecture, Point] | None = None,
        reported: Sequence[AnyObjective] = (),
    ) -> None:
        self.objectives, self.ledger = tuple(objectives), ledger or Ledger()
        self._journal, self._origin, self._known = journal, origin, known or {}
        self._reported = tuple(reported)
        trained = [o for o in self.objectives if isinstance(o, TrainedObjective)]
        if len(trained) > 1:
            raise ValueError(
                f"one objective can train networks, got {' and '.join(o.column for o in trained)}"
            )
        self._trained = trained[0] if trained else None
        for objective in self.objectives:
            _check(objective, bool(trained))

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
            yield self.settle(outcome, seconds, _network(finalist))

    def apart(
        self, architecture: Architecture, quiet: Callable[[], None]
    ) -> tuple[Outcome, nn.Module | None]:
        """Evaluate an architecture for another process, which calls `settle`.

        Args:
            architecture: to be evaluated.
            quiet: is called between the training and the measurements.

        Returns:
            The outcome and the trained network, if there is one.
        """
        finalist: Finalist | Failure | None = None
        if self._trained is not None:
            (finalist,) = self._trained.train_networks([architecture])
        quiet()
        return self._outcome(architecture, finalist), _network(finalist)

    def settle(self, outcome: Outcome, seconds: float, network: nn.Module | None) -> Outcome:
        """Write an outcome to the journal and count it; a point may get its id here."""
        if self._journal is not None:
            outcome = self._journal.add(outcome, seconds, network)
        self.ledger.evaluations += 1
        self.ledger.failures += isinstance(outcome, Failure)
        self.ledger.evaluation_seconds += seconds
        return outcome

    def __getstate__(self) -> dict[str, object]:
        # Another process writes nothing down.
        return {**self.__dict__, "_journal": None}

    def _outcome(self, architecture: Architecture, finalist: Finalist | Failure | None) -> Outcome:
        if isinstance(finalist, Failure):
            return finalist
        values: dict[str, float] = {}  # as the user sees them
        reported: dict[str, Cell] = {}
        for objective in (*self.objectives, *self._reported):
            try:
                value, besides = self._value(objective, architecture, finalist)
                values[objective.column] = float(value)
                reported |= besides
            except FAILING as error:  # a failure must not stop the search
                return Failure.of(architecture, error)
            if not math.isfinite(values[objective.column]):
                return Failure(architecture, f"{objective.column} is {values[objective.column]}")
        for objective in self._reported:
            reported[objective.column] = values.pop(objective.column)
        if self._origin:
            reported["origin"] = self._origin
        besides = {name: told for name, told in reported.items() if name not in values}
        try:
            return Point(architecture, values, besides)
        except (TypeError, ValueError) as error:  # it reports what is not finite
            return Failure.of(architecture, error)

    def _value(
        self, objective: AnyObjective, architecture: Architecture, finalist: Finalist | None
    ) -> tuple[float, Mapping[str, Cell]]:
        """The value of an objective, as the user sees it, and what is only reported."""
        if finalist is not None and isinstance(objective, MeasuredObjective):
            return self._measured(objective, finalist)
        assert isinstance(objective, Objective)  # since nothing was trained
        if finalist is not None and isinstance(objective, ScoredObjective):
            cost, besides = objective.score_finalist(finalist)
        else:
            cost, besides = objective.exact(architecture), {}
        return turned(float(cost), maximizes(objective)), besides

    @cached_property
    def _example(self) -> Any:
        assert self._trained is not None
        return self._trained.example()

    def _measured(
        self, objective: MeasuredObjective, finalist: Finalist
    ) -> tuple[float, Mapping[str, Cell]]:
        column, predicts = objective.column, isinstance(objective, DifferentiableObjective)
        before = self._known.get(finalist.architecture)
        if predicts and is_noisy(objective) and before and column in before.objectives:
            own = f"{name_of(objective)}_"
            kept = {name: v for name, v in before.reported.items() if name.startswith(own)}
            return before.objectives[column], kept
        found = objective.measure(finalist.network, self._example)
        told = dict(found) if isinstance(found, Mapping) else {column: found}
        if column not in told:
            raise ValueError(f"measure must return {column}, got {', '.join(told) or 'nothing'}")
        value = float(told.pop(column))
        if isinstance(objective, DifferentiableObjective):
            predicted = turned(float(objective.exact(finalist.architecture)), maximizes(objective))
            if predicted != value:
                told = {table_column(objective): predicted, **told}
        return value, told


def _network(finalist: Finalist | Failure | None) -> nn.Module | None:
    return None if finalist is None or isinstance(finalist, Failure) else finalist.network


def predicted(objective: AnyObjective) -> AnyObjective:
    """The objective; if it is noisy and has a prediction, the prediction alone.

    A comparison takes predictions, which every method knows, and which do not change when other
    runs keep the machine busy.
    """
    if is_noisy(objective) and isinstance(objective, DifferentiableObjective):
        return _Predicted(objective)
    return objective


class _Predicted:
    """What an objective predicts, without a measurement."""

    def __init__(self, objective: DifferentiableObjective) -> None:
        self.column, self.exact = objective.column, objective.exact
        self.maximize = maximizes(objective)


def _check(objective: AnyObjective, trained: bool) -> None:
    """Refuse an objective that cannot be evaluated.

    Args:
        objective: one of a point.
        trained: whether there are trained networks to measure it on.
    """
    if not trained:
        if not isinstance(objective, Objective):
            raise ValueError(
                f"{objective.column} is measured on trained networks, and no objective trains them:"
                " add TrainedMetric(space), or give it exact(architecture)"
            )
    elif isinstance(objective, MeasuredObjective):
        try:
            signature(objective.measure).bind(None, None)
        except TypeError as error:
            raise ValueError(
                f"measure of {objective.column} must take a network and an example, as in "
                f"def measure(self, network, example): {error}"
            ) from error
