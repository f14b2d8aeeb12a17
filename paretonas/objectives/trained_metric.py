"""The metrics of a trained network: the objectives that cost a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..arguments import moved
from ..devices import find_device
from ..finalists import EarlyStopping, Finalist, train_finalists, with_finite_scores
from ..forward import device_of
from ..metric import Metric
from ..nn import NetworkSpace, Supernet
from ..point import FAILING, Cell, EvaluationError, Failure
from ..space import Architecture
from ..tasks.passes import batch_count
from ..tasks.task import Task, metrics_of, on_device, sized, value_of
from ..training import Recipe
from .base import Objective

Trainer = Callable[..., Sequence[Finalist | Failure]]
"""Trains several architectures, as `paretonas.finalists.train_finalists` does."""


class TrainedMetric:
    """The validation metric of an architecture that is trained, by default from fresh weights.

    Its cost is the metric itself, or its negative if the metric is to be maximized. With the same
    settings an architecture always has the same cost, for every method.

    Args:
        space: the networks, the task and the recipe.
        recipe: how an architecture is trained; by default the recipe of the space.
        seed: the seed of the initial weights and of the order of the examples.
        workers: the number of architectures that are trained at once.
        trainer: a function that trains and evaluates architectures.
        reported: objectives that a point also reports, such as `Parameters`.
        supernet: builds the fresh networks; by default a supernet of the space.
        task: what is trained for; by default the task of the space.
        device: auto, cpu or cuda: where networks are trained, unless a supernet and a task are
            given, which are where they are.

    Attributes:
        device: where networks are trained.
        stopping: says which trainings need not go on; None: all of them go on. Points report their
            metrics at its rungs.
    """

    stopping: EarlyStopping | None = None

    def __init__(
        self,
        space: NetworkSpace,
        *,
        recipe: Recipe | None = None,
        seed: int = 0,
        workers: int = 1,
        trainer: Trainer = train_finalists,
        reported: Sequence[Objective] = (),
        supernet: Supernet | None = None,
        task: Task | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.space, self.recipe = space, recipe or space.recipe
        self.device = find_device(device) if supernet is None else device_of(supernet)
        self._seed, self._workers, self._trainer = seed, workers, trainer
        self._reported, self._supernet, self._task = tuple(reported), supernet, task

    def __repr__(self) -> str:
        return f"TrainedMetric({self.space.name!r}, {self.recipe})"

    @property
    def metric(self) -> Metric:
        """The main metric of the task."""
        return self.metrics[0]

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """All metrics of the task that are objectives."""
        return metrics_of(self.task)

    @property
    def task(self) -> Task:
        """What is trained for; loads the examples."""
        if self._task is None and self.device.type == "cpu":
            return self.space.load_task()
        if self._task is None:
            self._task = on_device(self.space.load_task(), self.device)
        return self._task

    def example(self) -> Any:
        """The inputs of one forward pass: a batch of one, on the CPU."""
        return moved(self.task.example(), "cpu")

    @property
    def column(self) -> str:
        """The metric's name with its unit."""
        return self.metric.column

    @property
    def maximize(self) -> bool:
        """Whether larger values of the metric are better."""
        return self.metric.maximize

    def others(self) -> tuple[MeasuredMetric, ...]:
        """The further metrics of the task, as objectives that take no training of their own."""
        return tuple(MeasuredMetric(metric, self) for metric in self.metrics[1:])

    def exact(self, architecture: Mapping[str, str]) -> float:
        """Train one architecture; this takes seconds or hours.

        Raises:
            EvaluationError: the training failed; the message says why.
        """
        return self.score_finalist(self.finalist(architecture))[0]

    def finalist(self, architecture: Mapping[str, str]) -> Finalist:
        """Train one architecture.

        Raises:
            EvaluationError: the training failed; the message says why.
        """
        (trained,) = self.train_networks([Architecture(architecture)])
        if isinstance(trained, Failure):
            raise EvaluationError(trained.reason)
        return trained

    def steps(self) -> int:
        """The weight steps of one training."""
        return self.recipe.steps(batch_count(sized(self.task, self.recipe.batch_size)))

    def train_networks(self, architectures: Sequence[Architecture]) -> Sequence[Finalist | Failure]:
        """Train several architectures; one that fails does not stop the others."""
        if not architectures:
            return []
        # A trainer of a user's own does not know it.
        early = {} if self.stopping is None else {"stopping": self.stopping}
        try:
            trained = self._trainer(
                self._networks(),
                self.task,
                self.recipe,
                architectures,
                seed=self._seed,
                workers=self._workers,
                **early,
            )
        except FAILING as error:  # the trainer raised because of one of them
            if len(architectures) == 1:
                return [Failure.of(architectures[0], error)]
            return [found for each in architectures for found in self.train_networks([each])]
        if not isinstance(trained, Sequence) or len(trained) != len(architectures):
            found = len(trained) if isinstance(trained, Sequence) else repr(trained)
            raise TypeError(
                f"the trainer must return a finalist or a failure for each of {len(architectures)} "
                f"architectures, got {found}"
            )
        return [with_finite_scores(each, self.metrics) for each in trained]

    def train_in(self, supernet: Supernet) -> None:
        """Build the networks of a supernet from now on; pickling leaves it behind."""
        self._supernet = supernet

    def score_finalist(self, finalist: Finalist) -> tuple[float, dict[str, Cell]]:
        """The cost of a trained network, and the reported values."""
        cost, reported = _cost_of(self.metric, finalist)
        known = {"loss", *(name for m in self.metrics for name in (m.column, m.name))}
        for name, value in finalist.test.items():
            if name not in known and math.isfinite(value):
                reported[f"test_{name}"] = value
        for objective in self._reported:
            reported[objective.column] = _plain(objective.exact(finalist.architecture))
        return cost, reported

    def _networks(self) -> Supernet:
        if self._supernet is None:
            self._supernet = self.space.supernet().to(self.device)
        return self._supernet

    def __getstate__(self) -> dict[str, object]:
        # Another process builds its own supernet and loads its own examples.
        return {**self.__dict__, "_supernet": None, "_task": None}


