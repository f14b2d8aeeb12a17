"""GradNorm: weighted gradients of equal length, longer for tasks that learn more slowly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from paretonas.solvers._aim import refuse
from paretonas.solvers._learned import LEARNED, Kind, Learned, array, positive, recalled
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem

STATE: dict[str, Kind] = LEARNED | {"first": "sizes", "unit": "sizes"}
SMALLEST = 1e-3  # smallest weight of a task; the mean weight is 1


@dataclass(frozen=True, eq=False)
class GradNorm(WeightingSolver):
    """Learn weights that make all weighted gradients equally long, but longer for slow tasks.

    Let w be the weights and d the lengths of the gradients. Divide each loss by its first value,
    and let r_i be this ratio relative to its mean over the tasks. Adam changes w to lower the sum
    over i of |w_i d_i - mean(w d) r_i^alpha|, where mean(w d) r_i^alpha is held fixed. Weights
    start at 1, stay positive and sum to m. It needs values and gradients (at the shared parameters;
    the paper takes only their last layer). It may conflict.

    Values must not be negative. A loss that starts at 0 has r_i = 1 until its first positive value,
    which then counts as its first value. If all losses are 0, r is 1.

    Departures from the paper: the weights are at least 0.001 before they are scaled to sum to m (in
    the paper they can become negative). Lengths are measured in units of their mean on the first
    call, so that a common factor of all gradients changes nothing (it would otherwise interact with
    Adam's epsilon).

    Attributes:
        alpha: how strongly slow tasks are favored; 0 makes all lengths equal.
        lr: learning rate of the weights' own Adam.

    The state holds the weights, Adam's moments, the first losses and the unit of length. A call
    returns the weights before its own update.

    Raises:
        ValueError: alpha is negative, or lr is not positive; on a call, a value is negative.

    References:
        Chen et al., GradNorm: Gradient Normalization for Adaptive Loss Balancing (2018),
        arXiv 1711.02257.

    >>> import torch
    >>> solver, J, values = GradNorm(), torch.diag(torch.tensor([1.0, 2.0])), torch.ones(2)
    >>> first = solver(J, values)
    >>> solver(J, values, first.state).weights
    tensor([1.0250, 0.9750])
    """

    alpha: float = 1.5
    lr: float = 0.025

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 0 <= self.alpha < float("inf"):
            raise ValueError(f"alpha must be at least 0 and finite, got {self.alpha}")
        positive("lr", self.lr)

    def total_weight(self, m: int) -> float:
        """Return m: the weights are positive and sum to m."""
        return float(m)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Use the current weights, then update them from lengths and values."""
        values, norms = problem.values, problem.gram.norms
        refuse(problem, values < 0, "GradNorm needs values of at least 0")
        known = recalled(state, STATE, (problem.r, problem.m))
        if known is None:
            learned, first, unit = Learned.start(problem, 1.0), values, _mean(norms)
        else:
            learned, unit = Learned.of(known), array(known["unit"])
            first = array(known["first"])
            first = np.where(first > 0, first, values)
            unit = np.where(unit > 0, unit, _mean(norms))
        weights = learned.value.copy()  # the caller's state must not change
        lengths = norms / np.where(unit > 0, unit, 1.0)
        weighted = weights * lengths
        target = _mean(weighted) * _relative(values, first) ** self.alpha
        gradient = np.sign(weighted - target) * lengths
        after = learned.stepped(gradient, lr=self.lr)
        bounded = np.maximum(after.value, SMALLEST)
        bounded *= problem.m / bounded.sum(-1, keepdims=True)
        plain = Learned(bounded, after.mean, after.square, after.steps).plain()
        plain |= {"first": torch.from_numpy(first), "unit": torch.from_numpy(unit)}
        return Answer(weights, state=plain)


def _mean(per_task: np.ndarray) -> np.ndarray:
    # One entry per task, so that every entry of the state has the shape (r, m).
    return np.broadcast_to(per_task.mean(-1, keepdims=True), per_task.shape).copy()


def _relative(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    rates = np.where(first > 0, values / np.where(first > 0, first, 1.0), 1.0)
    mean = _mean(rates)
    return np.where(mean > 0, rates / np.where(mean > 0, mean, 1.0), 1.0)
