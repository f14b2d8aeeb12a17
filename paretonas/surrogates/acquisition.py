"""How much hypervolume an uncertain point is expected to add, exactly."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import moocore
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from .warp import unit

Matrix = NDArray[np.float64]
Shortfall = Callable[[Matrix], Matrix]  # thresholds (b,) -> E[max(0, threshold - Y)] (k, b)


def expected_improvement(
    front: Float[Matrix, "p m"],
    reference: Float[Matrix, " m"],
    shortfalls: Sequence[Shortfall],
) -> Float[Matrix, " k"]:
    """The hypervolume that each of k points is expected to add to a front.

    The objectives of a point are independent random variables of any distribution. The volume that
    a point dominates within a box is a product over objectives, so its expectation is one as well;
    the boxes of `uncovered` are disjoint. Each objective counts in its `unit`, since a product of
    huge or of tiny values would be lost.

    Args:
        front: points measured.
        reference: the worst values that count.
        shortfalls: for each objective, how far the points are expected to be below thresholds.

    References:
        Yang, Emmerich, Deutz and Bäck 2019, "Efficient computation of expected hypervolume
        improvement using box decomposition algorithms" (J. Global Optimization 75; arXiv
        1904.12672).
    """
    units = [
        unit(np.append(column, worst)) for column, worst in zip(front.T, reference, strict=True)
    ]
    lower, upper = uncovered(front, reference)
    gain: Matrix = np.ones((1, len(lower)))
    for j, shortfall in enumerate(shortfalls):
        edges, place = np.unique(np.concatenate([lower[:, j], upper[:, j]]), return_inverse=True)
        below = shortfall(edges[1:]) / units[j]
        below = np.hstack([np.zeros((len(below), 1)), below])  # the first is -inf
        gain = gain * (below[:, place[len(lower) :]] - below[:, place[: len(lower)]])
    total: Matrix = gain.sum(axis=1)
    return total


def uncovered(
    front: Float[Matrix, "p m"], reference: Float[Matrix, " m"]
) -> tuple[Float[Matrix, "b m"], Float[Matrix, "b m"]]:
    """Disjoint boxes that make up all that is below the reference and that no point dominates.

    Starts with one box, without lower bounds, and cuts off what each point dominates: the rest of
    a box falls into one piece for each objective at most.

    Returns:
        The lower and the upper corners.
    """
    lower = np.full((1, len(reference)), -np.inf)
    upper = np.array(reference, dtype=float)[None]
    inside = front[(front < reference).all(axis=1)]
    if len(inside):
        inside = inside[moocore.is_nondominated(inside, keep_weakly=False)]
    for point in inside[np.argsort(inside[:, -1], kind="stable")]:
        cut = (upper > point).all(axis=1)
        low, up = lower[cut], upper[cut]
        pieces = [(lower[~cut], upper[~cut])]
        for j, value in enumerate(point):
            # Better than the point in objective j, not better in those before.
            part = low[:, j] < value
            piece = up[part].copy()
            piece[:, j] = value
            pieces.append((low[part], piece))
            low = low.copy()
            low[:, j] = np.maximum(low[:, j], value)
        lower = np.concatenate([piece[0] for piece in pieces])
        upper = np.concatenate([piece[1] for piece in pieces])
    return lower, upper
