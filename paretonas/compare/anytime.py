"""How good the architectures are that a run has found by each evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import moocore
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REFERENCE = 1.0  # the worst value that counts, in every scaled objective


@dataclass(frozen=True, eq=False)
class Reference:
    """What costs are measured against: a scale, and the best front that is known.

    Attributes:
        low: (m,) the lowest costs; they become 0.
        high: (m,) the highest costs; they become 1. An objective with one value only becomes 0.
        front: (f, m) the scaled costs that no other dominates, each once.
        hypervolume: what they dominate, up to 1 in each objective.
        true: whether the front is the true one, or only the best that was found.
    """

    low: Array
    high: Array
    front: Array
    hypervolume: float
    true: bool

    @classmethod
    def of(cls, costs: Array, *, true: bool) -> Reference:
        """The scale and the front of these costs, logarithms taken already.

        >>> reference = Reference.of(np.array([[1.0, 9.0], [2.0, 5.0], [3.0, 1.0]]), true=True)
        >>> reference.scaled(np.array([[2.0, 3.0]])), reference.hypervolume
        (array([[0.5 , 0.25]]), 0.25)

        Args:
            costs: (k, m), at least one row.
            true: whether these are all costs that there are.
        """
        low, high = costs.min(axis=0), costs.max(axis=0)
        scaled = _scaled(costs, low, high)
        front = scaled[moocore.is_nondominated(scaled, keep_weakly=False)]
        front = front[np.lexsort(front.T[::-1])]
        return cls(low, high, front, _hypervolume(front), true)

    def scaled(self, costs: Array) -> Array:
        """Costs (k, m) on the scale from 0 to 1."""
        return _scaled(costs, self.low, self.high)


@dataclass(frozen=True, eq=False)
class Curve:
    """A run by evaluation; entry e is after evaluation e + 1.

    Attributes:
        hypervolume: (N,) what the points found so far dominate, up to 1 in each scaled objective.
        fraction: (N,) the same as a share of the reference front's.
        igd_plus: (N,) the mean over the reference front of how much worse the closest point found
            is; before any was found, of the worst corner.
        front: (p, m) the scaled costs that the run ended with, dominated ones left out.

    References:
        Ishibuchi et al. 2015, "Modified Distance Calculation in Generational Distance and Inverted
        Generational Distance" (IGD+).
    """

    hypervolume: Array
    fraction: Array
    igd_plus: Array
    front: Array

    @classmethod
    def of(cls, costs: Sequence[Array | None], reference: Reference, budget: int) -> Curve:
        """Score a run.

        Args:
            costs: (m,) for each evaluation, logarithms taken; None for one that failed.
            reference: what to score against.
            budget: the length of the curve; a run that ended early keeps its last value.
        """
        front = np.empty((0, len(reference.low)))
        # Of each point of the reference front, how far it is from the closest point found.
        far = _shortfall(np.full(len(reference.low), REFERENCE), reference.front)
        volume, distance = 0.0, far.mean()
        volumes, distances = np.empty(budget), np.empty(budget)
        for index, cost in enumerate(costs[:budget]):
            if cost is not None:
                point = reference.scaled(cost[None])[0]
                if not (front <= point).all(axis=1).any():
                    front = np.vstack([front[~(point <= front).all(axis=1)], point])
                    volume = _hypervolume(front)
                    far = np.minimum(far, _shortfall(point, reference.front))
                    distance = far.mean()
            volumes[index], distances[index] = volume, distance
        volumes[len(costs) :], distances[len(costs) :] = volume, distance
        return cls(volumes, share(volumes, reference.hypervolume), distances, front)


def share(volumes: Array, whole: float) -> Array:
    """Hypervolumes as a share of the whole; of nothing, all have none."""
    return volumes / whole if whole > 0 else np.zeros_like(volumes)


def _scaled(costs: Array, low: Array, high: Array) -> Array:
    width = np.where(high > low, high - low, 1.0)
    scaled: Array = (costs - low) / width
    return scaled


def _hypervolume(front: Array) -> float:
    return float(moocore.hypervolume(front, ref=np.full(front.shape[1], REFERENCE)))


def _shortfall(point: Array, front: Array) -> Array:
    """(f,) how much worse the point is than each of the front; being better does not count."""
    short: Array = np.sqrt((np.maximum(point - front, 0.0) ** 2).sum(axis=1))
    return short