class MeasuredMetric:
    """A further metric of a task, measured on the networks that a `TrainedMetric` trains.

    Args:
        metric: of the task.
        trained: trains the networks.
    """

    def __init__(self, metric: Metric, trained: TrainedMetric) -> None:
        self.metric, self._trained = metric, trained
        self.column, self.maximize = metric.column, metric.maximize

    def __repr__(self) -> str:
        return f"MeasuredMetric({self.column!r}, {self._trained})"

    def exact(self, architecture: Mapping[str, str]) -> float:
        """Train one architecture; this takes seconds or hours.

        Raises:
            EvaluationError: the training failed; the message says why.
        """
        return self.score_finalist(self._trained.finalist(architecture))[0]

    def score_finalist(self, finalist: Finalist) -> tuple[float, dict[str, Cell]]:
        """The cost of a trained network, and the metric on the test split."""
        return _cost_of(self.metric, finalist)


def _cost_of(metric: Metric, finalist: Finalist) -> tuple[float, dict[str, Cell]]:
    """A metric on the validation split as a cost, on the test split as it is, and at rungs."""
    told: dict[str, Cell] = {f"test_{metric.column}": value_of(finalist.test, metric)}
    for epoch, scores in finalist.rungs.items():
        told[rung_column(metric, epoch)] = value_of(scores, metric)
    return metric.cost(value_of(finalist.valid, metric)), told


def rung_column(metric: Metric, epoch: int) -> str:
    """The column of what a metric was on the validation split after an epoch."""
    return f"{metric.column}_at_epoch_{epoch}"


def _plain(cost: float) -> int | float:
    """A whole number as such: a count is written without a point."""
    return int(cost) if cost == int(cost) else cost
