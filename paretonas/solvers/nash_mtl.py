"""Nash-MTL: the direction of the Nash bargaining solution among the objectives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.kernels.newton import Balance, balance, balance_residual
from paretonas.solvers.problem import GradientProblem, PerRay


@dataclass(frozen=True, eq=False)
class NashMTL(WeightingSolver):
    """Follow the direction that maximizes the product of the improvements of all objectives.

    The weights a > 0 satisfy G a = 1 / a, where G is the Gram matrix: the product of weight and
    improvement is the same for all objectives. It never conflicts. Permuting the objectives
    permutes the weights. Only the angles between gradients matter, not their lengths: multiplying
    one gradient by a positive factor changes nothing.

    So the length of the direction is fixed: sqrt(m), or 1 if clipped as published. It does not
    shrink near a Pareto stationary point. If the convex hull of the gradients contains 0 (to 3e-8
    of their lengths), such weights do not exist; the direction is then 0 and the branch is
    "stationary". A zero gradient is left out, with weight 0. If a wrapper reuses the weights on
    other gradients, the direction on these is clipped, as published.

    The weights minimize 1/2 |sum_i a_i g_i|^2 - sum_i log a_i. Newton's method finds them exactly
    (for two objectives there is a formula). The published code takes 20 steps of a convex-concave
    procedure and keeps the weights of the previous batch if they fail.

    Attributes:
        max_norm: the largest length of the direction; 1 as published; None leaves it at sqrt(m).

    Raises:
        ValueError: max_norm is not positive.

    References:
        Navon et al., Multi-Task Learning as a Bargaining Game (2022), arXiv 2202.01017.

    >>> import torch
    >>> NashMTL(max_norm=None)(torch.tensor([[5.0, 0.0], [0.0, 0.1]])).vector
    tensor([1., 1.])
    """

    non_conflicting: ClassVar[bool] = True

    max_norm: float | None = 1.0

    def __post_init__(self) -> None:
        """Check max_norm."""
        if self.max_norm is not None and not self.max_norm > 0:
            raise ValueError(f"max_norm must be positive or None, got {self.max_norm}")

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the smaller of max_norm and sqrt(m); the gradients do not matter."""
        own = math.sqrt(problem.m)
        return np.full(problem.r, own if self.max_norm is None else min(own, self.max_norm))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Solve on unit gradients: lengths do not matter."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        lit = norms > 0
        z, stationary = _two(cosines, lit) if problem.m == 2 else _more(cosines, lit)
        rank = lit.sum(-1, keepdims=True)
        factor = lit & ~stationary[:, None]
        if self.max_norm is not None:
            factor = factor * np.minimum(1.0, self.max_norm / np.sqrt(np.maximum(rank, 1)))
        weights = factor * z / (norms if lit.all() else np.where(lit, norms, 1.0))
        return Answer(
            weights,
            residual=lambda: np.where(
                stationary, 0.0, balance_residual(cosines, np.ones_like(norms), z, 1.0)
            ),
            branch=lambda: tuple("stationary" if at else "exact" for at in stationary),
            state=state,
        )


def _two(cosines: np.ndarray, lit: np.ndarray) -> Balance:
    # Both weights are equal: z (1 + cosine) = 1 / z.
    over = 1.0 + cosines[:, :, 1 - np.arange(2)].diagonal(axis1=-2, axis2=-1)
    stationary = (0.5 * over[:, 0] <= RESOLUTION**2) & lit.all(-1)
    return Balance(1.0 / np.sqrt(np.maximum(over, RESOLUTION**2)), stationary)


def _more(cosines: np.ndarray, lit: np.ndarray) -> Balance:
    return balance(cosines, np.ones(lit.shape), lit, 1.0)
