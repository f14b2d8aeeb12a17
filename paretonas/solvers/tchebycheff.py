"""Tchebycheff scalarizations: improve the objective that is worst along the ray."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, check_point, check_preference

GONE = 700.0  # exp(-700) is about the smallest normal number of float64


@dataclass(frozen=True, eq=False)
class SmoothTchebycheff(WeightingSolver):
    """Descend a smooth maximum of the weighted objectives; it can reach every point of a front.

    The direction is the gradient of mu * log(sum_i exp(preference_i * (value_i - ideal_i) / mu)).
    Its minimum is Pareto optimal for each preference, even if the front is not convex. It descends
    one scalar, so single objectives may get worse on the way. The weights depend only on the
    values, so one backward pass, of the weighted sum, is enough. The weights do not become 0 at a
    Pareto stationary point; the direction is 0 where the weighted gradients cancel.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each. The larger its
            entry, the smaller that objective becomes.
        mu: smoothness, in the unit of preference * value; near 0 it becomes ``Tchebycheff``.
            With values normalized to about [0, 1], 0.01 to 0.1 is a good start.
        ideal: (m,), a lower bound of each objective, in its unit; None is 0.

    Raises:
        ValueError: mu is not positive, or the preference or the ideal does not fit.

    References:
        Lin et al., Smooth Tchebycheff Scalarization (2024), arXiv 2402.19078.

    >>> import torch
    >>> J, values = torch.eye(2), torch.tensor([0.9, 0.1])
    >>> SmoothTchebycheff(mu=0.01)(J, values).vector.round(decimals=3)
    tensor([0.5000, 0.0000])
    """

    needs_gradients: ClassVar[bool] = False

    preference: Float[Tensor, "*r m"] | None = None
    mu: float = 0.05
    ideal: Float[Tensor, " m"] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_preference(self.preference)
        check_point("ideal", self.ideal)
        if not 0 < self.mu < float("inf"):
            raise ValueError(f"mu must be positive and finite, got {self.mu}")

    def total_weight(self, m: int) -> float:
        """Return 1: each weight is at most its preference."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Differentiate the smooth maximum."""
        preference = problem.spread(self.preference)
        excess = preference * _above(problem, self.ideal)
        below = excess - excess.max(-1, keepdims=True)
        shares = np.exp(np.maximum(below, -GONE * self.mu) / self.mu)
        return Answer(shares / shares.sum(-1, keepdims=True) * preference, state=state)


@dataclass(frozen=True, eq=False)
class Tchebycheff(WeightingSolver):
    """Descend only the worst objective along the ray.

    This is the limit of ``SmoothTchebycheff`` for mu to 0: the gradient of max_i preference_i *
    (value_i - ideal_i). Exact ties share the weight. The weights depend only on the values. Since
    the direction jumps from one objective to another, the step size must decrease.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each.
        ideal: (m,), a lower bound of each objective, in its unit; None is 0.

    Raises:
        ValueError: the preference or the ideal does not fit.

    References:
        Miettinen, Nonlinear Multiobjective Optimization (1999), section 3.4.
    """

    needs_gradients: ClassVar[bool] = False

    preference: Float[Tensor, "*r m"] | None = None
    ideal: Float[Tensor, " m"] | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        check_preference(self.preference)
        check_point("ideal", self.ideal)

    def total_weight(self, m: int) -> float:
        """Return 1: each weight is at most its preference."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Share the weight among the worst objectives."""
        preference = problem.spread(self.preference)
        excess = preference * _above(problem, self.ideal)
        worst = excess == excess.max(-1, keepdims=True)
        return Answer(worst / worst.sum(-1, keepdims=True) * preference, state=state)


def _above(problem: GradientProblem, ideal: Tensor | None) -> Float[np.ndarray, "r m"]:
    values = problem.values
    if ideal is None:
        return values
    if ideal.shape != values.shape[-1:]:
        raise ValueError(
            f"ideal must have shape (m,) = ({values.shape[-1]},), got {tuple(ideal.shape)}"
        )
    above: Float[np.ndarray, "r m"] = values - ideal.detach().to("cpu", torch.float64).numpy()
    return above
