"""MGDA: the shortest vector in the convex hull of the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.kernels.min_norm import min_norm_residual
from paretonas.solvers.problem import GradientProblem


@dataclass(frozen=True, eq=False)
class MGDA(WeightingSolver):
    """Follow the shortest convex combination of the gradients; it improves every objective.

    It never conflicts. Permuting the objectives permutes the weights. Its length goes to 0 at a
    Pareto stationary point, and one zero gradient makes it 0. The objective with the smallest
    gradient dominates. ``Normalized(MGDA(), ...)`` first divides the gradients by their lengths
    (l2), by the values (loss) or by both (loss+), as the published code does. ``Weighted`` adds a
    preference.

    It is solved exactly. Other implementations run Frank-Wolfe steps or clip the weights away from
    the vertices.

    References:
        Desideri, Multiple-gradient descent algorithm (2012), doi 10.1016/j.crma.2012.03.014.
        Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization (2018),
        arXiv 1810.04650.

    >>> import torch
    >>> MGDA()(torch.tensor([[2.0, 0.0], [0.0, 2.0]])).vector
    tensor([1., 1.])
    """

    non_conflicting: ClassVar[bool] = True

    def total_weight(self, m: int) -> float:
        """Return 1: the weights are convex."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Find the convex weights of the shortest vector."""
        weights = problem.shortest
        return Answer(
            weights,
            residual=lambda: min_norm_residual(problem.gram, weights),
            branch="exact",
            state=state,
        )
