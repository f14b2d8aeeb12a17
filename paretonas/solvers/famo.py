"""FAMO: all losses fall at the same relative rate, with one backward pass for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._aim import refuse
from paretonas.solvers._learned import LEARNED, Kind, Learned, array, positive, recalled
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, check_point

STATE: dict[str, Kind] = LEARNED | {"before": "sizes or None"}
CLEAR = 1e-8  # added to the distance from the minimum before taking its logarithm


@dataclass(frozen=True, eq=False)
class FAMO(WeightingSolver):
    """Learn weights that help the loss that falls most slowly relative to its size.

    Let z be the softmax of logits, which Adam learns, and D_i = L_i - minimum_i + 1e-8. The weights
    are z_i / D_i, scaled to sum to 1. After the step, the decrease of each log D_i gives the
    gradient for the logits. It uses values only, so one backward pass is enough. It may conflict.

    The change must be measured on the *same* batch before and after the step:

        direction = solver(jacobian, values, state)
        ...  # take the step
        state = solver.observe(direction.state, values_after_the_step)

    Without ``observe``, the values of the next call are used instead. That is exact if the values
    are deterministic, as for objectives on alpha; with minibatches it also measures noise. The
    published code also clips the gradient to norm 1; do that in the training loop.

    Attributes:
        min_losses: (m,) lower bounds of the losses; None is 0 each. A smaller value is refused.
        lr: learning rate of the logits' own Adam.
        weight_decay: decay of the logits toward equal weights (the paper's gamma; the published
            code has 0.01 and 1e-5 in two places, and 0 for its toy problem).

    The state holds the logits, Adam's moments, and the values before the last step, if they are not
    compared yet.

    Raises:
        ValueError: lr is not positive, weight_decay is negative, or a minimum is not finite; on a
            call, a value is below its minimum.

    References:
        Liu et al., FAMO: Fast Adaptive Multitask Optimization (2023), arXiv 2306.03792.

    >>> import torch
    >>> FAMO()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([0.8000, 0.2000])
    """

    needs_gradients: ClassVar[bool] = False
    min_losses: Float[Tensor, " m"] | None = None
    lr: float = 0.025
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Check the settings."""
        positive("lr", self.lr)
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(f"weight_decay must be at least 0, got {self.weight_decay}")
        check_point("min_losses", self.min_losses)

    def total_weight(self, m: int) -> float:
        """Return 1: weights are convex."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Learn from the last step, unless ``observe`` already did, and weigh."""
        now = self._above(problem)
        learned, before = self._recalled(problem, state)
        if before is not None:
            learned = self._learned(learned, before, now)
        weights = _softmax(learned.value) * (now.min(-1, keepdims=True) / now)
        weights /= weights.sum(-1, keepdims=True)
        return Answer(weights, state={**learned.plain(), "before": torch.from_numpy(now)})

    def observe(self, state: object, values: Float[Tensor, "*r m"]) -> dict[str, object]:
        """Learn from the values after the step, on the same batch as the step.

        Args:
            state: the state that the call before the step returned.
            values: (m,) or (r, m), the values after the step.

        Raises:
            TypeError: the state is not from this solver, or values are not a floating point tensor.
            ValueError: the state was observed already, a shape does not fit, or a value is below
                its minimum.
        """
        problem = GradientProblem.of_values(values)
        learned, before = self._recalled(problem, state)
        if before is None:
            raise ValueError("observe needs the state that a call returned, and takes it only once")
        after = self._learned(learned, before, self._above(problem))
        return {**after.plain(), "before": None}

    def _above(self, problem: GradientProblem) -> np.ndarray:
        least = 0.0 if self.min_losses is None else array(self.min_losses)
        if np.shape(least) not in ((), (problem.m,)):
            raise ValueError(
                f"min_losses must have shape (m,) = ({problem.m},), got {np.shape(least)}"
            )
        above: np.ndarray = problem.values - least
        refuse(problem, above < 0, "FAMO needs values of at least min_losses")
        return above + CLEAR

    def _recalled(
        self, problem: GradientProblem, state: object
    ) -> tuple[Learned, np.ndarray | None]:
        known = recalled(state, STATE, (problem.r, problem.m))
        if known is None:
            return Learned.start(problem, 0.0), None
        before = known["before"]
        return Learned.of(known), None if before is None else np.maximum(array(before), CLEAR)

    def _learned(self, learned: Learned, before: np.ndarray, after: np.ndarray) -> Learned:
        fell = np.log(before) - np.log(after)
        shares = _softmax(learned.value)
        gradient = shares * (fell - (shares * fell).sum(-1, keepdims=True))
        return learned.stepped(gradient, lr=self.lr, weight_decay=self.weight_decay)


def _softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    total: np.ndarray = raised / raised.sum(-1, keepdims=True)
    return total
