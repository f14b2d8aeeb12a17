"""Acquisition functions: the expected improvement of the hypervolume, exact and sampled.

Exact where the front is known and the few objectives of a candidate are independent: `Surgery`
trusts what it has measured. Sampled for more objectives, and where the points of the front are
uncertain too: the gradient search chooses several architectures by scores with inherited weights,
which are all noisy. Both add up parts of what is `uncovered`: what no point of the front dominates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .uncovered import Boxes, Directions, Matrix, uncovered
from .warp import unit

DRAWS = 16
ExpectedImprovement = Callable[[Matrix], Matrix]  # thresholds (b,) -> E[max(0, t - cost)] (k, b)


def expected_hypervolume_improvement(
    front: Float[Matrix, "p m"],
    reference: Float[Matrix, " m"],
    improvements: Sequence[ExpectedImprovement],
) -> Float[Matrix, " k"]:
    """The hypervolume that each of k candidates is expected to add to a front, exactly.

    The objectives of a candidate are independent random variables of any distribution. The volume
    that a point dominates within a box is a product over objectives, so its expectation is the
    product of expectations. `Boxes` are disjoint, so theirs add up. Each objective is counted in
    its `unit`, so that products of huge or tiny values do not overflow or underflow.

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
    boxes = Boxes.of(front, reference)
    lower, upper = boxes.lower, boxes.upper
    gain: Matrix = np.ones((1, len(lower)))
    for j, improvement in enumerate(improvements):
        edges, place = np.unique(np.concatenate([lower[:, j], upper[:, j]]), return_inverse=True)
        below = improvement(edges[1:]) / units[j]
        below = np.hstack([np.zeros((len(below), 1)), below])  # the first is -inf
        gain = gain * (below[:, place[len(lower) :]] - below[:, place[: len(lower)]])
    total: Matrix = gain.sum(axis=1)
    return total


def sampled_hypervolume_improvement(
    costs: Callable[[Float[Tensor, "s m"]], Float[Matrix, "s k m"]],
    rest: Directions,
) -> Float[Matrix, " k"]:
    """The same for many objectives, by a mean over draws.

    Args:
        costs: of the k candidates, from standard normal numbers, one for each objective. They are
            the same at each call, so that gains can be compared.
        rest: what the front leaves.
    """
    draws = costs(_normal(len(rest.reference)))
    mean: Matrix = np.mean([rest.gains(draw) for draw in draws], axis=0)
    return mean


@cache
def _normal(m: int) -> Float[Tensor, "s m"]:
    even = torch.quasirandom.SobolEngine(m, scramble=True, seed=1).draw(DRAWS, dtype=torch.float64)
    normal: Tensor = torch.special.ndtri(even.clamp(1e-9, 1 - 1e-9))
    return normal


def certain(costs: Float[Matrix, " k"]) -> ExpectedImprovement:
    """The improvement of costs that are known."""
    return partial(_improvement, costs[:, None])


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
    rest = [uncovered(own[:known], reference, own.min(axis=0)) for own in points]
    gains = np.array([left.gains(own) for own, left in zip(points, rest, strict=True)])
    gains[:, :known] = -np.inf
    selected: list[int] = []
    while len(selected) < min(count, draws.shape[1] - known):
        # A gain can only shrink as the front grows, so only the leaders are computed again.
        fresh: set[int] = set()
        while (leader := int(gains.mean(axis=0).argmax())) not in fresh:
            gains[:, leader] = [
                left.gains(own[leader : leader + 1])[0]
                for own, left in zip(points, rest, strict=True)
            ]
            fresh.add(leader)
        selected.append(leader)
        gains[:, leader] = -np.inf
        rest = [left.without(own[leader]) for left, own in zip(rest, points, strict=True)]
    return selected


def _improvement(
    costs: Float[Matrix, "k 1"], thresholds: Float[Matrix, " b"]
) -> Float[Matrix, "k b"]:
    return np.maximum(thresholds - costs, 0.0)
