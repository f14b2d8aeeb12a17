"""The protocol of a task: what a network is trained for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from ..metric import Metric

__all__ = ["Guess", "OutputError", "SplitName", "Task", "TaskScores"]

SplitName = Literal["train", "valid", "test"]
"""The training examples; those that decide in a search; those that are only reported."""


@runtime_checkable
class Task(Protocol):
    """What a network is trained for: examples, a loss and a metric.

    `Supervised` builds a task from examples, a loss and a metric. A class of your own needs no base
    class. Some methods are optional: see `docs/your-own-task.md`.

    Attributes:
        metric: what the search improves, and in which direction.
    """

    @property
    def metric(self) -> Metric:
        """The main metric."""
        ...

    def example(self) -> Any:
        """The inputs of one forward pass, with a batch of one: a tensor, or any nest of tensors.

        A tuple stands for positional arguments, a dict for keyword arguments; see `Arguments`.
        """
        ...

    def batches(self, split: SplitName, *, seed: int, epoch: int) -> Iterable[Any]:
        """One pass over a split, the same for the same seed and epoch.

        The training examples come in a new order in each epoch. If the result has a length, it is
        the number of batches; otherwise one pass is made to count them.
        """
        ...

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch of the training split, a scalar that is differentiated.

        The batch is on the device of the network, and is a copy, which the network may change.
        """
        ...

    def evaluate(self, network: nn.Module, split: SplitName) -> Mapping[str, float]:
        """The values of a network in evaluation mode: ``"loss"``, the metric, and others to report.

        The metric's name, with or without its unit, is the key of its value.
        """
        ...


class OutputError(ValueError):
    """The network's outputs do not fit the task, whatever the architecture."""


class TaskScores(dict[str, float]):
    """What a task evaluates to: the loss, the metrics and what is only reported, by name."""

    @property
    def loss(self) -> float:
        """The mean loss; NaN if the task gives none."""
        return self.get("loss", math.nan)


@dataclass(frozen=True)
class Guess:
    """What a constant answer scores on the validation split, in the metric of a task.

    Attributes:
        value: in the metric's own direction and unit.
        margin: two standard deviations over splits of this size.
        words: how that answer is made, such as ``"always answering the mean"``.
    """

    value: float
    margin: float
    words: str


def metrics_of(task: Task) -> tuple[Metric, ...]:
    """The metrics of a task that are objectives, the main one first."""
    return tuple(getattr(task, "metrics", None) or (task.metric,))


def sized(task: Task, batch_size: int) -> Task:
    """The task with this batch size, if it leaves the batch size to its trainer."""
    resized = getattr(task, "sized", None)
    found: Task = resized(batch_size) if callable(resized) else task
    return found


def on_device(task: Task, device: torch.device | str) -> Task:
    """The task with its examples on a device, if it has examples in memory."""
    move = getattr(task, "to", None)
    found: Task = move(device) if callable(move) else task
    return found


def number_of(name: str, found: Any) -> float:
    """A value that a task has computed, as a number.

    Raises:
        TypeError: it is no number.
    """
    try:
        if isinstance(found, str | bool):
            raise TypeError
        return float(found)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = f" of shape {tuple(found.shape)}" if hasattr(found, "shape") else ""
        raise TypeError(
            f"the metric {name!r} must give one number, got {type(found).__name__}{shape}"
        ) from error


def value_of(scores: Mapping[str, float], metric: Metric) -> float:
    """The value of a metric in the result of an evaluation.

    Raises:
        ValueError: it is not there.
    """
    for name in (metric.column, metric.name):
        if name in scores:
            return number_of(metric.name, scores[name])
    raise ValueError(f"the task evaluates to {', '.join(scores)}, without its metric {metric.name}")


def check_scores(task: Task, scores: object) -> None:
    """See that what a task evaluates to is complete.

    Raises:
        TypeError: it is no mapping from names to numbers.
        ValueError: the loss or a metric is missing.
    """
    if not isinstance(scores, Mapping):
        raise TypeError(
            "evaluate must return a mapping from names to numbers, such as "
            f'{{"loss": 0.3, "{task.metric.name}": 0.9}}, got {type(scores).__name__}'
        )
    keys = ", ".join(map(repr, scores)) or "no key"
    if "loss" not in scores:
        raise ValueError(f"evaluate must return the 'loss' and the metrics, got {keys}")
    for metric in metrics_of(task):
        if metric.column not in scores and metric.name not in scores:
            raise ValueError(
                f"evaluate must return the metric {metric.column!r} beside the loss, got {keys}"
            )
        value_of(scores, metric)
    for name, value in scores.items():
        if not isinstance(value, bool):
            number_of(name, value)
