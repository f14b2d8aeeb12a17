"""ConFIG: the direction at equal angles to all gradients, with the sum of their projections."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from paretonas.gradients.gram import dot, plain
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.kernels.least_norm import least_norm, one_least_norm
from paretonas.solvers.problem import GradientProblem, PerRay, check_preference


@dataclass(frozen=True, eq=False)
class ConFIG(WeightingSolver):
    """Follow the direction at the same angle to every gradient; its length sums the projections.

    With the unit vector u of that direction, the answer is (sum_i g_i . u) u. If the gradients are
    linearly independent, all cosines with u are equal and positive, so it does not conflict. If
    they are dependent, u is the least-squares solution, and some cosine may be negative; the sum of
    the objectives still never gets worse. The direction is that of IMTLG with another length, which
    grows in proportion to each gradient. A zero gradient is left out, with weight 0. The direction
    is 0 if the unit gradients, or their projections on u, sum to 0.

    This solver needs only angles and lengths; the published code factorizes the m x n matrix.

    Attributes:
        preference: positive, summing to 1, (m,) or (r, m): the proportions of the cosines; None
            makes them equal. ``Weighted(ray, ConFIG())`` is different: it changes only the length.

    Raises:
        ValueError: the preference is not positive, or does not sum to 1.

    References:
        Liu et al., ConFIG: Towards Conflict-free Training of Physics Informed Neural Networks
        (2024), arXiv 2408.11104.

    >>> import torch
    >>> ConFIG()(torch.tensor([[3.0, 0.0], [0.0, 1.0]])).vector
    tensor([2., 2.])
    """

    preference: Tensor | None = None

    def __post_init__(self) -> None:
        """Check the preference."""
        check_preference(self.preference)

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the sum of the lengths: a projection is never longer than its gradient."""
        return np.asarray(problem.gram.norms.sum(-1))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Solve on unit gradients, then restore the lengths."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        wanted = problem.spread(self.preference)
        if (few := _few(problem, wanted)) is not None:
            return Answer(few, branch="equal", state=state)
        lit = norms > 0
        found = least_norm(cosines, wanted, lit)
        length = (norms * found.inner).sum(-1) / np.where(found.square > 0, found.square, 1.0)
        weights = found.z * (length[:, None] / (norms if lit.all() else np.where(lit, norms, 1.0)))
        return Answer(
            weights,
            branch=lambda: tuple("equal" if full else "least squares" for full in found.full),
            state=state,
        )


def _few(problem: GradientProblem, wanted: np.ndarray) -> np.ndarray | None:
    # Fast path for one small matrix, the usual case, in plain Python numbers.
    if (alone := plain(problem.gram)) is None:
        return None
    (cosines, norms), products = alone, wanted[0].tolist()
    if (found := one_least_norm(cosines, products)) is None:
        return None
    z, square = found
    length = dot(norms, products) / square
    return np.array([[share * (length / norm) for share, norm in zip(z, norms, strict=True)]])
