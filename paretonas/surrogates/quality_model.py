"""The metrics of architectures at two fidelities: what is scored, predicted, and scored next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal

import moocore
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..metric import Metric
from ..objectives import DifferentiableObjective
from ..point import Stopped
from ..relaxation import sizes_of
from ..space import Architecture, Choice, decode, encode
from ..tasks.task import value_of
from .acquisition import select_batch
from .alpha import LEAST
from .cokriging import CoKriging, Scores
from .uncovered import Matrix

Level = Literal["inherited", "trained"]

DRAWS = 24  # of the surrogate, to choose the next proxy evaluations


class QualityModel:
    """Scores with inherited weights, metrics after training, and co-kriging between the two.

    Each metric has its own surrogate. A surrogate works on a `Coordinate` of the metric, of which
    less is better.

    Args:
        choices: of the space.
        costs: the objectives that are known without training.
        metrics: the metrics that are objectives.

    Attributes:
        inherited: for each architecture a score per metric with inherited weights (proxy
            evaluation), less is better; see `proxy`.
        trained: the value of each metric of each finalist, in the metric's own direction.
        stopped: finalists whose training was stopped early; the surrogates learn what was expected.
        failed: why architectures could not be scored, by the level at which it was tried.
    """

    def __init__(
        self,
        choices: Sequence[Choice],
        costs: Sequence[DifferentiableObjective],
        metrics: Sequence[Metric],
    ) -> None:
        self.choices, self.costs, self.metrics = tuple(choices), tuple(costs), tuple(metrics)
        self.inherited: dict[Architecture, tuple[float, ...]] = {}
        self.trained: dict[Architecture, tuple[float, ...]] = {}
        self.stopped: dict[Architecture, Stopped] = {}
        self.failed: dict[Level, dict[Architecture, str]] = {"inherited": {}, "trained": {}}
        self.scales = tuple(Coordinate(metric) for metric in self.metrics)
        self._surrogates: list[CoKriging] = []
        self._hyper: list[Tensor | None] = [None] * len(self.metrics)

    @property
    def surrogates(self) -> list[CoKriging]:
        """The surrogate of each metric after the last `fit`."""
        if not self._surrogates:
            raise RuntimeError("nothing is fitted yet")
        return self._surrogates

    def proxy(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """The scores with inherited weights, one per metric, from an evaluation of the task.

        The score of a metric is its own loss, such as ``"depth_loss"`` for the metric ``"depth"``,
        if the task has it; the loss, if there is one metric; otherwise the metric's distance to its
        best value.

        Raises:
            FloatingPointError: a score is NaN or infinite.
        """
        found = []
        for metric in self.metrics:
            name = f"{metric.name}_loss"
            if name not in scores:
                name = "loss" if len(self.metrics) == 1 and "loss" in scores else metric.column
            value = float(scores[name]) if name != metric.column else value_of(scores, metric)
            if not math.isfinite(value):
                raise FloatingPointError(f"the {name} became {value}")
            found.append(value if name != metric.column else Coordinate(metric).gap(value))
        return tuple(found)

    def fit(self) -> None:
        """Fit the surrogates to all scores."""
        known = [*self.inherited, *self.trained, *self.stopped]
        levels = torch.tensor([0] * len(self.inherited) + [1] * (len(known) - len(self.inherited)))
        picks, fitted = self._picks(known), []
        self.scales = tuple(
            Coordinate(metric, [values[j] for values in self.trained.values()])
            for j, metric in enumerate(self.metrics)
        )
        for j, scale in enumerate(self.scales):
            lent = _logs([scores[j] for scores in self.inherited.values()])
            own = [scale(values[j]) for values in self.trained.values()]
            own += [scale(one.expected[scale.metric.column]) for one in self.stopped.values()]
            scores = Scores(picks, torch.tensor([*lent, *own], dtype=torch.float64), levels)
            fitted.append(CoKriging.fit(sizes_of(self.choices), scores, self._hyper[j]))
        self._surrogates = fitted
        self._hyper = [surrogate.hyper for surrogate in fitted]

    def coordinates(
        self, costs: Sequence[DifferentiableObjective] | None = None
    ) -> Float[Tensor, "k m"]:
        """All architectures scored so far: predicted metrics, then logarithms of the costs.

        Args:
            costs: others than those of this model.
        """
        known = list(dict.fromkeys([*self.inherited, *self.trained]))
        picks = self._picks(known)
        metrics = [surrogate.mean(picks) for surrogate in self.surrogates]
        values = _costs_of(known, self.costs if costs is None else costs)
        return torch.column_stack([*metrics, torch.from_numpy(values).clamp_min(LEAST).log()])

    def costs_of(self, architectures: Sequence[Architecture]) -> Float[Matrix, "k l"]:
        """The costs of architectures."""
        return _costs_of(architectures, self.costs)

    def leaders(self) -> list[Architecture]:
        """The trained architectures that no other dominates, by tabulated costs.

        Measured costs vary from run to run, and the course of a search must not.
        """
        if not self.trained:
            return []
        known = list(self.trained)
        metrics = [
            [m.cost(v) for m, v in zip(self.metrics, self.trained[a], strict=True)] for a in known
        ]
        points = np.column_stack([metrics, self.costs_of(known)])
        best = moocore.is_nondominated(points, keep_weakly=False)
        return [a for a, leads in zip(known, best, strict=True) if leads]

    def choose(
        self,
        candidates: Sequence[Architecture],
        count: int,
        level: Level,
        *,
        seed: int,
        beyond: Set[Architecture] = frozenset(),
    ) -> list[Architecture]:
        """The candidates to score next at a level, by their expected hypervolume improvement.

        Proxy evaluations are cheap and may explore: the acquisition function takes draws of the
        surrogates. Trainings are few: it takes the means alone, which measured better.

        Args:
            candidates: none of `beyond` is among them.
            count: at most how many are chosen.
            level: at which they will be scored.
            seed: of the draws.
            beyond: what was scored, and is not on the front whatever it dominates.
        """
        known = [a for a in self.tried(level) if a not in beyond]
        both = [*known, *(a for a in dict.fromkeys(candidates) if a not in known)]
        if len(both) == len(known):
            return []
        picks, parts, worst = self._picks(both), [], []
        for j, (surrogate, scale) in enumerate(zip(self.surrogates, self.scales, strict=True)):
            if level == "trained":
                scores = surrogate.mean(picks)[None, :]
            else:
                generator = torch.Generator().manual_seed((seed + j) * 104_729 + len(known))
                scores = surrogate.sample(picks, DRAWS, generator, level=0)
            linear = scale.linear
            if level == "inherited":
                linear = _below_zero([lent[j] for lent in self.inherited.values()])
            gaps = (scores if linear else scores.exp()).numpy()
            parts.append(gaps)
            high = float(np.median(gaps.max(axis=1)))
            low = float(np.median(gaps.min(axis=1))) if linear else 0.0
            worst.append(high + 0.05 * (high - low))
        costs = self.costs_of(both)
        scored = self.costs_of([*self.inherited, *self.trained])
        reference = np.array([*worst, *(1.05 * scored.max(axis=0))])
        draws = np.stack(parts, axis=2)
        chosen = select_batch(draws, costs, reference, count, known=len(known))
        return [both[index] for index in chosen]

    def tried(self, level: Level) -> list[Architecture]:
        """The architectures that were scored at a level, or stopped before they were."""
        return [*self.trained, *self.stopped] if level == "trained" else [*self.inherited]

    def state(self) -> dict[str, Any]:
        """Plain values to go on from; see `resume`."""
        return {
            "inherited": [(list(self._row(a)), list(s)) for a, s in self.inherited.items()],
            "trained": [(list(self._row(a)), list(v)) for a, v in self.trained.items()],
            "failed": {
                level: [(list(self._row(a)), reason) for a, reason in failed.items()]
                for level, failed in self.failed.items()
            },
            "stopped": [
                (list(self._row(a)), one.reason, one.epochs, one.planned, one.scores, one.expected)
                for a, one in self.stopped.items()
            ],
            "hyper": list(self._hyper),
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        for name, scores in (("inherited", self.inherited), ("trained", self.trained)):
            scores.clear()
            for picks, found in state[name]:  # older states have one number
                scores[decode(self.choices, picks)] = (
                    tuple(found) if isinstance(found, list) else (found,)
                )
        for level, failed in state.get("failed", {}).items():  # older ones have none
            self.failed[level] = {decode(self.choices, picks): reason for picks, reason in failed}
        self.stopped = {}
        for picks, *told in state.get("stopped", []):
            architecture = decode(self.choices, picks)
            self.stopped[architecture] = Stopped(architecture, *told)
        hyper = state["hyper"]
        self._hyper = list(hyper) if isinstance(hyper, list) else [hyper] * len(self.metrics)

    def forget_all_but(self, trained: Set[Architecture]) -> None:
        """Forget the trainings of other architectures, also those that were stopped."""
        self.trained = {a: values for a, values in self.trained.items() if a in trained}
        self.stopped = {a: stopped for a, stopped in self.stopped.items() if a in trained}

    def _row(self, architecture: Architecture) -> tuple[int, ...]:
        return encode(self.choices, architecture)

    def _picks(self, architectures: Sequence[Architecture]) -> Tensor:
        return torch.tensor([self._row(a) for a in architectures], dtype=torch.long)


def _costs_of(
    architectures: Sequence[Architecture], costs: Sequence[DifferentiableObjective]
) -> Float[Matrix, "k l"]:
    if not costs:
        return np.zeros((len(architectures), 0))
    return np.array([[cost.exact(a) for cost in costs] for a in architectures])


class Coordinate:
    """A number for each value of a metric, less is better, on which values are easy to model.

    If the metric has a best possible value, it is the logarithm of the distance to it: halving an
    error counts the same from 10 % as from 1 %. Otherwise it is the value as a cost, in units of
    the spread of the values: the surrogate expects differences of about 1, as of logarithms.

    Args:
        metric: the metric.
        values: values that were measured. If one is better than the best, there is no logarithm.

    Attributes:
        linear: whether the coordinate is the cost itself, in such units.
    """

    def __init__(self, metric: Metric, values: Sequence[float] = ()) -> None:
        self.metric = metric
        gaps = [self.gap(value) for value in values]
        self.linear = metric.best is None or min(gaps, default=0.0) < 0
        self._unit = _unit([metric.cost(value) for value in values])
        # Keeps the logarithm finite at the best value.
        typical = float(np.median(gaps)) if gaps else 0.0
        self._least = metric.resolution / 2 if metric.resolution else max(0.01 * typical, 1e-9)

    def gap(self, value: float) -> float:
        """The distance of a value to the best one, as a cost."""
        best = 0.0 if self.metric.best is None else self.metric.cost(self.metric.best)
        return self.metric.cost(value) - best

    def __call__(self, value: float) -> float:
        """The coordinate of a value."""
        if self.linear:
            return self.metric.cost(value) / self._unit
        return math.log(max(self.gap(value), 0.0) + self._least)

    def value(self, coordinate: Tensor) -> Tensor:
        """The values of coordinates, but for the small number that keeps logarithms finite."""
        sign = -1.0 if self.metric.maximize else 1.0
        if self.linear:
            return sign * self._unit * coordinate
        assert self.metric.best is not None
        return self.metric.best + sign * coordinate.exp()


def _logs(scores: Sequence[float]) -> list[float]:
    """Logarithms of scores; if one is below zero, the scores in units of their spread."""
    if _below_zero(scores):
        unit = _unit(scores)
        return [score / unit for score in scores]
    return [math.log(max(score, 1e-6)) for score in scores]


def _below_zero(scores: Sequence[float]) -> bool:
    return min(scores, default=0.0) < 0


def _unit(values: Sequence[float]) -> float:
    """The spread of values; of equal values their size."""
    size = max(map(abs, values), default=0.0)
    spread = float(np.std(values)) if values else 0.0
    found = spread if spread > 1e-9 * size else size
    return found if found > 1e-30 else 1.0
