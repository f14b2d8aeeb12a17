"""The protocol of a task: what a network is trained for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from ..metric import Metric

__all__ = ["SplitName", "Task"]

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

    metric: Metric

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
