"""UPGrad and DualProj: project onto the dual cone of non-conflicting directions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.gram import Gram, dot, plain
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.kernels.nnqp import (
    ELIMINATE,
    kkt_residual,
    nonnegative_qp,
    one_nonnegative_qp,
)
from paretonas.solvers.problem import GradientProblem, PerRay, check_preference


@dataclass(frozen=True, eq=False)
class UPGrad(WeightingSolver):
    """Project each gradient until it conflicts with no other, then take the mean.

    It never conflicts. It is linear in the length of each gradient, so an objective with a gradient
    twice as long counts twice. It is 0 only where no objective can improve without harm to another.
    Permuting the objectives permutes the weights. For two objectives it is half of PCGrad. A zero
    row has no effect.

    References:
        Quinton and Rey, Jacobian Descent for Multi-Objective Optimization (2024),
        arXiv 2406.16232. Solved exactly, without the paper's ridge of 1e-4.

    >>> import torch
    >>> UPGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).vector
    tensor([0.2500, 0.7500])
    """

    non_conflicting: ClassVar[bool] = True

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the mean length: a projection is never longer than its gradient."""
        return np.asarray(problem.gram.norms.mean(-1))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Project all unit rows in one call, then restore the lengths."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        m = norms.shape[-1]
        pushes: np.ndarray | list[list[float]]
        if (alone := plain(problem.gram)) is not None:
            pushes = _few_pushes(alone[0])
            shares = (dot(alone[1], column) for column in zip(*pushes, strict=True))
            weights = np.array(
                [[(1.0 + added / n) / m for added, n in zip(shares, alone[1], strict=True)]]
            )
        else:
            pushes = _pushes(cosines)
            weights = (1.0 + _added(norms, pushes) / _nonzero(norms)) / m
        return Answer(
            weights,
            residual=lambda: kkt_residual(cosines, -cosines, np.reshape(pushes, cosines.shape)).max(
                -1
            ),
            branch="exact",
            state=state,
        )


@dataclass(frozen=True, eq=False)
class DualProj(WeightingSolver):
    """Project the mean gradient until it conflicts with no gradient.

    It never conflicts. It is 0 only where no objective can improve without harm to another.
    Permuting the objectives permutes the weights. With a preference, the weighted sum of gradients
    replaces the mean. A zero row has no effect.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each.

    References:
        Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning (2017),
        arXiv 1706.08840. There the gradient of the newest task is projected, here the mean.

    >>> import torch
    >>> DualProj()(torch.tensor([[1.0, 1.0], [-3.0, 0.0]])).vector
    tensor([-0.7500,  0.7500])
    """

    preference: Float[Tensor, "*r m"] | None = None
    non_conflicting: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check the preference."""
        check_preference(self.preference)

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the weighted mean of the lengths: a projection is never longer."""
        wanted = problem.spread(self.preference)
        return np.asarray((wanted * problem.gram.norms).sum(-1))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Project the weighted sum."""
        return project(problem.gram, problem.spread(self.preference), state)


def project(gram: Gram, weights: Float[np.ndarray, "r m"], state: object, first: int = 0) -> Answer:
    """Project a weighted sum of rows so that it conflicts with no row from ``first`` on."""
    if first == 0 and (alone := plain(gram)) is not None:
        return _project_few(gram, *alone, weights, state)
    norms = gram.norms
    terms = weights * norms
    size = _nonzero(np.abs(terms).max(-1, keepdims=True))
    cosines = gram.cosines[:, first:, first:]
    linear = _added(terms / -size, gram.cosines[:, :, first:])[:, None]
    pushes = nonnegative_qp(cosines, linear)
    moved = weights.copy()
    moved[:, first:] += pushes[:, 0] * size / _nonzero(norms[:, first:])
    return Answer(
        moved,
        residual=lambda: kkt_residual(cosines, linear, pushes)[:, 0],
        branch="exact",
        state=state,
    )


def _project_few(
    gram: Gram,
    cosines: list[list[float]],
    norms: list[float],
    weights: Float[np.ndarray, "1 m"],
    state: object,
) -> Answer:
    # Fast path for one small matrix, in plain Python numbers.
    given = weights[0].tolist()
    terms = [w * n for w, n in zip(given, norms, strict=True)]
    size = max(map(abs, terms)) or 1.0
    along = [term / -size for term in terms]
    linear = [dot(along, row) for row in cosines]
    pushes = one_nonnegative_qp(cosines, linear)
    moved = [w + x * size / n for w, x, n in zip(given, pushes, norms, strict=True)]
    return Answer(
        np.array([moved]),
        residual=lambda: kkt_residual(gram.cosines, np.array([[linear]]), np.array([[pushes]]))[
            :, 0
        ],
        branch="exact",
        state=state,
    )


def _few_pushes(cosines: list[list[float]]) -> list[list[float]]:
    # The correction of each gradient, in plain Python numbers.
    pushes = []
    for i, row in enumerate(cosines):
        matrix = [other[:i] + other[i + 1 :] for other in cosines[:i] + cosines[i + 1 :]]
        push = one_nonnegative_qp(matrix, [-cosine for cosine in row[:i] + row[i + 1 :]])
        push.insert(i, 0.0)
        pushes.append(push)
    return pushes


def _added(shares: Float[np.ndarray, "r m"], rows: Float[np.ndarray, "r m k"]) -> np.ndarray:
    # Adds few rows in their order, as the fast path does.
    if rows.shape[1] > ELIMINATE:
        total: np.ndarray = (shares[:, None] @ rows)[:, 0]
    else:
        total = (shares[:, :, None] * rows).sum(1)
    return total


def _pushes(cosines: Float[np.ndarray, "r m m"]) -> Float[np.ndarray, "r m m"]:
    # Row i is the correction of gradient i. It contains nothing of gradient i itself, so m - 1
    # variables are left. The copy pays where each variable doubles the work.
    r, m, _ = cosines.shape
    if m == 1 or m > ELIMINATE:
        return nonnegative_qp(cosines, -cosines)
    each, others = _others(m)
    matrix = cosines[:, others[:, :, None], others[:, None, :]].reshape(r * m, m - 1, m - 1)
    linear = -cosines[:, each, others].reshape(r * m, 1, m - 1)
    pushes = np.zeros((r, m, m))
    pushes[:, each, others] = nonnegative_qp(matrix, linear).reshape(r, m, m - 1)
    return pushes


@cache
def _others(m: int) -> tuple[np.ndarray, np.ndarray]:
    others = [[j for j in range(m) if j != i] for i in range(m)]
    return np.arange(m)[:, None], np.array(others)


def _nonzero(lengths: np.ndarray) -> np.ndarray:
    safe: np.ndarray = lengths + (lengths == 0.0)
    return safe
