"""Multi-label classification: each of several labels is there or not."""

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
from .metrics import average_precision, like_targets
from .supervised import Supervised
from .task import Guess

__all__ = ["MultiLabel"]


class MultiLabel(Supervised):
    """Binary cross-entropy with logits, and the mean average precision over the labels.

    The network gives a score for each label, (batch, labels). Targets are 0 or 1, of any type.

    Args:
        train: the training examples; see `Supervised` for the forms of examples.
        valid: the examples that decide in the search.
        test: the examples that are only reported.
        pos_weight: (labels,), the weight of the positive examples of each label in the loss.
        metric: by default the average precision; see `paretonas.tasks.metrics`.
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
        pos_weight: Tensor | Sequence[float] | None = None,
        metric: Metric | Sequence[Metric] | None = None,
        reported: Sequence[Metric] = (),
        target: Target = None,
        example: Any = None,
        preprocessing: Preprocessing | None = None,
        batch_size: int | None = None,
    ) -> None:
        weight = None if pos_weight is None else torch.as_tensor(pos_weight)
        super().__init__(
            train,
            valid,
            test,
            loss=partial(_binary_cross_entropy, pos_weight=weight),
            metric=average_precision() if metric is None else metric,
            reported=reported,
            target=target,
            example=example,
            preprocessing=preprocessing,
            batch_size=batch_size,
        )

    def guess(self) -> Guess | None:
        """The average precision of a random order: the share of positives; None for others."""
        if self.metric.function is not average_precision().function:
            return None
        targets = torch.cat([(y > 0.5).double().cpu() for y in self.targets("valid")])
        share = targets.reshape(len(targets), -1).mean(dim=0)
        both = share[(share > 0) & (share < 1)]
        if not len(both):
            return None
        margin = 2 * float((both * (1 - both) / len(targets)).sqrt().mean())
        return Guess(float(both.mean()), margin, "a random order")


def _binary_cross_entropy(output: Any, target: Tensor, *, pos_weight: Tensor | None) -> Tensor:
    scores = like_targets(output, target)
    return functional.binary_cross_entropy_with_logits(
        scores, target.to(scores), pos_weight=None if pos_weight is None else pos_weight.to(scores)
    )
