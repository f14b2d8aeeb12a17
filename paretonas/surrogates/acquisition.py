"""Acquisition functions: the expected improvement of the hypervolume, exact and sampled.

Exact where the front is known and the objectives of a candidate are independent: `Surgery` trusts
what it has measured. Sampled where the points of the front are uncertain too: the gradient search
chooses several architectures by scores with inherited weights, which are all noisy. Both add up
the same boxes that no point of the front dominates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import moocore
import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from .warp import unit

Matrix = NDArray[np.float64]
Boxes = tuple[Matrix, Matrix]  # lower and upper corners, each (b, m)
ExpectedImprovement = Callable[[Matrix], Matrix]  # thresholds (b,) -> E[max(0, t - cost)] (k, b)


def expected_hypervolume_improvement(
    front: Float[Matrix, "p m"],
    reference: Float[Matrix, " m"],
    improvements: Sequence[ExpectedImprovement],
) -> Float[Matrix, " k"]:
    """The hypervolume that each of k candidates is expected to add to a front, exactly.

    The objectives of a candidate are independent random variables of any distribution. The volume
    that a point dominates within a box is a product over objectives, so its expectation is the
    product of expectations. The boxes of `box_decomposition` are disjoint, so theirs add up. Each
    objective is counted in its `unit`, so that products of huge or tiny values do not overflow or
    underflow.

    Args:
        front: points measured.
        reference: the worst values that count.
        improvements: for each objective the expected improvement of all candidates below
            thresholds; see `certain` and `Warp.expected_improvement`.

    References:
        Yang, Emmerich, Deutz and Bäck 2019, "Efficient computation of expected hypervolume
        improvement using box decomposition algorithms" (J. Global Optimization 75; arXiv
        1904.12672).
    """
    units = [
        unit(np.append(column, worst)) for column, worst in zip(front.T, reference, strict=True)
    ]
    lower, upper = box_decomposition(front, reference)
    gain: Matrix = np.ones((1, len(lower)))
    for j, improvement in enumerate(improvements):
        edges, place = np.unique(np.concatenate([lower[:, j], upper[:, j]]), return_inverse=True)
        below = improvement(edges[1:]) / units[j]
        below = np.hstack([np.zeros((len(below), 1)), below])  # the first is -inf
        gain = gain * (below[:, place[len(lower) :]] - below[:, place[: len(lower)]])
    total: Matrix = gain.sum(axis=1)
    return total


def certain(costs: Float[Matrix, " k"]) -> ExpectedImprovement:
    """The improvement of costs that are known."""
    return partial(_improvement, costs[:, None])


def hypervolume_improvement(points: Float[Matrix, "k m"], boxes: Boxes) -> Float[Matrix, " k"]:
    """The hypervolume that each point, certain, would add to the front of a `box_decomposition`."""
    lower, upper = boxes
    sides = upper - np.maximum(lower, points[:, None])
    total: Matrix = np.maximum(sides, 0.0).prod(axis=2).sum(axis=1)
    return total


def select_batch(
    draws: Float[Matrix, "s k u"],
    costs: Float[Matrix, "k l"],
    reference: Float[Matrix, " m"],
    count: int,
    known: int = 0,
) -> list[int]:
    """Select candidates one after the other, each adding the most hypervolume on average.

    The first objectives of every architecture are uncertain, also of those that were measured. They
    are given as joint draws. The other objectives are known. A selected candidate counts as known
    from then on, so that the next one does not repeat it.

    Args:
        draws: (s, k, u) joint draws of the first u objectives.
        costs: (k, l) the other objectives.
        reference: (u + l,) the worst values that count.
        count: how many to select.
        known: the first so many architectures are evaluated already.

    Returns:
        Indices of candidates, best first; fewer than `count` if there are no more.

    References:
        Daulton et al. 2021, "Parallel Bayesian optimization of multiple noisy objectives with
        expected hypervolume improvement" (arXiv 2105.08195): sequential greedy, by sampling.
    """
    points = [np.column_stack([draw, costs]) for draw in draws]
    boxes = [box_decomposition(own[:known], reference) for own in points]
    gains = np.array(
        [hypervolume_improvement(own, b) for own, b in zip(points, boxes, strict=True)]
    )
    gains[:, :known] = -np.inf
    selected: list[int] = []
    while len(selected) < min(count, draws.shape[1] - known):
        # A gain can only shrink as the front grows, so only the leaders are computed again.
        fresh: set[int] = set()
        while (leader := int(gains.mean(axis=0).argmax())) not in fresh:
            gains[:, leader] = [
                hypervolume_improvement(own[leader : leader + 1], b)[0]
                for own, b in zip(points, boxes, strict=True)
            ]
            fresh.add(leader)
        selected.append(leader)
        gains[:, leader] = -np.inf
        boxes = [_cut(b, own[leader]) for b, own in zip(boxes, points, strict=True)]
    return selected


def box_decomposition(front: Float[Matrix, "p m"], reference: Float[Matrix, " m"]) -> Boxes:
    """Disjoint boxes that cover all that is below the reference and that no point dominates.

    It starts with one box without lower bounds and cuts off what each point dominates. The rest of
    a box is split into at most one piece for each objective.

    Returns:
        The lower and the upper corners.
    """
    boxes = np.full((1, len(reference)), -np.inf), np.array(reference, dtype=float)[None]
    inside = front[(front < reference).all(axis=1)]
    if len(inside):
        inside = inside[moocore.is_nondominated(inside, keep_weakly=False)]
    for point in inside[np.argsort(inside[:, -1], kind="stable")]:
        boxes = _cut(boxes, point)
    return boxes


def _cut(boxes: Boxes, point: Float[Matrix, " m"]) -> Boxes:
    """The boxes without what a point dominates."""
    lower, upper = boxes
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
    return np.concatenate([p[0] for p in pieces]), np.concatenate([p[1] for p in pieces])


def _improvement(
    costs: Float[Matrix, "k 1"], thresholds: Float[Matrix, " b"]
) -> Float[Matrix, "k b"]:
    return np.maximum(thresholds - costs, 0.0)
