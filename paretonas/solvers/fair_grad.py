"""FairGrad: alpha-fair sharing of the improvement among the objectives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.kernels.newton import balance, balance_residual
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights


@dataclass(frozen=True, eq=False)
class FairGrad(WeightingSolver):
    """Follow the direction whose improvements are alpha-fair.

    The direction d = sum_i x_i g_i has x_i = (g_i . d)^-alpha > 0: the less an objective improves,
    the larger its weight. A small alpha approaches the plain sum of the gradients, 1 is Nash-MTL,
    and a large alpha favors the objective that improves least. It never conflicts. Permuting the
    objectives permutes the weights.

    If all gradients grow by a factor s, the direction grows by s^((1 - alpha) / (1 + alpha)), so by
    s^(-1/3) for the default. Consider this when you choose a learning rate, or clip the length, as
    the published code does. The weights change by s^(-2 alpha / (1 + alpha)) and may leave the
    range of float32 while the direction does not.

    If the convex hull of the gradients contains 0 (to 3e-8 of their lengths), such weights do not
    exist; the direction is then 0 and the branch is "stationary". A zero gradient is left out, with
    weight 0. If alpha is far from 1, or nearly dependent gradients differ in length by 1e6, the
    weights can differ by more than float64 resolves; the certificate's KKT residual shows this.

    A wrapper that reuses weights on other gradients keeps their proportions. The length then
    follows from the equation on the current gradients. It is at most that of the last solution,
    and for alpha >= 1 at most that of the solution for the current gradients.

    The weights are the optimum of a strictly convex program, found by Newton's method on unit
    gradients; the published code uses a least-squares solver for the equation.

    Attributes:
        alpha: degree of fairness, positive; the paper's experiments use 1, 2, 5 and 10.

    Raises:
        ValueError: alpha is not positive and finite.

    References:
        Ban and Ji, Fair Resource Allocation in Multi-Task Learning (2024), arXiv 2402.15638.

    >>> import torch
    >>> FairGrad(alpha=2.0)(torch.tensor([[8.0, 0.0], [0.0, 1.0]])).vector
    tensor([0.5000, 1.0000])
    """

    non_conflicting: ClassVar[bool] = True

    alpha: float = 2.0

    def __post_init__(self) -> None:
        """Check alpha."""
        if not 0.0 < self.alpha < math.inf:
            raise ValueError(
                f"alpha must be positive and finite (0 would be LinearScalarization), "
                f"got {self.alpha}"
            )

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the length of the solution, or for alpha <= 1 a bound that needs no solution.

        |d|^2 = sum_i x_i g_i . d = sum_i (g_i . d)^(1 - alpha), and g_i . d <= |g_i| |d|.
        """
        if self.alpha > 1.0:
            return problem.length(self.weigh(problem, None).weights)
        lit = problem.gram.norms > 0
        powers = np.where(lit, problem.gram.norms, 1.0) ** (1.0 - self.alpha)
        return np.asarray((lit * powers).sum(-1) ** (1.0 / (1.0 + self.alpha)))

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Scale weights x, with fixed proportions, to the length that the equation gives.

        The solution minimizes 1/2 |sum_i x_i g_i|^2 - sum_i integral of x_i^(-1/alpha). Along x the
        minimum is where |d|^2 = sum_i x_i^(1 - 1/alpha). For alpha > 1 the overall minimum has the
        largest |d|, so no proportions give a longer direction than the solution. Where the sum of
        the gradients cancels, ``limit`` still bounds the length.
        """
        length = problem.length(weights)
        if isinstance(problem, GradientProblem):
            if self.alpha <= 1.0:
                limit = self.longest(problem)
            noise = RESOLUTION * (weights * problem.gram.norms).sum(-1)
            moves = length > noise  # else it is rounding, and the point is stationary
        else:
            moves = length > 0
        length = np.where(moves, length, 1.0)
        top = np.maximum(weights.max(-1), 1e-300)  # factored out, so that no power overflows
        shares = weights / top[:, None]
        held = shares > 0
        powers = held * np.where(held, shares, 1.0) ** (1.0 - 1.0 / self.alpha)
        square = powers.sum(-1) * (top / length) ** 2
        factors: np.ndarray = square ** (self.alpha / (1.0 + self.alpha)) / top
        return np.where(moves, np.minimum(factors, limit / length), 0.0)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Solve for unit gradients, then restore the lengths.

        With x_i = z_i |g_i|^-(1 + e) and scales t_i = |g_i|^-e, where e = (alpha - 1)/(alpha + 1),
        the equation G x = x^(-1/alpha) reads sum_j C_ij (t_j / t_i) z_j = z_i^(-1/alpha).
        """
        cosines, norms = problem.gram.cosines, problem.gram.norms
        lit = norms > 0
        safe = norms if lit.all() else np.where(lit, norms, norms.max(-1, keepdims=True))
        safe = np.where(safe > 0, safe, 1.0)
        power, exponent = 1.0 / self.alpha, (self.alpha - 1.0) / (self.alpha + 1.0)
        scales = (safe / safe.max(-1, keepdims=True)) ** -exponent
        z, stationary = balance(cosines, scales, lit, power)
        weights = np.where(lit & ~stationary[:, None], z * safe ** -(1.0 + exponent), 0.0)
        return Answer(
            weights,
            residual=lambda: np.where(stationary, 0.0, balance_residual(cosines, scales, z, power)),
            branch=lambda: tuple("stationary" if at else "exact" for at in stationary),
            state=state,
        )
