"""How much objectives conflict: angles and lengths of their gradients, pair by pair.

Every function takes a jacobian in any form that a solver takes: (m, n), row i the gradient of
objective i; (r, m, n); a list of m rows; a list of blocks (m, ...), one per parameter; or a list of
m lists with one tensor per parameter, None for zeros. Answers are float64, on the host.
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
"""Cosine up to which two gradients count as orthogonal: 87 to 93 degrees."""


def cosine_similarity(jacobian: Jacobian) -> Float[Tensor, "*r m m"]:
    """Cosine of the angle between each two gradients: below 0 they conflict, above 0 they agree.

    A zero gradient has no angle: its cosine with every other is 0, with itself 1. Lengths do not
    matter, from 1e-30 to 1e30.

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
    """Likeness of the lengths of each two gradients: 1 for equal, towards 0 as one dominates.

    2 |a| |b| / (|a|^2 + |b|^2); two zero gradients are alike, 1.

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
    """Mean of the magnitude similarity over the pairs: 1 where all gradients are equally long.

    SAM-GS calls it Psi and equalizes the gradients where it is small. A lone objective has no
    pair: 1.

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
    """Say of each pair whether it is in conflict (-1), orthogonal (0) or in synergy (1).

    Orthogonal are cosines from -tolerance to tolerance, bounds included. Independent gradients in
    n dimensions have cosines of about 1 / sqrt(n), so noise alone stays within 0.05 from n = 4000
    up with 99.8 % probability. A zero gradient is orthogonal to every other.

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
    """Share of each objective in the total length of the gradients: 1/m each where none dominates.

    |g_i| / sum_j |g_j|: it sums to 1, and says who would win if the gradients were simply added.
    Where all gradients are zero nobody dominates, 1/m.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.

    Raises:
        TypeError: the jacobian is not made of floating point tensors.
        ValueError: shapes do not fit, or an entry is not finite.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782, name
        dominating gradients as one of three causes of harm but give no share; this one is ours.

    >>> import torch
    >>> dominance(torch.tensor([[3.0, 0.0], [0.0, 1.0]]))
    tensor([0.7500, 0.2500], dtype=torch.float64)
    """
    problem = GradientProblem(jacobian)
    return problem.shaped(length_shares(problem.gram.norms))


def contribution(
    jacobian: Jacobian, weights: Float[Tensor, "*r m"] | None = None
) -> Float[Tensor, "*r m"]:
    """Share of each objective in a direction: how much of its length along itself it brings.

    For d = sum_i w_i g_i it is w_i <g_i, d> / |d|^2: it sums to 1; below 0, the objective works
    against the direction and pays for it. Where the gradients cancel there is no direction, 0.

    Args:
        jacobian: the gradients of m objectives, in any form that a solver takes.
        weights: of the gradients in the direction, (m,) or (r, m), such as those that a solver
            returns; None adds the gradients up.

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
    # As a function of the ratio, so that no square can overflow.
    ratio = np.where(larger > 0, np.minimum(one, other) / np.where(larger > 0, larger, 1.0), 1.0)
    return np.asarray(2 * ratio / (1 + ratio * ratio))


def length_shares(norms: Float[np.ndarray, "*r m"]) -> Float[np.ndarray, "*r m"]:
    """Divide the total length among those who bring it."""
    peak = norms.max(-1, keepdims=True)
    parts = np.where(peak > 0, norms / np.where(peak > 0, peak, 1.0), 1.0)
    return np.asarray(parts / parts.sum(-1, keepdims=True))


def direction_shares(
    cosines: Float[np.ndarray, "*r m m"],
    norms: Float[np.ndarray, "*r m"],
    weights: Float[np.ndarray, "*r m"],
) -> Float[np.ndarray, "*r m"]:
    """Divide the squared length of sum_i w_i g_i among those who bring it."""
    # Weights and norms are brought to 1 one after the other: their product may overflow.
    terms = _at_most_1(_at_most_1(weights) * _at_most_1(norms))
    shares = terms * (cosines @ terms[..., None])[..., 0]
    square = shares.sum(-1, keepdims=True)
    moves = square > (RESOLUTION * np.abs(terms).sum(-1, keepdims=True)) ** 2
    return np.asarray(np.where(moves, shares / np.where(moves, square, 1.0), 0.0))


def check_tolerance(tolerance: float) -> None:
    """Refuse what is no cosine.

    Raises:
        ValueError: it is outside of [0, 1).
    """
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")


def _at_most_1(values: np.ndarray) -> np.ndarray:
    peak = np.abs(values).max(-1, keepdims=True)
    return np.asarray(values / np.where(peak > 0, peak, 1.0))
