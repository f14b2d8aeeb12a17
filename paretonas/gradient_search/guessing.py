"""What guessing scores, and whether the networks that were found are any better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..data import Split
from ..front import Front, Point

LONGER = "give a larger budget, or the recipe more epochs"


@dataclass(frozen=True)
class Guessing:
    """The error of always answering the most frequent class.

    Attributes:
        error_percent: on the validation split.
        sampling_error_percent: one standard deviation of that error over splits of this size.
    """

    error_percent: float
    sampling_error_percent: float

    @classmethod
    def on(cls, split: Split) -> Guessing:
        """What guessing scores on a split."""
        share = int(torch.bincount(split.labels.cpu()).max()) / len(split)
        return cls(100 * (1 - share), 100 * math.sqrt(share * (1 - share) / len(split)))

    @classmethod
    def told(cls, about: Mapping[str, object]) -> Guessing | None:
        """Read it from ``run.json``; None if an older run did not write it."""
        found = about.get("guessing")
        try:
            return cls(**{name: float(value) for name, value in dict(found).items()})  # type: ignore[call-overload]
        except (TypeError, ValueError):
            return None

    def as_good_as(self, error_percent: float) -> bool:
        """Whether a network with this error is no better, within two standard deviations."""
        return error_percent >= self.error_percent - 2 * self.sampling_error_percent

    def remark(self, front: Front) -> str:
        """One line on a front of which the best network, or else the knee, is no better.

        Returns:
            Nothing where both are better.
        """
        if not len(front) or "error_percent" not in front.objectives:
            return ""
        best = min(point.objectives["error_percent"] for point in front)
        if self.as_good_as(best):
            told = f"the best network errs in {best:.1f} % of the validation examples"
            return f"no better than guessing: {told}, {self._words}; {LONGER}"
        knee = self.remark_on(front.knee())
        return f"the knee {knee}; pick another, or {LONGER}" if knee else ""

    def remark_on(self, point: Point) -> str:
        """One line on a point that is no better; nothing on one that is."""
        error = point.objectives.get("error_percent")
        if error is None or not self.as_good_as(error):
            return ""
        told = f"it errs in {error:.1f} % of the validation examples"
        return f"{point.id} is no better than guessing: {told}, {self._words}"

    @property
    def _words(self) -> str:
        margin = 2 * self.sampling_error_percent  # of the examples that it is measured on
        return (
            "always answering the most frequent class errs in "
            f"{self.error_percent:.1f} ± {margin:.1f} %"
        )
