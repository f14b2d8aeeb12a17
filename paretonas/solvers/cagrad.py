"""CAGrad: near the mean gradient, help the objective that improves least."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.kernels.simplex_qp import raise_floor, raised_residual
from paretonas.solvers.problem import GradientProblem, PerRay


@dataclass(frozen=True, eq=False)
class CAGrad(WeightingSolver):
    """Near the mean gradient, follow the direction whose smallest improvement is largest.

    The direction d maximizes min_i g_i . d over |d - g_0| <= c |g_0|, where g_0 is the mean of the
    gradients. c = 0 gives the mean itself. For c >= 1 it does not conflict, and a large c
    approaches MGDA. For c < 1 it may conflict, and it is 0 only if the mean is 0. Permuting the
    objectives permutes the weights, and the answer grows in proportion to all gradients together.

    If the convex hull of the gradients contains 0, it is possible that no step within the radius
    improves all objectives. Then the direction is the nearest one to the mean that makes no
    objective worse, which is one of the optima ("stationary" in the certificate). A zero gradient
    puts 0 in the hull.

    The program is solved exactly: the floor min_i g_i . d is raised from one change of support to
    the next. The published code calls a general solver and adds 1e-8 to the length of g_w. It can
    also divide the answer by 1 + c^2 or by 1 + c, which only changes the learning rate.

    Attributes:
        c: radius relative to the length of the mean gradient, at least 0; 0.4 in most of the
            paper's experiments.

    Raises:
        ValueError: c is negative or not finite.

    References:
        Liu et al., Conflict-Averse Gradient Descent for Multi-task Learning (2021),
        arXiv 2110.14048.

    >>> import torch
    >>> CAGrad(c=0.5)(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])).vector
    tensor([0.2500, 0.0000])
    """

    c: float = 0.4

    def __post_init__(self) -> None:
        """Check the radius."""
        if not 0.0 <= self.c < math.inf:
            raise ValueError(f"c must be non-negative and finite, got {self.c}")

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return 1 + c times the length of the mean gradient."""
        equal = problem.spread(None)
        return (1.0 + self.c) * problem.length(equal)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Raise the floor on unit gradients, at a scale where the longest has length 1."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        longest = norms.max(-1, keepdims=True)
        lengths = norms / (longest if longest.all() else np.where(longest > 0, longest, 1.0))
        mean = lengths / problem.m
        radius = self.c * _length(cosines, mean)
        raised = raise_floor(cosines, lengths, mean, radius)
        # A sum that cancels to the last digits is set to 0: its direction would be random.
        terms = mean + raised.v
        moves = _length(cosines, terms) > 0
        lit = lengths > 0
        weights = np.where(lit & moves[:, None], terms / np.where(lit, lengths, 1.0), 0.0)
        return Answer(
            weights,
            residual=lambda: np.where(
                moves, raised_residual(cosines, lengths, mean, radius, raised), 0.0
            ),
            branch=lambda: tuple("stationary" if at else "exact" for at in raised.blocked),
            state=state,
        )


def _length(cosines: np.ndarray, terms: np.ndarray) -> np.ndarray:
    square = np.vecdot(terms, np.matvec(cosines, terms))
    noise = RESOLUTION * np.abs(terms).sum(-1)
    return np.where(square > noise * noise, np.sqrt(np.maximum(square, 0.0)), 0.0)
