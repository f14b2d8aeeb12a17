"""The metrics of the benchmarks, accumulated over batches as in the published code.

Depth and normals are means over *batches*: the median angle is the mean of the batches' medians,
and a last, shorter batch counts like the others. So the numbers depend a little on the batch size,
and the batch size is part of the protocol (2 for NYUv2, 8 for Cityscapes, also in testing). The
confusion matrix and the F1 counts use all images together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional

Numbers = dict[str, float]

MORE_IS_BETTER: Mapping[str, bool] = {
    "mean_iou": True,
    "pixel_accuracy": True,
    "absolute_error": False,
    "relative_error": False,
    "mean_angle": False,
    "median_angle": False,
    "within_11.25": True,
    "within_22.5": True,
    "within_30": True,
    "f1": True,
}


class Meter(Protocol):
    """Takes batches, and says what they come to."""

    def add(self, outputs: Tensor, answers: Tensor) -> None: ...

    def result(self) -> Numbers: ...


class Segmentation:
    """Mean intersection over union and pixel accuracy, from one confusion matrix.

    Pixels labelled below 0 do not count. A class that is neither there nor predicted is left out
    of the mean; in the published code it makes the mean NaN, which the real test splits never do.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = torch.zeros(classes, classes, dtype=torch.int64)  # rows are what is there

    def add(self, outputs: Tensor, answers: Tensor) -> None:
        """Count: outputs are (batch, classes, height, width), answers (batch, height, width)."""
        known = (answers >= 0) & (answers < self.classes)
        pairs = self.classes * answers[known].long() + outputs.argmax(1)[known]
        counts = torch.bincount(pairs, minlength=self.classes**2).cpu()
        self.counts += counts.reshape(self.classes, self.classes)

    def result(self) -> Numbers:
        counts = self.counts.double()
        hits = counts.diag()
        union = counts.sum(0) + counts.sum(1) - hits
        overlap = (hits / union)[union > 0]
        return {
            "mean_iou": float(overlap.mean()),
            "pixel_accuracy": float(hits.sum() / counts.sum()),
        }


class _OverBatches:
    """The mean over batches of what each batch has; one without known pixels does not count."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []
        self.names: tuple[str, ...] = ()

    def keep(self, **numbers: Tensor) -> None:
        self.names = tuple(numbers)
        self.rows.append(torch.stack([number.double() for number in numbers.values()]))

    def mean(self, names: tuple[str, ...]) -> Numbers:
        if not self.rows:
            return dict.fromkeys(names, float("nan"))
        return dict(zip(names, torch.stack(self.rows).mean(0).tolist(), strict=True))


class Depth:
    """Mean absolute error, and mean error relative to the truth; a depth of 0 is unknown."""

    def __init__(self) -> None:
        self.batches = _OverBatches()

    def add(self, outputs: Tensor, answers: Tensor) -> None:
        """Compare: both are (batch, 1, height, width)."""
        known = answers != 0
        if not known.any():
            return
        error, truth = (outputs - answers).abs()[known].double(), answers[known].double()
        self.batches.keep(absolute_error=error.mean(), relative_error=(error / truth).mean())

    def result(self) -> Numbers:
        return self.batches.mean(("absolute_error", "relative_error"))


class Normals:
    """Angles in degrees to the true normals, and the share of them below three bounds.

    A normal of three zeros is unknown. Outputs need not have length 1, as they have in the
    published networks: only their direction counts.
    """

    names = ("mean_angle", "median_angle", "within_11.25", "within_22.5", "within_30")

    def __init__(self) -> None:
        self.batches = _OverBatches()

    def add(self, outputs: Tensor, answers: Tensor) -> None:
        """Compare: both are (batch, 3, height, width)."""
        known = answers.ne(0).any(1)
        if not known.any():
            return
        cosine = (functional.normalize(outputs, dim=1) * answers).sum(1)[known]
        angle = torch.rad2deg(cosine.double().clamp(-1, 1).acos())
        numbers = [angle.mean(), angle.quantile(0.5)]
        numbers += [(angle < bound).double().mean() for bound in (11.25, 22.5, 30.0)]
        self.batches.keep(**dict(zip(self.names, numbers, strict=True)))

    def result(self) -> Numbers:
        return self.batches.mean(self.names)


class F1:
    """The F1 score of a yes-or-no question, yes being an output above 0."""

    def __init__(self) -> None:
        self.hits = self.wrong = 0

    def add(self, outputs: Tensor, answers: Tensor) -> None:
        """Count: both are (batch,), answers 0 or 1."""
        said, true = outputs > 0, answers > 0.5
        self.hits += int((said & true).sum())
        self.wrong += int((said != true).sum())

    def result(self) -> Numbers:
        """2 hits / (2 hits + wrong), which is the harmonic mean of precision and recall."""
        total = 2 * self.hits + self.wrong
        return {"f1": 2 * self.hits / total if total else 0.0}


def delta_m(numbers: pd.DataFrame, alone: pd.Series) -> pd.Series:
    """How much worse than single-task networks, in percent, the mean over metrics.

    Args:
        numbers: a row per method, a column per metric, named "TASK METRIC".
        alone: the same metrics of single-task networks.

    >>> numbers = pd.DataFrame({"a mean_iou": [0.4], "b mean_angle": [27.5]}, ["mine"])
    >>> delta_m(numbers, pd.Series({"a mean_iou": 0.5, "b mean_angle": 25.0})).round(6).to_dict()
    {'mine': 15.0}
    """
    signs = pd.Series({column: -1.0 if _more(column) else 1.0 for column in numbers})
    return 100 * ((numbers - alone[numbers.columns]) / alone[numbers.columns] * signs).mean(axis=1)


def mean_rank(numbers: pd.DataFrame) -> pd.Series:
    """The rank of each method among the others, 1 being best, the mean over metrics."""
    ranks = pd.DataFrame({c: numbers[c].rank(ascending=not _more(c)) for c in numbers})
    return ranks.mean(axis=1)


def _more(column: str) -> bool:
    return MORE_IS_BETTER[column.rpartition(" ")[2]]
