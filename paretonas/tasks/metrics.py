"""Ready metrics. Most see one batch after the other, so that no outputs are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..metric import Metric
from .task import OutputError

__all__ = [
    "accuracy",
    "average_precision",
    "error",
    "f1",
    "mae",
    "mean_iou",
    "perplexity",
    "r2",
    "rmse",
    "roc_auc",
]

IGNORED = -100  # the label that torch's cross-entropy leaves out


def error(
    *,
    worst: float | None = None,
    resolution: float | None = None,
    ignore_index: int = IGNORED,
    name: str = "error",
) -> Metric:
    """Wrong answers in percent. Outputs are scores, (batch, classes, ...), targets labels."""
    return Metric(name, Wrong(ignore_index), unit="percent", worst=worst, resolution=resolution)


def accuracy(*, ignore_index: int = IGNORED, name: str = "accuracy") -> Metric:
    """Right answers in percent, to be maximized; see `error`."""
    return Metric(name, _Right(ignore_index), maximize=True, unit="percent", best=100.0)


def rmse(*, name: str = "rmse", unit: str = "") -> Metric:
    """The root of the mean squared error, in the unit of the targets."""
    return Metric(name, Errors(squared=True), unit=unit)


def mae(*, name: str = "mae", unit: str = "") -> Metric:
    """The mean absolute error, in the unit of the targets."""
    return Metric(name, Errors(squared=False), unit=unit)


def r2(*, name: str = "r2") -> Metric:
    """The coefficient of determination, to be maximized: 1 is perfect, 0 as good as the mean."""
    return Metric(name, _r2, maximize=True, worst=0.0, best=1.0)


def roc_auc(*, name: str = "auc") -> Metric:
    """The area under the ROC curve, to be maximized: 0.5 is chance.

    Targets are 0 or 1. Outputs are one score per example, or two, of which the second counts. With
    several labels per example, (batch, labels), it is the mean over the labels that have both.
    """
    return Metric(name, _roc_auc, maximize=True, worst=0.5, best=1.0)


def average_precision(*, name: str = "average_precision") -> Metric:
    """The area under the precision-recall curve, to be maximized; shapes as in `roc_auc`."""
    return Metric(name, _average_precision, maximize=True, worst=0.0, best=1.0)


def f1(*, name: str = "f1") -> Metric:
    """The F1 score over all labels together, to be maximized; an output above 0 means yes."""
    return Metric(name, _F1(), maximize=True, worst=0.0, best=1.0)


def mean_iou(classes: int, *, ignore_index: int = 255, name: str = "miou") -> Metric:
    """Intersection over union, the mean over the classes that occur, to be maximized.

    Outputs are scores, (batch, classes, ...), targets labels, (batch, ...).
    """
    return Metric(name, IoU(classes, ignore_index), maximize=True, worst=0.0, best=1.0)


def perplexity(*, ignore_index: int = IGNORED, name: str = "perplexity") -> Metric:
    """The exponential of the mean cross-entropy of a token; 1 is perfect.

    Outputs are scores, (batch, length, vocabulary), targets token ids, (batch, length).
    """
    return Metric(name, Perplexity(ignore_index), best=1.0)


class Wrong:
    """Counts wrong answers."""

    def __init__(self, ignore_index: int) -> None:
        self._ignored = ignore_index
        self.reset()

    def reset(self) -> None:
        self._wrong: Any = 0
        self._seen: Any = 0
        self._unknown: Any = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        answers = output.argmax(dim=1) if output.ndim > 1 else output
        if answers.shape != target.shape:
            raise OutputError(
                "right and wrong are counted for scores of shape (batch, classes, ...) and labels "
                f"(batch, ...), got {tuple(output.shape)} and {tuple(target.shape)}"
            )
        counted = target != self._ignored
        self._wrong = self._wrong + ((answers != target) & counted).sum()
        self._seen = self._seen + counted.sum()
        self._unknown = self._unknown + (_nan(output) & counted).sum()

    def compute(self) -> float:
        seen = _some(self._seen, self._ignored)
        return 100 * float(self._wrong) / seen if not self._unknown else math.nan


class _Right(Wrong):
    def compute(self) -> float:
        return 100 - super().compute()


class Errors:
    """Sums errors of numbers."""

    def __init__(self, *, squared: bool) -> None:
        self.squared = squared
        self.reset()

    def reset(self) -> None:
        self._sum: Any = 0.0
        self._count = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        apart = (like_targets(output, target).detach() - target).double()
        self._sum = self._sum + (apart.square() if self.squared else apart.abs()).sum()
        self._count += target.numel()

    def compute(self) -> float:
        mean = float(self._sum) / max(1, self._count)
        return mean**0.5 if self.squared else mean


class _F1:
    """Counts hits, false alarms and misses."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._hits: Any = 0
        self._wrong: Any = 0
        self._unknown: Any = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        scores = like_targets(output, target)
        told, right = scores > 0, target > 0.5
        self._unknown = self._unknown + scores.isnan().sum()
        self._hits = self._hits + (told & right).sum()
        self._wrong = self._wrong + (told != right).sum()

    def compute(self) -> float:
        if self._unknown:
            return math.nan
        hits, wrong = float(self._hits), float(self._wrong)
        return 2 * hits / (2 * hits + wrong) if hits + wrong else 1.0


