"""Noisy measurements, and the probability that a point is on the true front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import moocore
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.direction import turned
from paretonas.front import Front
from paretonas.point import Point
from paretonas.space import Architecture, nearest

__all__ = ["Measurements"]

Spread = float | Callable[[Point], float]

_TRUST = 4  # the pooled spread weighs as much as this many repeats of the architecture itself
_CERTAIN = 6  # in standard errors: beyond this distance dominance is certain and needs no draws


class Measurements:
    """All measurements of architectures, also of those that are not on the front.

    A front keeps the best measurements, so among many architectures it keeps the lucky ones. This
    class also estimates the spread of repeated measurements. From it follows the probability that
    an architecture is on the front of the true means.

    >>> measurements = Measurements(["error_percent", "latency_ms"])
    >>> found = [("pool", 9, 1.2), ("pool", 9, 1.3), ("conv", 8, 2), ("skip", 7, 2)]
    >>> for op, error, latency in found:
    ...     measurements.add(Point({"op": op}, {"error_percent": error, "latency_ms": latency}))
    >>> [round(point.reported["probability_on_front"], 1) for point in measurements.points()]
    [1.0, 0.5, 1.0]
    >>> len(measurements.front())
    2

    The spread of each objective is estimated from repeated measurements. An architecture with few
    repeats mostly gets the pooled spread of all architectures, which is relative to their means if
    every value is positive. With more repeats, its own spread counts more. An objective without
    repeats, or whose repeats agree, is exact unless its spread is given. The noise is assumed to be
    normal and independent.

    Args:
        objectives: the names of the objectives.
        spread: for each objective with known noise, the standard deviation of one measurement: a
            number in the objective's unit, or a function of the measured point, such as
            ``lambda point: 0.05 * point.objectives["latency_ms"]``.
        maximize: the names of the objectives of which larger values are better.

    Raises:
        ValueError: there is no objective, or one is named twice; `maximize` or a spread is for
            something else; a spread is negative or not finite.
    """

    def __init__(
        self,
        objectives: Sequence[str],
        spread: Mapping[str, Spread] | None = None,
        maximize: Sequence[str] = (),
    ) -> None:
        front = Front(objectives, maximize)
        self._objectives, self._maximize = front.objectives, front.maximize
        self._spread = dict(spread or {})
        for name in self._spread:
            if name not in self._objectives:
                raise ValueError(
                    f"there is a spread for {name!r}, but no objective has this name"
                    f"{nearest(name, self._objectives)}"
                )
        self._measured: dict[Architecture, list[Point]] = {}

    def __repr__(self) -> str:
        count, columns = sum(map(len, self._measured.values())), ", ".join(self._objectives)
        return f"Measurements({columns}: {count} measurements of {len(self)} architectures)"

    def __len__(self) -> int:
        """How many architectures were measured."""
        return len(self._measured)

    def add(self, point: Point) -> None:
        """Record a measurement; an architecture may have several.

        Raises:
            ValueError: the objectives or choices are others, a value is not finite, or a spread is
                negative.
        """
        point.check_objectives(self._objectives)
        for known in self._measured:
            if known.keys() != point.architecture.keys():
                raise ValueError(f"{point} has other choices than the first, {', '.join(known)}")
            break
        for name in self._spread:
            deviation = self._deviation(name, point)
            if not 0 <= deviation < math.inf:
                raise ValueError(
                    f"the spread of {name} must be 0 or more and finite, got {deviation} at {point}"
                )
        self._measured.setdefault(point.architecture, []).append(point)

    def points(self, *, draws: int = 2000, seed: int = 0) -> tuple[Point, ...]:
        """One point per architecture, at the means of its measurements, in the order of adding.

        Each point reports ``repeats``, how often it was measured; for an objective with noise, such
        as ``latency_ms``, the ``latency_ms_standard_error`` of the mean; and
        ``probability_on_front``, the probability that no other architecture dominates it. The other
        reported values are those of its last measurement.

        Args:
            draws: how often all true means are drawn together. The probability is a share of these
                draws, so its own standard error is at most 0.5 / sqrt(draws).
            seed: the seed of the draws.

        Raises:
            ValueError: `draws` is not positive.
        """
        if draws < 1:
            raise ValueError(f"draws must be positive, got {draws}")
        if not self._measured:
            return ()
        columns = [self._estimate(name) for name in self._objectives]
        means, errors = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
        costs = np.stack(
            [
                turned(column, name in self._maximize)
                for name, column in zip(self._objectives, means.T, strict=True)
            ],
            axis=1,
        )
        probabilities = _probabilities(costs, errors, draws, np.random.default_rng(seed))
        noisy = [
            (index, name) for index, name in enumerate(self._objectives) if errors[:, index].any()
        ]
        points = []
        for row, repeats in enumerate(self._measured.values()):
            told = {f"{name}_standard_error": float(errors[row, index]) for index, name in noisy}
            points.append(
                replace(
                    repeats[-1],
                    objectives=dict(zip(self._objectives, means[row].tolist(), strict=True)),
                    reported={
                        **repeats[-1].reported,
                        "repeats": len(repeats),
                        **told,
                        "probability_on_front": float(probabilities[row]),
                    },
                )
            )
        return tuple(points)

    def front(self, *, draws: int = 2000, seed: int = 0) -> Front:
        """The front of the means; its points report the same values as those of `points`.

        Raises:
            ValueError: `draws` is not positive.
        """
        front = Front(self._objectives, self._maximize)
        for point in self.points(draws=draws, seed=seed):
            front.add(point)
        return front

    def _deviation(self, name: str, point: Point) -> float:
        spread = self._spread[name]
        return float(spread(point) if callable(spread) else spread)

    def _estimate(self, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mean of each architecture in one objective, and its standard error."""
        values = [np.array([p.objectives[name] for p in ps]) for ps in self._measured.values()]
        counts = np.array([len(repeats) for repeats in values])
        # Differences to the first value: the mean of equal values is then exactly that value.
        means = np.array([v[0] + (v - v[0]).mean() for v in values])
        if name in self._spread:
            squares = [
                [self._deviation(name, point) ** 2 for point in points]
                for points in self._measured.values()
            ]
            variances = np.array([np.mean(one) for one in squares])
        else:
            positive = all((repeats > 0).all() for repeats in values)
            scales = means if positive else np.ones_like(means)
            sums = np.array([((v - m) ** 2).sum() for v, m in zip(values, means, strict=True)])
            sums /= scales**2
            common = sums.sum() / max(1, (counts - 1).sum())
            variances = (_TRUST * common + sums) / (_TRUST + counts - 1) * scales**2
        return means, np.sqrt(variances / counts)


def _probabilities(
    means: Float[NDArray[np.float64], "k m"],
    errors: Float[NDArray[np.float64], "k m"],
    draws: int,
    rng: np.random.Generator,
) -> Float[NDArray[np.float64], " k"]:
    """For each row, the share of draws in which no other row dominates it."""
    if not errors.any():
        draws = 1
    low, high = means - _CERTAIN * errors, means + _CERTAIN * errors
    best = high[moocore.is_nondominated(high)]
    open_ = np.array([not ((best <= row).all(1) & (best < row).any(1)).any() for row in low])
    means, errors = means[open_], errors[open_]
    hits = np.zeros(len(means))
    for _ in range(draws):
        true = means + errors * rng.standard_normal(means.shape)
        hits += moocore.is_nondominated(true, keep_weakly=True)  # equal rows do not dominate
    probabilities = np.zeros(len(open_))
    probabilities[open_] = hits / draws
    return probabilities
