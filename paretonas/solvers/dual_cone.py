"""UPGrad and DualProj: project gradients onto the cone of directions that conflict with none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._gram import Gram
from paretonas.solvers._nnqp import kkt_residual, nonnegative_qp
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import Problem, check_preference


@dataclass(frozen=True, eq=False)
class UPGrad(WeightingSolver):
    """Project each gradient until it conflicts with no other, then take the mean.

    Never conflicts; linear in the length of each gradient; is 0 only where no objective can
    improve without harm. For two objectives it is half of PCGrad.

    References:
        Quinton and Rey, Jacobian Descent for Multi-Objective Optimization (2024),
        arXiv 2406.16232. Solved exactly, without its ridge.

    >>> import torch
    >>> UPGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).vector
    tensor([0.2500, 0.7500])
    """

    non_conflicting: ClassVar[bool] = True

    def weigh(self, problem: Problem, state: object) -> Answer:
        """Project all rows in one call; lengths come back afterwards."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        m = norms.shape[-1]
        pushes = nonnegative_qp(cosines, -cosines)  # (r, m, m): row i is what is added to row i
        added = (norms.unsqueeze(-2) @ pushes).squeeze(-2) / _nonzero(norms)
        return Answer(
            (1.0 + added) / m,
            residual=lambda: kkt_residual(cosines, -cosines, pushes).amax(-1),
            branch="exact",
            state=state,
        )


@dataclass(frozen=True, eq=False)
class DualProj(WeightingSolver):
    """Project the mean gradient until it conflicts with no gradient.

    Never conflicts. With a preference, the weighted sum of gradients takes the place of the mean.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each.

    References:
        Lopez-Paz and Ranzato, Gradient Episodic Memory (2017), arXiv 1706.08840.

    >>> import torch
    >>> DualProj()(torch.tensor([[1.0, 0.0], [-3.0, 1.0]])).vector
    tensor([0.0000, 0.5000])
    """

    preference: Float[Tensor, "*r m"] | None = None
    non_conflicting: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse a preference that is none."""
        check_preference(self.preference)

    def weigh(self, problem: Problem, state: object) -> Answer:
        """Project the weighted sum."""
        return project(problem.gram, problem.spread(self.preference), state)


def project(gram: Gram, weights: Float[Tensor, "r m"], state: object, first: int = 0) -> Answer:
    """Project a weighted sum of rows to where it conflicts with no row from ``first`` on."""
    norms = gram.norms
    terms = weights * norms
    size = terms.abs().amax(-1, keepdim=True)
    terms = terms / _nonzero(size)
    cosines = gram.cosines[..., first:, first:]
    linear = -(gram.cosines[..., first:, :] @ terms.unsqueeze(-1)).mT
    pushes = nonnegative_qp(cosines, linear)
    added = torch.nn.functional.pad(pushes.squeeze(-2), (first, 0)) * size / _nonzero(norms)
    return Answer(
        weights + added,
        residual=lambda: kkt_residual(cosines, linear, pushes).squeeze(-1),
        branch="exact",
        state=state,
    )


def _nonzero(norms: Tensor) -> Tensor:
    return torch.where(norms > 0, norms, 1.0)
