"""Give any solver a preference vector (a ray)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.rows import Jacobian
from paretonas.solvers._wrapper import referred_back
from paretonas.solvers.base import Answer, Direction, Out, Solver, Values, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights, check_preference


@dataclass(frozen=True, eq=False)
class Weighted(WeightingSolver):
    """Add a preference to a solver that has none: each objective is multiplied by its preference.

    This multiplies both the gradient and the value. Scaling changes no angle, so a non-conflicting
    solver stays non-conflicting.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1.
        inner: the inner solver. If it weighs rows, the rows are not copied; any other solver
            (SAM-GS, GradDrop) is called with scaled rows.

    The returned weights and the certificate are about the original rows: vector == weights @
    jacobian. For a solver that does not weigh rows, the certificate is about the scaled rows.

    Raises:
        TypeError: the preference is not a floating point tensor.
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
        """Check the preference."""
        check_preference(self.preference)

    @property
    def non_conflicting(self) -> bool:  # type: ignore[override]
        """Whether the inner solver is non-conflicting."""
        return getattr(self.inner, "non_conflicting", False)

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the inner solver needs gradients."""
        return getattr(self.inner, "needs_gradients", True)

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Scale, solve, and convert the weights to the original rows; see ``WeightingSolver``."""
        if self.weighs_rows:
            return super().__call__(jacobian, values, state, out=out)
        problem = GradientProblem(jacobian, values)
        preference = problem.shaped(problem.spread(self.preference))
        rows = problem.rows.dense()
        scaled = rows * preference.reshape(problem.r, problem.m, 1).to(rows.device, rows.dtype)
        seen = None if values is None else values * preference.to(values.device, values.dtype)
        direction = self.inner(scaled if problem.batched else scaled[0], seen, state)
        if out is not None:
            vector = problem.rows.buffer(out).copy_(direction.vector).view_as(direction.vector)
            direction = replace(direction, vector=vector)
        if direction.weights is None:
            return direction
        weights = direction.weights
        return replace(direction, weights=weights * preference.to(weights.device, weights.dtype))

    @property
    def weighs_rows(self) -> bool:  # type: ignore[override]
        """Whether the inner solver weighs rows."""
        return isinstance(self.inner, WeightingSolver) and self.inner.weighs_rows

    def due(self, state: object) -> bool:
        """Whether the next call of the inner solver needs gradients."""
        return self.inner.due(state) if isinstance(self.inner, WeightingSolver) else True

    def total_weight(self, m: int) -> float:
        """Return the total weight of the inner solver: no preference is above 1."""
        return self.inner.total_weight(m) if isinstance(self.inner, WeightingSolver) else math.inf

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the longest direction of the inner solver on the scaled rows."""
        return self._weighing().longest(self._seen(problem))

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Let the inner solver rescale on the scaled rows."""
        preference = self.preference.detach().to("cpu", torch.float64).numpy()
        spread = np.broadcast_to(preference, weights.shape)
        seen = self._seen(problem) if isinstance(problem, GradientProblem) else problem
        return self._weighing().rescale(seen, weights / spread, limit)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Solve for the scaled rows.

        Raises:
            TypeError: the inner solver does not weigh rows.
        """
        answer = self._weighing().weigh(self._seen(problem), state)
        return referred_back(answer, problem.spread(self.preference))

    def _seen(self, problem: GradientProblem) -> GradientProblem:
        preference, values = problem.spread(self.preference), problem.given_values
        return problem.scaled(preference, None if values is None else values * preference)

    def _weighing(self) -> WeightingSolver:
        if not (isinstance(self.inner, WeightingSolver) and self.weighs_rows):
            raise TypeError(
                f"{type(self.inner).__name__} does not weigh rows: call with a jacobian"
            )
        return self.inner
