"""Segmentation: a label for each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ..data import Preprocessing
from ..metric import Metric
from .classification import Classification
from .feeds import Target
from .metrics import IoU, mean_iou
from .task import Guess

__all__ = ["Segmentation"]


class Segmentation(Classification):
    """Cross-entropy of each position, and the mean intersection over union.

    The network gives scores, (batch, classes, height, width); the targets are masks of labels of
    any integer type, (batch, height, width).

    Args:
        train: the training examples; see `Supervised` for the forms of examples.
        valid: the examples that decide in the search.
        test: the examples that are only reported.
        classes: the number of classes; by default one more than the largest training label.
        metric: by default the mean IoU; see `paretonas.tasks.metrics`.
        reported: more metrics.
        label_smoothing: as in `Classification`.
        weight: (classes,), the weight of each class in the loss.
        ignore_index: the label of positions that do not count.
        target: the entries of dicts that are targets; see `Supervised`.
        example: what exported files take, a batch of one; see `Supervised`.
        preprocessing: how raw inputs become inputs of the network.
        batch_size: examples in a batch; by default that of the recipe.

    Raises:
        ValueError: as `Classification`.
    """

    def __init__(
        self,
        train: Any,
        valid: Any,
        test: Any,
        *,
        classes: int | None = None,
        metric: Metric | Sequence[Metric] | None = None,
        reported: Sequence[Metric] = (),
        label_smoothing: float = 0.0,
        weight: Tensor | Sequence[float] | None = None,
        ignore_index: int = 255,
        target: Target = None,
        example: Any = None,
        preprocessing: Preprocessing | None = None,
        batch_size: int | None = None,
    ) -> None:
        super().__init__(
            train,
            valid,
            test,
            classes=classes,
            metric=metric,
            reported=reported,
            label_smoothing=label_smoothing,
            weight=weight,
            ignore_index=ignore_index,
            target=target,
            example=example,
            preprocessing=preprocessing,
            batch_size=batch_size,
        )
        if metric is None:
            self.metrics = (mean_iou(self.classes, ignore_index=ignore_index),)

    def numbers(self, example: tuple[Any, Any]) -> int:
        """The scores of one example, or its inputs if they are more."""
        positions: int = example[1].numel()
        return max(super().numbers(example), self.classes * positions)

    def guess(self) -> Guess | None:
        """The IoU of the most frequent class at every position; None for another metric."""
        if not isinstance(self.metric.function, IoU):
            return None
        counts = self._counts("valid", self.classes)
        share = int(counts.max()) / max(1, int(counts.sum()))
        occurring = max(1, int((counts > 0).sum()))
        return Guess(share / occurring, 0.0, "always answering the most frequent class")
