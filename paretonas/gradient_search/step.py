"""What a search says while it runs, to a person and to ``history.csv``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..front import Front
from ..metric import Metric
from ..runs import Run

__all__ = ["Step"]


@dataclass(frozen=True, eq=False, repr=False)
class Step:
    """What a search has just done.

    Attributes:
        phase: costs, weights, alpha or finalists.
        step: how many weight steps are done, of the supernet and of the finalists.
        steps: how many there will be; 0 while that is not known.
        front: the measured points so far.
        seconds: since the search began.
        objectives: by column name; in the alpha phase their mean over the rays, for a finalist its
            measured values.
        cosines: between the objectives' gradients with respect to alpha, by pair of names.
        stationarity_gap: how far alpha is from Pareto stationary, mean over the rays.
        hypervolume: the share of the box below the reference that the front dominates.
        message: what a person should read.
    """

    phase: str
    step: int
    steps: int
    front: Front
    seconds: float
    objectives: Mapping[str, float] = field(default_factory=dict)
    cosines: Mapping[str, float] = field(default_factory=dict)
    stationarity_gap: float | None = None
    hypervolume: float | None = None
    message: str = ""

    def __repr__(self) -> str:
        done = f"{self.step} of {self.steps} steps" if self.steps else f"{self.step} steps"
        said = f": {self.message}" if self.message else ""
        return f"Step({self.phase}, {done}, {len(self.front)} points{said})"


class Reporter:
    """Makes the steps of a search, and logs them.

    Args:
        run: where steps are logged, if anywhere.
        start: when the search began, by `time.perf_counter`.
        columns: of the objectives, the metrics first.
        names: of the objectives, as cosines name them.
        steps: weight steps that there will be.
        steps_each: of these, the steps of a finalist.
        metrics: of the task.
        guess: what guessing scores in the main metric, if it is known.

    Attributes:
        front: the measured points so far.
        done: weight steps so far.
        columns: of the objectives.
    """

    def __init__(
        self,
        run: Run | None,
        *,
        start: float,
        columns: Sequence[str],
        names: Sequence[str],
        steps: int,
        steps_each: int,
        metrics: Sequence[Metric],
        guess: float | None,
    ) -> None:
        maximized = [metric.column for metric in metrics if metric.maximize]
        self.front, self.done = Front(columns, maximized), 0
        self._run, self._start, self.columns = run, start, tuple(columns)
        self._pairs = [f"{a}_{b}" for a, b in _pairs(names)]
        self._steps, self._steps_each = steps, steps_each
        self._metrics, self._guess = tuple(metrics), guess
        self._highest = np.zeros(len(columns) - len(self._metrics))

    def see(self, costs: Sequence[float]) -> None:
        """Count the hypervolume up to the highest costs that were seen; metrics are left out."""
        self._highest = np.maximum(self._highest, costs)

    def finalist_done(self) -> None:
        """Count the weight steps of a finalist, whether it failed or not."""
        self.done += self._steps_each

    def step(self, phase: str, **known: Any) -> Step:
        """A step, logged in ``history.csv``."""
        seconds = time.perf_counter() - self._start
        volume = self._hypervolume()
        step = Step(phase, self.done, self._steps, self.front, seconds, hypervolume=volume, **known)
        if self._run is not None and phase != "costs":
            self._run.log(
                {
                    "step": step.step,
                    "phase": phase,
                    "seconds": round(seconds, 3),
                    **{column: step.objectives.get(column) for column in self.columns},
                    **{f"cosine_{pair}": step.cosines.get(pair) for pair in self._pairs},
                    "stationarity_gap": step.stationarity_gap,
                    "hypervolume": volume,
                }
            )
        return step

    def cosines(self, matrix: Any) -> dict[str, float]:
        """Cosine similarities (m, m) by pair of names."""
        numbered = _pairs(range(len(self.columns)))
        return {
            pair: float(matrix[i, j]) for pair, (i, j) in zip(self._pairs, numbered, strict=True)
        }

    def _hypervolume(self) -> float | None:
        if not len(self.front):
            return None
        reference, sides = [], []
        for metric in self._metrics:
            values = [metric.cost(point.objectives[metric.column]) for point in self.front]
            worst = metric.worst if metric.worst is not None else self._guess
            corner = max(values) if worst is None else metric.cost(worst)
            ideal = min(values) if metric.best is None else metric.cost(metric.best)
            reference.append(metric.value(corner))
            sides.append(corner - ideal)
        # Nothing is below a reference of 0: costs that are all 0.
        box = float(np.prod([*sides, *self._highest]))
        volume = self.front.hypervolume([*reference, *self._highest.tolist()])
        return volume / box if box > 0 else None


def _pairs(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each item with each item before it."""
    return [(items[a], items[b]) for b in range(len(items)) for a in range(b)]
