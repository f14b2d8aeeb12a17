"""Regression: numbers for each example."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..data import Preprocessing
from ..metric import Metric
from .feeds import Target
from .metrics import Errors, like_targets, rmse
from .supervised import Loss, Supervised
from .task import Guess

__all__ = ["Regression"]


class Regression(Supervised):
    """The squared error of numbers of any type, and its root.

    The network gives a number for each target: (batch, ...), or (batch, 1) for targets (batch,).
    Other shapes are refused, since torch would broadcast them in silence. Targets keep their unit,
    and so does the metric. A network learns targets far from 0 faster if its first outputs are near
    them: let it add its output to a baseline, or scale it.

    Args:
        train: the training examples; see `Supervised` for the forms of examples.
        valid: the examples that decide in the search.
        test: the examples that are only reported.
        loss: ``loss(output, target)`` of equal shapes; by default the mean squared error.
        metric: by default the root mean squared error; see `paretonas.tasks.metrics`.
        reported: more metrics.
        target: the entries of dicts that are targets; see `Supervised`.
        example: what exported files take, a batch of one; see `Supervised`.
        preprocessing: how raw inputs become inputs of the network.
        batch_size: examples in a batch; by default that of the recipe.

    Raises:
        ValueError: as `Supervised`.
    """

    def __init__(
        self,
        train: Any,
        valid: Any,
        test: Any,
        *,
        loss: Loss = functional.mse_loss,
        metric: Metric | Sequence[Metric] | None = None,
        reported: Sequence[Metric] = (),
        target: Target = None,
        example: Any = None,
        preprocessing: Preprocessing | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(
            train,
            valid,
            test,
            loss=partial(_of_one_shape, loss),
            metric=rmse() if metric is None else metric,
            reported=reported,
            target=target,
            example=example,
            preprocessing=preprocessing,
            batch_size=batch_size,
        )

    def guess(self) -> Guess | None:
        """The root mean squared error of the mean; None for another metric."""
        function = self.metric.function
        if not isinstance(function, Errors) or not function.squared:
            return None
        targets = torch.cat([y.double().cpu() for y in self.targets("valid")])
        squares = (targets - targets.mean(dim=0)).square().flatten()
        value = float(squares.mean().sqrt())
        spread = float(squares.std(correction=0)) / len(targets) ** 0.5
        return Guess(value, spread / value if value else 0.0, "always answering the mean")


def _of_one_shape(loss: Loss, output: Any, target: Tensor) -> Tensor:
    fitted = like_targets(output, target)
    return loss(fitted, target.to(fitted))
