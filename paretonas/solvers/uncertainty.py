"""Uncertainty weighting: losses divided by their learned variances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.solvers._learned import balanced, positive
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem


@dataclass(frozen=True, eq=False)
class UncertaintyWeighting(WeightingSolver):
    """Weigh each loss by the inverse of its noise, learned on the way.

    Minimizes sum_i exp(-s_i) L_i / 2 + s_i / 2 over the gradients' parameters and the log variances
    s together. Weights are exp(-s_i) / 2, s starts at 0 and tends to log L_i, so in the end each
    loss is divided by about its own size. Looks at values only; may conflict.

    Values must not be negative: there the formula has no minimum (s falls without end, and the
    weights overflow). At a value of 0 neither, but a loss that is solved to the last digit is no
    error, so s is kept within [-50, 50].

    Attributes:
        lr: of the log variances' own Adam.

    The state is the log variances and Adam's moments; weights are those before the call's own step.

    Raises:
        ValueError: lr is not positive; on a call, a value is negative.

    References:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics (2018), arXiv 1705.07115; with the log variance as in its code.

    >>> import torch
    >>> UncertaintyWeighting()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([0.5000, 0.5000])
    """

    needs_gradients: ClassVar[bool] = False
    lr: float = 0.025

    def __post_init__(self) -> None:
        """Refuse a learning rate that is none."""
        positive("lr", self.lr)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Weigh by the variances so far, then learn from the values."""
        return balanced("UncertaintyWeighting", problem, state, lr=self.lr, base=0.5, sign=-1.0)
