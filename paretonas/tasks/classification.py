"""Classification: one label for each example, or for each position of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..data import Data, Preprocessing, Split
from ..metric import Metric
from .feeds import Target
from .metrics import IGNORED, Wrong, error
from .supervised import Supervised
from .task import Guess, OutputError, SplitName, Task

__all__ = ["Classification"]


class Classification(Supervised):
    """Cross-entropy, and the error in percent.

    The network gives a score for each class, (batch, classes) or (batch, classes, ...); the labels
    are integers of any type, (batch,) or (batch, ...).

    Args:
        train: the training examples; see `Supervised` for the forms of examples.
        valid: the examples that decide in the search.
        test: the examples that are only reported.
        classes: the number of classes; by default the number of labels that the preprocessing
            names, or else one more than the largest training label, which takes a pass over the
            training split if it is not in memory.
        metric: by default the error in percent.
        reported: more metrics.
        label_smoothing: the part of the target that is spread over all classes (Szegedy et al.
            2016, arXiv 1512.00567); in training only.
        weight: (classes,), the weight of each class in the loss.
        ignore_index: a label that is left out of the loss and the error.
        target: the entries of dicts that are targets; see `Supervised`.
        example: what exported files take, a batch of one; see `Supervised`.
        preprocessing: how raw inputs become inputs of the network.
        batch_size: examples in a batch; by default that of the recipe.

    Raises:
        ValueError: a label is out of its range, every label of a split is ignored, or as
            `Supervised`.
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
        ignore_index: int = IGNORED,
        target: Target = None,
        example: Any = None,
        preprocessing: Preprocessing | None = None,
        batch_size: int | None = None,
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {label_smoothing}")
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing
        self._weight = None if weight is None else torch.as_tensor(weight)
        super().__init__(
            train,
            valid,
            test,
            loss=partial(_cross_entropy, weight=self._weight, ignore_index=ignore_index),
            metric=error(ignore_index=ignore_index) if metric is None else metric,
            reported=reported,
            target=target,
            example=example,
            preprocessing=preprocessing,
            batch_size=batch_size,
        )
        if classes is None and preprocessing is not None and preprocessing.labels:
            classes = len(preprocessing.labels)
        self.classes = self._count_classes(classes)
        if metric is None:
            self.metrics = (
                error(
                    worst=100 * (1 - 1 / self.classes),
                    resolution=100 / (self.examples("valid") or 1000),
                    ignore_index=ignore_index,
                ),
            )

    @classmethod
    def of(cls, data: Data) -> Classification:
        """The task of labeled examples in memory."""
        return cls(
            data.train,
            data.valid,
            data.test,
            classes=data.classes,
            preprocessing=data.preprocessing,
        )

    def guess(self) -> Guess | None:
        """The error of the most frequent class; None for another metric."""
        if type(self.metric.function) is not Wrong:
            return None
        counts = self._counts("valid", self.classes)
        total = max(1, int(counts.sum()))
        share = int(counts.max()) / total
        margin = 200 * math.sqrt(share * (1 - share) / total)
        return Guess(100 * (1 - share), margin, "always answering the most frequent class")

    def _counts(self, split: SplitName, classes: int | None) -> Tensor:
        """How often each class occurs in a split, (classes,); None stands for any number of them.

        Raises:
            ValueError: a label is out of its range, or none counts.
        """
        counts = torch.zeros(classes or 0, dtype=torch.long)
        for labels in self.targets(split):
            _integers(labels)
            flat = labels.reshape(-1).long().cpu()
            known = flat[flat != self.ignore_index]
            low, high = (int(known.min()), int(known.max())) if len(known) else (0, 0)
            if low < 0:
                raise ValueError(f"labels must be 0 or more, found {low} in the {split} split")
            if classes is not None and high >= classes:
                raise ValueError(
                    f"labels must be in [0, {classes - 1}], found {high} in the {split} split"
                )
            size = max(len(counts), high + 1)
            counts = functional.pad(counts, (0, size - len(counts)))
            counts += torch.bincount(known, minlength=size)
        if not counts.any():
            raise ValueError(
                f"every label of the {split} split is {self.ignore_index}, which is ignored: "
                "there is nothing to learn from or to score"
            )
        return counts

    def criterion(self, output: Any, target: Any) -> Tensor:
        """Cross-entropy with label smoothing."""
        if isinstance(output, Tensor) and output.ndim > 1 and output.shape[1] < self.classes:
            raise OutputError(
                f"the network must give a score for each of {self.classes} classes, got shape "
                f"{tuple(output.shape)} for {len(output)} examples"
            )
        return self._loss(output, target, label_smoothing=self.label_smoothing)

    def smoothed(self, label_smoothing: float) -> Classification:
        """The same task with this label smoothing."""
        return self._with(label_smoothing=label_smoothing)

    def _count_classes(self, told: int | None) -> int:
        """The number of classes; labels in memory are checked against it."""
        if told is not None and told < 1:
            raise ValueError(f"classes must be positive, got {told}")
        classes = told
        for split, feed in self._feeds.items():
            if classes is None or feed.targets is not None:  # the training split comes first
                classes = len(self._counts(split, classes))
        assert classes is not None
        return classes


