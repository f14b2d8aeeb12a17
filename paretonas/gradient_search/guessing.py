"""What guessing scores, and whether the networks that were found are any better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ..constraint import split_unit
from ..direction import turned
from ..front import Front, Point
from ..tasks.task import Task

WORST = "guessing, by the worst value of the metric,"
LONGER = "give a larger budget, or the recipe more epochs"


@dataclass(frozen=True)
class Guessing:
    """What a constant answer scores on the validation split, as a task or its metric tells it.

    Attributes:
        column: the metric.
        value: in the metric's own direction and unit.
        margin: two standard deviations of that value over splits of this size.
        maximize: whether larger values are better.
        words: how the answer is made.
    """

    column: str
    value: float
    margin: float
    maximize: bool = False
    words: str = "always answering the most frequent class"

    @classmethod
    def of(cls, task: Task) -> Guessing | None:
        """What guessing scores, or else the worst value that counts; None if neither is known."""
        told, metric = getattr(task, "guess", None), task.metric
        guess = told() if callable(told) else None
        if guess is None or not (math.isfinite(guess.value) and math.isfinite(guess.margin)):
            if metric.worst is None:
                return None
            return cls(metric.column, metric.worst, 0.0, metric.maximize, WORST)
        return cls(metric.column, guess.value, guess.margin, metric.maximize, guess.words)

    @classmethod
    def told(cls, about: Mapping[str, object]) -> Guessing | None:
        """Read it from ``run.json``; None if it is not there."""
        match about.get("guessing"):
            case {  # of an older run
                "error_percent": float() | int() as value,
                "sampling_error_percent": float() | int() as error,
            }:
                return cls("error_percent", value, 2 * error)
            case {
                "column": str(column),
                "value": float() | int() as value,
                "margin": float() | int() as margin,
                "maximize": bool(maximize),
                "words": str(words),
            }:
                return cls(column, value, margin, maximize, words)
        return None

    def as_good_as(self, value: float) -> bool:
        """Whether a network with this value is no better, within the margin."""
        guessed = turned(self.value, self.maximize)
        return turned(value, self.maximize) >= guessed - self.margin

    def remark(self, front: Front) -> str:
        """One line on a front of which the best network, or else the knee, is no better.

        Returns:
            Nothing where both are better.
        """
        if not len(front) or self.column not in front.objectives:
            return ""
        values = [point.objectives[self.column] for point in front]
        best = max(values) if self.maximize else min(values)
        if self.as_good_as(best):
            told = f"the best network {self._has(best)} on the validation examples"
            return f"no better than guessing: {told}, {self._told}; {LONGER}"
        knee = self.remark_on(front.knee())
        return f"the knee {knee}; pick another, or {LONGER}" if knee else ""

    def remark_on(self, point: Point) -> str:
        """One line on a point that is no better; nothing on one that is."""
        value = point.objectives.get(self.column)
        if value is None or not self.as_good_as(value):
            return ""
        told = f"it {self._has(value)} on the validation examples"
        return f"{point.id} is no better than guessing: {told}, {self._told}"

    @property
    def _told(self) -> str:
        return f"{self.words} {self._has(self.value, self.margin or None)}"

    def _has(self, value: float, margin: float | None = None) -> str:
        name, unit = split_unit(self.column)
        number = "{:.1f}" if unit == "percent" else "{:.4g}"
        text = number.format(value)
        if margin is not None:
            text += f" ± {number.format(margin)}"
        text += " %" if unit == "percent" else f" {unit}" if unit else ""
        return f"errs in {text}" if name == "error" else f"has {name.replace('_', ' ')} {text}"
