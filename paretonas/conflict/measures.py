"""Measures of conflict: angles and lengths of the gradients, pair by pair.

Every function takes a jacobian in any form that a solver takes: (m, n), row i is the gradient of
objective i; (r, m, n); a list of m rows; a list of blocks (m, ...), one per parameter; or a list of
m lists with one tensor per parameter, None for zeros. Results are float64, on the host.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paretonas.gradients.kind import check_kind
from paretonas.gradients.rows import Jacobian
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.problem import GradientProblem

TOLERANCE = 0.05
"""Two gradients count as orthogonal up to this absolute cosine: 87 to 93 degrees."""


def cosine_similarity(jacobian: Jacobian) -> Float[Tensor, "*r m m"]:
    """Cosine of the angle between each two gradients: below 0 they conflict, above 0 they agree.

    A zero gradient has no angle: its cosine with every other gradient is 0, with itself 1. Lengths
    from 1e-30 to 1e30 do not matter.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.

    Raises:
        TypeError: the jacobian is not made of floating point tensors.
        ValueError: shapes do not fit, or an entry is not finite.

    >>> import torch
    >>> cosine_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]], dtype=torch.float64)
    """
    problem = GradientProblem(jacobian)
    return problem.shaped(problem.gram.cosines)


def magnitude_similarity(jacobian: Jacobian) -> Float[Tensor, "*r m m"]:
    """Gradient magnitude similarity of each two gradients: 1 for equal lengths.

    The formula is 2 |a| |b| / (|a|^2 + |b|^2). It is near 0 if one gradient dominates; for two zero
    gradients it is 1.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.

    Raises:
        TypeError: the jacobian is not made of floating point tensors.
        ValueError: shapes do not fit, or an entry is not finite.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782.

    >>> import torch
    >>> magnitude_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor([[1.0000, 0.8000],
            [0.8000, 1.0000]], dtype=torch.float64)
    """
    problem = GradientProblem(jacobian)
    norms = problem.gram.norms
    return problem.shaped(alike(norms[..., :, None], norms[..., None, :]))


def mean_magnitude_similarity(jacobian: Jacobian) -> Float[Tensor, "*r"]:
    """Mean of the magnitude similarity over the pairs: 1 if all gradients are equally long.

    SAM-GS calls it Psi and equalizes the gradients if it is small. A single objective has no pair,
    so the result is 1.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.

    Raises:
        TypeError: the jacobian is not made of floating point tensors.
        ValueError: shapes do not fit, or an entry is not finite.

    References:
        Borsani et al., Gradient Similarity Surgery in Multi-Task Deep Learning (2025), arXiv
        2506.06130: here over pairs i < j, as in its code; its Algorithm 1 averages over all i, j.

    >>> import torch
    >>> mean_magnitude_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor(0.8000, dtype=torch.float64)
    """
    problem = GradientProblem(jacobian)
    if problem.m == 1:
        return problem.shaped(np.ones(problem.r))
    one, other = np.triu_indices(problem.m, 1)
    norms = problem.gram.norms
    return problem.shaped(alike(norms[:, one], norms[:, other]).mean(-1))


def pair_states(jacobian: Jacobian, *, tolerance: float = TOLERANCE) -> Int[Tensor, "*r m m"]:
    """The state of each pair: in conflict (-1), orthogonal (0) or in synergy (1).

    Cosines from -tolerance to tolerance, bounds included, count as orthogonal. Independent
    gradients in n dimensions have cosines of about 1 / sqrt(n). So for n of 4000 or more, pure
    noise stays within 0.05 with 99.8 % probability. A zero gradient is orthogonal to every other.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.
        tolerance: in [0, 1).

    Raises:
        TypeError: the jacobian is not made of floating point tensors.
        ValueError: shapes do not fit, an entry is not finite, or the tolerance is out of range.

    >>> import torch
    >>> pair_states(torch.tensor([[1.0, 0.0], [-2.0, 1.0], [0.0, 1.0]]))
    tensor([[ 1, -1,  0],
            [-1,  1,  1],
            [ 0,  1,  1]])
    """
    check_tolerance(tolerance)
    cosines = cosine_similarity(jacobian)
    return (cosines > tolerance).long() - (cosines < -tolerance).long()


def dominance(jacobian: Jacobian) -> Float[Tensor, "*r m"]:
    """Share of each objective in the total length of the gradients: 1/m each if none dominates.

    The formula is |g_i| / sum_j |g_j|. The shares sum to 1 and show which objective dominates the
    plain sum of the gradients. If all gradients are zero, each share is 1/m.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.

    Raises:
        TypeError: the jacobian is not made of floating point tensors.
        ValueError: shapes do not fit, or an entry is not finite.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782, name
        dominating gradients as one of three causes of harm, but define no share; this one is ours.

    >>> import torch
    >>> dominance(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    problem = GradientProblem(jacobian)
    return problem.shaped(length_shares(problem.gram.norms))


def contribution(
    jacobian: Jacobian, weights: Float[Tensor, "*r m"] | None = None
) -> Float[Tensor, "*r m"]:
    """Share of each objective in a direction: its projection on the direction, relative.

    For d = sum_i w_i g_i it is w_i <g_i, d> / |d|^2. The shares sum to 1. If a share is below 0,
    the objective works against the direction. If the gradients cancel, all shares are 0.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.
        weights: the weights of the gradients in the direction, (m,) or (r, m), such as those that a
            solver returns; None means the plain sum.

    Raises:
        TypeError: the jacobian, or the weights, are not made of floating point tensors.
        ValueError: shapes do not fit, or an entry is not finite.

    >>> import torch
    >>> contribution(torch.tensor([[3.0, 0.0], [-1.0, 0.0]]))
    tensor([ 1.5000, -0.5000], dtype=torch.float64)
    """
    problem = GradientProblem(jacobian)
    factors = np.ones((problem.r, problem.m))
    if weights is not None:
        check_kind("weights", weights)
        expected = (problem.r, problem.m) if problem.batched else (problem.m,)
        if weights.shape != expected or not bool(weights.isfinite().all()):
            raise ValueError(
                f"weights must be finite with shape {expected} to fit the jacobian, "
                f"got {weights.tolist()}"
            )
        factors = weights.detach().to("cpu", torch.float64).numpy().reshape(factors.shape)
    return problem.shaped(direction_shares(problem.gram.cosines, problem.gram.norms, factors))


def alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Magnitude similarity of lengths, element by element."""
    larger = np.maximum(one, other)
    # Written as a function of the ratio, so that no square can overflow.
    ratio = np.where(larger > 0, np.minimum(one, other) / np.where(larger > 0, larger, 1.0), 1.0)
    return np.asarray(2 * ratio / (1 + ratio * ratio))


def length_shares(norms: Float[np.ndarray, "*r m"]) -> Float[np.ndarray, "*r m"]:
    """The share of each gradient in the total length."""
    peak = norms.max(-1, keepdims=True)
    parts = np.where(peak > 0, norms / np.where(peak > 0, peak, 1.0), 1.0)
    return np.asarray(parts / parts.sum(-1, keepdims=True))


def direction_shares(
    cosines: Float[np.ndarray, "*r m m"],
    norms: Float[np.ndarray, "*r m"],
    weights: Float[np.ndarray, "*r m"],
) -> Float[np.ndarray, "*r m"]:
    """The share of each gradient in the squared length of sum_i w_i g_i."""
    # Scale weights and norms to 1 one after the other: their product may overflow.
    terms = _at_most_1(_at_most_1(weights) * _at_most_1(norms))
    shares = terms * (cosines @ terms[..., None])[..., 0]
    square = shares.sum(-1, keepdims=True)
    moves = square > (RESOLUTION * np.abs(terms).sum(-1, keepdims=True)) ** 2
    return np.asarray(np.where(moves, shares / np.where(moves, square, 1.0), 0.0))


def check_tolerance(tolerance: float) -> None:
    """Refuse a tolerance out of range.

    Raises:
        ValueError: it is not in [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")


def _at_most_1(values: np.ndarray) -> np.ndarray:
    peak = np.abs(values).max(-1, keepdims=True)
    return np.asarray(values / np.where(peak > 0, peak, 1.0))