def _cross_entropy(
    output: Any,
    labels: Tensor,
    *,
    weight: Tensor | None,
    ignore_index: int,
    label_smoothing: float = 0.0,
) -> Tensor:
    if not isinstance(output, Tensor) or output.ndim < 2:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise OutputError(
            f"the network must give a tensor of scores, (batch, classes, ...), got {found}; for "
            "one score per example there is MultiLabel, with targets (batch,)"
        )
    wanted = (len(output), *output.shape[2:])
    if not isinstance(labels, Tensor) or labels.shape != wanted:
        found = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        turned = ""
        if output.ndim > 2 and found == tuple(output.shape[:-1]):
            turned = "; classes are the second dimension: scores.transpose(1, -1)"
        raise OutputError(
            f"scores of shape {tuple(output.shape)} need integer labels of shape {wanted}, got "
            f"{found}{turned}"
        )
    _integers(labels)
    try:
        return mean_cross_entropy(
            output,
            labels.long(),
            ignore_index,
            weight=None if weight is None else weight.to(output),
            label_smoothing=label_smoothing,
        )
    except IndexError as error:  # on the CPU; a GPU stops without a word that helps
        known = labels[labels != ignore_index]
        raise OutputError(
            f"the network gives {output.shape[1]} scores, so labels must be in "
            f"[0, {output.shape[1] - 1}]; found labels from {int(known.min())} to "
            f"{int(known.max())}"
        ) from error


def mean_cross_entropy(
    scores: Tensor,
    labels: Tensor,
    ignore_index: int,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Torch's cross-entropy, but 0 where every label is ignored: the mean over nothing is NaN.

    No number is read, so that a GPU need not be waited for.
    """
    nothing = (labels == ignore_index).all()
    labels = torch.where(nothing, int(ignore_index == 0), labels)  # any that counts
    if weight is not None:
        weight = torch.where(nothing, 1.0, weight)
    loss = functional.cross_entropy(
        scores, labels, weight, ignore_index=ignore_index, label_smoothing=label_smoothing
    )
    return loss * ~nothing


def _integers(labels: Tensor) -> None:
    if labels.is_floating_point() or labels.is_complex():
        raise OutputError(
            f"labels must be integers, got {labels.dtype}; numbers as targets are for Regression"
        )


def task_of(given: Task | Data | Split) -> Task:
    """The task itself, or the classification of labeled examples in memory.

    A single split is the training, the validation and the test split of its task.
    """
    if isinstance(given, Data):
        return Classification.of(given)
    return Classification(given, given, given) if isinstance(given, Split) else given
