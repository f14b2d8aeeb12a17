"""Measurements that differ by chance, and how sure their front is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import moocore
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.front import Front
from paretonas.point import Point
from paretonas.space import Architecture, nearest

__all__ = ["Measurements"]

Spread = float | Callable[[Point], float]

_TRUST = 4  # the spread of all architectures counts as much as so many repeats of one's own
_CERTAIN = 6  # standard errors on either side: what is beaten so far apart need not be drawn


class Measurements:
    """Architectures that were measured once or more, those that are not on the front as well.

    A front keeps what was measured best, and so, of many, those that were lucky. Kept together with
    how far measurements of one architecture lie apart, they tell the probability that a point is on
    the front of the true means.

    >>> measurements = Measurements(["error_percent", "latency_ms"])
    >>> found = [("pool", 9, 1.2), ("pool", 9, 1.3), ("conv", 8, 2), ("skip", 7, 2)]
    >>> for op, error, latency in found:
    ...     measurements.add(Point({"op": op}, {"error_percent": error, "latency_ms": latency}))
    >>> [round(point.reported["probability_on_front"], 1) for point in measurements.points()]
    [1.0, 0.5, 1.0]
    >>> len(measurements.front())
    2

    How far they lie apart is estimated from those that were repeated, for each objective: with few
    repeats from all architectures together, relative to their means if every value is positive,
    and the more from the architecture's own the more it has. An objective whose repeats agree, or
    that has none, is exact unless a spread is given for it. Noise is taken to be normal and
    independent.

    Args:
        objectives: their names, all minimized.
        spread: for objectives whose noise is known, the standard deviation of one measurement: a
            number in the objective's unit, or a function of the measured point, such as
            ``lambda point: 0.05 * point.objectives["latency_ms"]``.

    Raises:
        ValueError: no objective, one named twice, a spread for something else, or one that is
            negative or not finite.
    """

    def __init__(
        self, objectives: Sequence[str], spread: Mapping[str, Spread] | None = None
    ) -> None:
        self._objectives = Front(objectives).objectives
        self._spread = dict(spread or {})
        for name in self._spread:
            if name not in self._objectives:
                raise ValueError(
                    f"there is a spread for {name!r}, but no objective is called so"
                    f"{nearest(name, self._objectives)}"
                )
        self._measured: dict[Architecture, list[Point]] = {}

    def __len__(self) -> int:
        """How many architectures were measured."""
        return len(self._measured)

    def add(self, point: Point) -> None:
        """Take down a measurement; of an architecture that is known it is one more.

        Raises:
            ValueError: other objectives or choices, a value that is not finite, or a spread that
                is negative.
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

        Each reports ``repeats``, how often it was measured; for an objective with noise, such as
        ``latency_ms``, the ``latency_ms_standard_error`` of the mean; and
        ``probability_on_front``, that no other architecture dominates it. All else that it reports
        is what its last measurement did.

        Args:
            draws: how often all true means are drawn together; the probability is the share of
                draws, so its own standard error is at most 0.5 / sqrt(draws).
            seed: of the draws.

        Raises:
            ValueError: `draws` is not positive.
        """
        if draws < 1:
            raise ValueError(f"draws must be positive, got {draws}")
        if not self._measured:
            return ()
        columns = [self._estimate(name) for name in self._objectives]
        means, errors = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
        probabilities = _probabilities(means, errors, draws, np.random.default_rng(seed))
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
        """The front of the means; its points report what those of `points` do.

        Raises:
            ValueError: `draws` is not positive.
        """
        front = Front(self._objectives)
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
        # From the first value on, so that the mean of equal values is exactly theirs.
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
    """How often no row dominates each row."""
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