class IoU:
    """Counts labels by what they are and what they are taken for."""

    def __init__(self, classes: int, ignore_index: int) -> None:
        if classes < 1:
            raise ValueError(f"classes must be positive, got {classes}")
        self._classes, self._ignored = classes, ignore_index
        self.reset()

    def reset(self) -> None:
        self._counts: Any = 0
        self._unknown: Any = 0
        self._outside: Any = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        counted = target != self._ignored
        known = (target >= 0) & (target < self._classes)
        self._unknown = self._unknown + (_nan(output) & counted).sum()
        self._outside = self._outside + (counted & ~known).sum()
        # What does not count is a further label, since to leave it out a GPU would be waited for.
        right = torch.where(counted & known, target.long(), self._classes)
        pairs = (right * self._classes + output.argmax(dim=1)).flatten()
        size = (self._classes + 1) * self._classes
        ones = torch.ones_like(pairs)
        self._counts = self._counts + pairs.new_zeros(size).index_add(0, pairs, ones)

    def compute(self) -> float:
        if self._outside:
            raise ValueError(
                f"labels must be in [0, {self._classes - 1}], or {self._ignored}, which is ignored;"
                f" {int(self._outside)} are not"
            )
        counts = torch.as_tensor(self._counts).double().reshape(-1, self._classes)[:-1]
        _some(counts.sum(), self._ignored)
        if self._unknown:
            return math.nan
        hits = counts.diagonal()
        union = counts.sum(dim=0) + counts.sum(dim=1) - hits
        return float((hits / union)[union > 0].mean())


class Perplexity:
    """Sums the cross-entropy of tokens."""

    def __init__(self, ignore_index: int) -> None:
        self._ignored = ignore_index
        self.reset()

    def reset(self) -> None:
        self._sum: Any = 0.0
        self._count: Any = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        flat = target.reshape(-1).long()
        scores = output.detach().reshape(-1, output.shape[-1]).float()
        self._sum = self._sum + functional.cross_entropy(
            scores, flat, ignore_index=self._ignored, reduction="sum"
        )
        self._count = self._count + (flat != self._ignored).sum()

    def compute(self) -> float:
        return float(torch.as_tensor(self._sum / _some(self._count, self._ignored)).exp())


def _nan(output: Tensor) -> Tensor:
    """Where a score of a class is NaN, (batch, ...): `argmax` would take it for an answer."""
    return output.amax(dim=1).isnan() if output.ndim > 1 else output.isnan()


def _some(count: Any, ignored: int) -> float:
    """The number of labels that count.

    Raises:
        ValueError: there is none.
    """
    if not count:
        raise ValueError(f"every label is {ignored}, which is ignored: there is nothing to score")
    return float(count)


def like_targets(output: Any, target: Tensor) -> Tensor:
    """Outputs in the shape of the targets: (batch, 1) also fits targets of shape (batch,).

    Raises:
        OutputError: the shapes differ otherwise; torch would broadcast them in silence.
    """
    if isinstance(output, Tensor):
        if output.shape == target.shape:
            return output
        if output.shape == (*target.shape, 1) or (*output.shape, 1) == target.shape:
            return output.reshape(target.shape)
    found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    raise OutputError(
        f"the network must give a number for each target, of shape {tuple(target.shape)}, got "
        f"{found}"
    )


def _r2(output: Tensor, target: Tensor) -> float:
    output, target = like_targets(output, target).double(), target.double()
    spread = (target - target.mean(dim=0)).square().sum()
    return float(1 - (output - target).square().sum() / spread)


def _roc_auc(output: Tensor, target: Tensor) -> float:
    return _over_labels(output, target, _one_roc_auc)


def _average_precision(output: Tensor, target: Tensor) -> float:
    return _over_labels(output, target, _one_average_precision)


def _over_labels(output: Tensor, target: Tensor, one: Callable[[Tensor, Tensor], float]) -> float:
    if output.ndim == 2 and output.shape[1] == 2 and target.ndim == 1:
        output = output[:, 1] - output[:, 0]
    scores = like_targets(output, target).double().reshape(len(target), -1)
    if scores.isnan().any():
        return math.nan
    right = (target > 0.5).reshape(len(target), -1)
    both = [j for j in range(right.shape[1]) if 0 < int(right[:, j].sum()) < len(right)]
    if not both:
        raise ValueError("no label has both positive and negative examples in this split")
    return sum(one(scores[:, j], right[:, j]) for j in both) / len(both)


def _one_roc_auc(scores: Tensor, right: Tensor) -> float:
    """The share of pairs of a positive and a negative that are in order; ties count half."""
    values, place = torch.unique(scores, return_inverse=True)
    positive = torch.bincount(place[right], minlength=len(values)).double()
    negative = torch.bincount(place[~right], minlength=len(values)).double()
    below = negative.cumsum(0) - negative
    pairs = (positive * (below + 0.5 * negative)).sum()
    return float(pairs / (positive.sum() * negative.sum()))


def _one_average_precision(scores: Tensor, right: Tensor) -> float:
    """The mean precision over the positives; equal scores are told at once."""
    values, place = torch.unique(-scores, return_inverse=True)  # best first
    hits = torch.bincount(place[right], minlength=len(values)).double()
    told = torch.bincount(place, minlength=len(values)).double()
    precision = hits.cumsum(0) / told.cumsum(0)
    return float((hits * precision).sum() / hits.sum())
