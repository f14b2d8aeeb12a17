"""What a search says while it runs, to a person and to ``history.csv``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..front import Front
from ..metric import Metric
from ..objectives import MeasuredObjective
from ..objectives.base import maximizes
from ..point import Point
from ..runs import Run
from .clock import Clock

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
        found = [f"{name} {value:.4g}" for name, value in self.objectives.items()]
        if self.stationarity_gap is not None:
            found.append(f"stationarity gap {self.stationarity_gap:.2g}")
        said = f": {self.message or ', '.join(found)}" if self.message or found else ""
        return f"Step({self.phase}, {done}, {len(self.front)} points{said})"


class Reporter:
    """Makes the steps of a search, and logs them.

    Args:
        run: where steps are logged, if anywhere.
        clock: the time since the search began.
        columns: of the objectives with a gradient, the metrics first.
        names: of these objectives, as cosines name them.
        metrics: of the task.
        others: objectives that are only measured; the front has them too.
        guess: what guessing scores in the main metric, if it is known.

    Attributes:
        front: the measured points so far.
        weights: steps of the supernet so far.
        finalists: steps of the finalists so far.
        columns: of the objectives with a gradient.
    """

    def __init__(
        self,
        run: Run | None,
        *,
        clock: Clock,
        columns: Sequence[str],
        names: Sequence[str],
        metrics: Sequence[Metric],
        others: Sequence[MeasuredObjective],
        guess: float | None,
    ) -> None:
        maximized = [metric.column for metric in metrics if metric.maximize]
        maximized += [other.column for other in others if maximizes(other)]
        whole = [*columns, *(other.column for other in others)]
        self.front, self.weights, self.finalists = Front(whole, maximized), 0, 0
        self._steps = 0
        self._run, self._clock, self.columns = run, clock, tuple(columns)
        self._pairs = [f"{a}_{b}" for a, b in _pairs(names)]
        self._metrics, self._guess = tuple(metrics), guess
        self._worst = [-math.inf] * len(self._metrics)  # costs that were seen
        self._highest = np.zeros(len(columns) - len(self._metrics))

    def see(self, costs: Sequence[float]) -> None:
        """Count the hypervolume up to the highest costs that were seen; metrics are left out."""
        self._highest = np.maximum(self._highest, costs)

    def expect(self, steps: int) -> None:
        """There will be so many weight steps, but no fewer than there are."""
        self._steps = steps

    def step(self, phase: str, **known: Any) -> Step:
        """A step, logged in ``history.csv``."""
        seconds = self._clock.gone()
        volume = self._hypervolume()
        done = self.weights + self.finalists
        steps = max(done, self._steps)
        step = Step(phase, done, steps, self.front, seconds, hypervolume=volume, **known)
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
        for place, metric in enumerate(self._metrics):
            values = [metric.cost(point.objectives[metric.column]) for point in self.front]
            worst = metric.worst
            if worst is None and place == 0:  # guesses are of the main metric
                worst = self._guess
            self._worst[place] = max(self._worst[place], *values)
            corner = self._worst[place] if worst is None else metric.cost(worst)
            ideal = min(values) if metric.best is None else metric.cost(metric.best)
            reference.append(metric.value(corner))
            sides.append(corner - ideal)
        # Nothing is below a reference of 0: costs that are all 0.
        box = float(np.prod([*sides, *self._highest]))
        volume = self._steered().hypervolume([*reference, *self._highest.tolist()])
        return volume / box if box > 0 else None

    def _steered(self) -> Front:
        """The front in the objectives with a gradient; the others' ranges are not known ahead."""
        if len(self.columns) == len(self.front.objectives):
            return self.front
        maximized = [name for name in self.front.maximize if name in self.columns]
        front = Front(self.columns, maximized)
        for point in self.front:
            values = {column: point.objectives[column] for column in self.columns}
            front.add(Point(point.architecture, values))
        return front


def _pairs(items: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Each item with each item before it."""
    return [(items[a], items[b]) for b in range(len(items)) for a in range(b)]
