"""Aim any solver at a ray."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from paretonas.solvers.base import Direction, Solver
from paretonas.solvers.problem import Problem, check_preference


@dataclass(frozen=True, eq=False)
class Weighted:
    """Give a solver without a preference one: it sees each objective times its preference.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1.
        inner: the solver to aim.

    The weights returned refer to the rows as given, so that vector == weights @ jacobian. The
    certificate is the inner solver's, about the scaled gradients; angles do not change by scaling.

    Raises:
        ValueError: the preference is not positive or does not sum to 1.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> J = torch.eye(2)
    >>> Weighted(torch.tensor([0.8, 0.2]), MGDA())(J).weights
    tensor([0.0471, 0.1882])
    """

    preference: Float[Tensor, "*r m"]
    inner: Solver

    def __post_init__(self) -> None:
        """Refuse a preference that is none."""
        check_preference(self.preference)

    def __call__(
        self,
        jacobian: Float[Tensor, "*r m n"],
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Direction:
        """Scale, solve, and refer the weights back; see ``Solver``."""
        preference = Problem(jacobian, values).spread(self.preference).to(jacobian.dtype)
        if jacobian.ndim == 2:
            preference = preference.squeeze(0)
        scaled = None if values is None else values * preference.to(values.device, values.dtype)
        direction = self.inner(jacobian.detach() * preference.unsqueeze(-1), scaled, state)
        if direction.weights is None:
            return direction
        return replace(direction, weights=direction.weights * preference)
