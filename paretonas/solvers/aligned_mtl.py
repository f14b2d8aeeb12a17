"""Aligned-MTL: make the gradients orthogonal and equally long, then sum them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay, check_preference

Array = np.ndarray
Scale = Literal["min", "median", "rmse"]
EPS = float(np.finfo(np.float64).eps)
MILD = 1e-6  # ratio of eigenvalues down to which the spectrum of the Gram matrix is accurate


@dataclass(frozen=True, eq=False)
class AlignedMTL(WeightingSolver):
    """Replace the gradients by the nearest orthogonal, equally long ones, and sum these.

    The gradients have the singular values s_1 >= ... >= s_k > 0. All are replaced by one common
    value, so that no direction dominates. Permuting the objectives permutes the weights. The answer
    grows in proportion to all gradients together. It may conflict, and depends on the length of
    each gradient. It is 0 only if the preferred combination of the gradients is 0.

    The rank k is that of the unit gradients, so that a short gradient still counts; the answer
    jumps where the rank changes. Lengths up to 1e12 apart are resolved; a shorter gradient counts
    as 0. A zero gradient is left out, with weight 0.

    Attributes:
        scale: the common length: "min" is s_k, as published; "median" is the (lower) median and
            "rmse" the root mean square of s_1 ... s_k.
        preference: the weight of each aligned gradient, positive and summing to 1, (m,) or (r, m);
            None is 1/m each. The published code uses 1 each, so its answer is m times as long.

    Raises:
        ValueError: the scale is unknown, or the preference is not positive or does not sum to 1.

    References:
        Senushkin et al., Independent Component Alignment for Multi-Task Learning (2023),
        arXiv 2305.19000.

    >>> import torch
    >>> AlignedMTL()(torch.tensor([[4.0, 0.0], [0.0, 1.0]])).vector
    tensor([0.5000, 0.5000])
    """

    scale: Scale = "min"
    preference: Tensor | None = None

    def __post_init__(self) -> None:
        """Check both."""
        if self.scale not in get_args(Scale):
            raise ValueError(f"scale must be one of {get_args(Scale)}, got {self.scale!r}")
        check_preference(self.preference)

    def total_weight(self, m: int) -> float:
        """Return sqrt(m) if no gradient is made longer; else infinity."""
        return math.sqrt(m) if self.scale == "min" else math.inf

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return a bound: no singular value exceeds the root of the sum of squared lengths."""
        wanted, norms = problem.spread(self.preference), problem.gram.norms
        longest: Array = np.linalg.norm(wanted, axis=-1) * np.linalg.norm(norms, axis=-1)
        return longest

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Find the spectrum of the gradients, and make all singular values equal."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        wanted = problem.spread(self.preference)
        longest = np.maximum.reduce(norms, -1)[:, None]
        lengths = norms / (longest + (longest == 0.0))
        values, vectors = np.linalg.eigh(cosines * lengths[:, :, None] * lengths[:, None, :])
        singular = np.sqrt(np.maximum(values, 0.0))
        wild = values[:, 0] <= MILD * values[:, -1]
        if self.scale == "min" and not wild.any():
            parts = np.vecmat(wanted, vectors) / singular
            weights = singular[:, :1] * np.matvec(vectors, parts)
            return Answer(weights, branch=f"rank {problem.m}", state=state)
        rank = np.full(problem.r, problem.m)
        if wild.any():
            vectors[wild], singular[wild], rank[wild] = _careful(cosines[wild], lengths[wild])
        kept = np.arange(problem.m - 1, -1, -1) < rank[:, None]  # singular values ascend
        parts = np.vecmat(wanted, vectors) / np.where(kept, singular, np.inf)
        weights = self._common(singular, kept, rank)[:, None] * np.matvec(vectors, parts)
        return Answer(weights, branch=lambda: tuple(f"rank {found}" for found in rank), state=state)

    def _common(self, singular: Array, kept: Array, rank: Array) -> Array:
        if self.scale == "rmse":
            squares = np.where(kept, singular * singular, 0.0).sum(-1)
            mean: Array = np.sqrt(squares / np.maximum(rank, 1))
            return mean
        m = singular.shape[-1]
        place = m - rank + (0 if self.scale == "min" else (rank - 1) // 2)
        place = np.clip(place, 0, m - 1)
        chosen: Array = np.take_along_axis(singular, place[:, None], -1)[:, 0]
        return chosen


def _careful(
    cosines: Float[Array, "k m m"], lengths: Float[Array, "k m"]
) -> tuple[Float[Array, "k m m"], Float[Array, "k m"], Int[Array, " k"]]:
    # Singular values of a square root of the Gram matrix have twice the digits of the eigenvalues
    # of the matrix. Its rows are unit vectors times the lengths: the rank depends on angles only.
    m = lengths.shape[-1]
    lit = lengths > 0
    values, vectors = np.linalg.eigh(cosines * lit[:, :, None] * lit[:, None, :])
    kept = values > 4 * m * EPS * values[:, -1:]
    root = vectors * np.sqrt(np.where(kept, values, 0.0))[:, None, :]
    left, singular, _ = np.linalg.svd(lengths[:, :, None] * root)
    resolved = singular > 4 * m * EPS * singular[:, :1]
    rank = np.minimum(kept.sum(-1), resolved.sum(-1))
    return left[:, :, ::-1], singular[:, ::-1], rank
