"""What no point of a front dominates yet, and how much of it other points would.

Exactly, by boxes, for up to four objectives. The number of boxes grows with a power of the number
of points that grows with the number of objectives: a hundred points make a hundred thousand boxes
in eight dimensions. For more objectives the volume is therefore a mean over directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import gamma, pi
from typing import Protocol, Self

import moocore
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

MOST_BOXED = 4  # objectives
DIRECTIONS = 1024


class Uncovered(Protocol):
    """What is below the reference, and no point of a front dominates."""

    def gains(self, points: Float[Matrix, "k m"]) -> Float[Matrix, " k"]:
        """The hypervolume that each point, certain, would add to the front."""
        ...

    def without(self, point: Float[Matrix, " m"]) -> Self:
        """The rest, when the point is part of the front."""
        ...


def uncovered(
    front: Float[Matrix, "p m"], reference: Float[Matrix, " m"], low: Float[Matrix, " m"]
) -> Uncovered:
    """What a front leaves.

    Args:
        front: the points; those that others dominate do no harm.
        reference: the worst values that count.
        low: the best values to be expected. They say how large each objective is, no more.
    """
    if len(reference) <= MOST_BOXED:
        return Boxes.of(front, reference)
    return Directions.of(front, reference, low)


@dataclass(frozen=True, eq=False)
class Boxes:
    """Disjoint boxes, exactly.

    Attributes:
        lower: (b, m) corners; the first boxes have none, which is -inf.
        upper: (b, m) corners.
    """

    lower: Matrix
    upper: Matrix

    @classmethod
    def of(cls, front: Float[Matrix, "p m"], reference: Float[Matrix, " m"]) -> Boxes:
        """Cut off what each point dominates, beginning with one box without lower bounds.

        The rest of a box is split into at most one piece for each objective.
        """
        boxes = cls(np.full((1, len(reference)), -np.inf), np.array(reference, dtype=float)[None])
        inside = front[(front < reference).all(axis=1)]
        if len(inside):
            inside = inside[moocore.is_nondominated(inside, keep_weakly=False)]
        for point in inside[np.argsort(inside[:, -1], kind="stable")]:
            boxes = boxes.without(point)
        return boxes

    def gains(self, points: Float[Matrix, "k m"]) -> Float[Matrix, " k"]:
        """The hypervolume that each point, certain, would add to the front."""
        sides = self.upper - np.maximum(self.lower, points[:, None])
        total: Matrix = np.maximum(sides, 0.0).prod(axis=2).sum(axis=1)
        return total

    def without(self, point: Float[Matrix, " m"]) -> Boxes:
        """The boxes without what a point dominates."""
        cut = (self.upper > point).all(axis=1)
        low, up = self.lower[cut], self.upper[cut]
        pieces = [(self.lower[~cut], self.upper[~cut])]
        for j, value in enumerate(point):
            # Better than the point in objective j, not better in those before.
            part = low[:, j] < value
            piece = up[part].copy()
            piece[:, j] = value
            pieces.append((low[part], piece))
            low = low.copy()
            low[:, j] = np.maximum(low[:, j], value)
        lower, upper = (np.concatenate(corners) for corners in zip(*pieces, strict=True))
        return Boxes(lower, upper)


@dataclass(frozen=True, eq=False)
class Directions:
    """The hypervolume as a mean over directions from the reference: how far the front reaches.

    In each direction the distance to where the front ends, to the power of the number of
    objectives, counts; the mean over all directions is the hypervolume up to a factor, which is
    known. The directions are the same each time, so that gains can be compared.

    References:
        Zhang and Golovin 2020, "Random hypervolume scalarizations for provable multi-objective
        black box optimization" (arXiv 2006.04655).

    Attributes:
        reference: (m,).
        size: (m,) of each objective; directions are drawn where each has the size 1.
        reached: (d,) the distance at which the front ends.
    """

    reference: Matrix
    size: Matrix
    reached: Matrix

    @classmethod
    def of(
        cls,
        front: Float[Matrix, "p m"],
        reference: Float[Matrix, " m"],
        low: Float[Matrix, " m"],
    ) -> Directions:
        """How far a front reaches."""
        size = np.where(reference > low, reference - low, 1.0)
        nothing = cls(np.asarray(reference, dtype=float), size, np.zeros(DIRECTIONS))
        return replace(nothing, reached=nothing._reach(front).max(axis=0, initial=0.0))

    def gains(self, points: Float[Matrix, "k m"]) -> Float[Matrix, " k"]:
        """The hypervolume that each point, certain, would add to the front, nearly."""
        m, distance = len(self.reference), self._reach(points)
        ball = pi ** (m / 2) / (2**m * gamma(m / 2 + 1))  # the positive part of the unit ball
        adds, way = np.nonzero(distance > self.reached)  # few do: powers are slow
        shells = distance[adds, way] ** m - self.reached[way] ** m
        total = np.bincount(adds, shells, minlength=len(points)) / DIRECTIONS
        gains: Matrix = ball * self.size.prod() * total
        return gains

    def without(self, point: Float[Matrix, " m"]) -> Directions:
        """The rest, when the point is part of the front."""
        return replace(self, reached=np.maximum(self.reached, self._reach(point[None])[0]))

    def _reach(self, points: Float[Matrix, "k m"]) -> Float[Matrix, "k d"]:
        sides = np.maximum(self.reference - points, 0.0) / self.size
        distance = np.full((len(points), DIRECTIONS), np.inf)
        for side, along in zip(sides.T, _directions(len(self.reference)), strict=True):
            np.minimum(distance, side[:, None] / along, out=distance)
        return distance


@cache
def _directions(m: int) -> Matrix:
    """(m, d) of length 1, spread evenly over the positive part of the sphere."""
    even = torch.quasirandom.SobolEngine(m, scramble=True, seed=0).draw(
        DIRECTIONS, dtype=torch.float64
    )
    normal = torch.special.erfinv(even.clamp(1e-9, 1 - 1e-9)).numpy().T
    directions: Matrix = normal / np.linalg.norm(normal, axis=0)
    return directions
