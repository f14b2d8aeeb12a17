"""Which architectures to evaluate next: those expected to add the most hypervolume."""

from __future__ import annotations

import moocore
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

Matrix = NDArray[np.float64]


def acquire(
    draws: Float[Matrix, "s k"],
    costs: Float[Matrix, "k l"],
    reference: Float[Matrix, " m"],
    count: int,
    known: int = 0,
) -> list[int]:
    """Choose candidates one after the other, each adding the most hypervolume on average.

    The error of every architecture is uncertain, also of those that were measured, and comes as
    joint draws; the other objectives are known. A candidate that was chosen counts as known from
    then on, so that the next one does not repeat it.

    Args:
        draws: (s, k) joint draws of the first objective.
        costs: (k, l) the other objectives.
        reference: (1 + l,) the worst values that count.
        count: how many to choose.
        known: the first so many architectures are evaluated already.

    Returns:
        Indices of candidates, best first; fewer than `count` if there are no more.

    References:
        Daulton et al. 2021, "Parallel Bayesian optimization of multiple noisy objectives with
        expected hypervolume improvement" (arXiv 2105.08195): sequential greedy, by sampling.
    """
    # Not exact as in acquisition.py, which needs a front that is known: here it is drawn.
    points = [np.column_stack([draw, costs]) for draw in draws]
    fronts = [_front(own[:known], reference) for own in points]
    gains = np.full(draws.shape, np.inf)
    gains[:, :known] = -np.inf
    chosen: list[int] = []
    while len(chosen) < min(count, draws.shape[1] - known):
        # A gain can only shrink as the front grows, so only the leaders are computed again.
        fresh: set[int] = set()
        while (leader := int(gains.mean(axis=0).argmax())) not in fresh:
            gains[:, leader] = [
                gain(own[leader], front, reference)
                for own, front in zip(points, fronts, strict=True)
            ]
            fresh.add(leader)
        chosen.append(leader)
        gains[:, leader] = -np.inf
        fronts = [
            _front(np.vstack([front, own[leader]]), reference)
            for own, front in zip(points, fronts, strict=True)
        ]
    return chosen


def gain(
    point: Float[Matrix, " m"], front: Float[Matrix, "p m"], reference: Float[Matrix, " m"]
) -> float:
    """The hypervolume that a point would add to a front."""
    if (point >= reference).any():
        return 0.0
    own = float(np.prod(reference - point))
    if len(front) == 0:
        return own
    # What the front covers of the point's box already: the front, pushed into that box.
    covered = float(moocore.hypervolume(np.maximum(front, point), ref=reference))
    return max(0.0, own - covered)


def _front(points: Float[Matrix, "p m"], reference: Float[Matrix, " m"]) -> Matrix:
    inside = points[(points < reference).all(axis=1)]
    return inside[moocore.is_nondominated(inside, keep_weakly=False)] if len(inside) else inside
