"""Dynamic weight average (DWA): more weight for the losses that fall more slowly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from paretonas.solvers._aim import refuse
from paretonas.solvers._learned import Kind, array, positive, recalled
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem

MEANS = ("running", "last", "before_last")
STATE: dict[str, Kind] = {"calls": "count", **dict.fromkeys(MEANS, "sizes or None")}
STEEPEST = 1e3  # largest ratio of two means; it stands for infinity if a loss rises from 0


@dataclass(frozen=True, eq=False)
class DynamicWeightAverage(WeightingSolver):
    """Weigh each loss by how little it fell from one epoch to the next.

    Weights are m softmax(ratio / temperature). Here ratio_i is the mean of loss i in the last epoch
    divided by its mean in the epoch before. In the first two epochs all weights are 1. This solver
    uses values only. It may conflict. A factor on a loss changes nothing.

    Values must not be negative, since a ratio of numbers with different signs does not measure
    progress. A loss that stays 0 counts as unchanged (ratio 1). A loss that rises from 0 has the
    ratio 1000, which is also the largest ratio.

    Attributes:
        steps_per_epoch: the number of calls whose values are averaged. Use 1 if the values are
            deterministic, as for objectives on alpha; with minibatches use the epoch's length.
        temperature: a higher temperature makes the weights more equal.

    The state is the running mean and the means of the last two epochs.

    Raises:
        ValueError: a setting is not positive; on a call, a value is negative.

    References:
        Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention (2019),
        arXiv 1803.10704.

    >>> import torch
    >>> DynamicWeightAverage()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([1., 1.])
    """

    needs_gradients: ClassVar[bool] = False
    steps_per_epoch: int = 1
    temperature: float = 2.0

    def __post_init__(self) -> None:
        """Check the settings."""
        if not isinstance(self.steps_per_epoch, int) or self.steps_per_epoch < 1:
            raise ValueError(
                f"steps_per_epoch must be a whole number of at least 1, got {self.steps_per_epoch}"
            )
        positive("temperature", self.temperature)

    def total_weight(self, m: int) -> float:
        """Return m: the weights are positive and sum to m."""
        return float(m)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Weigh by the two previous epochs, and add the values to the mean of this epoch."""
        values = problem.values
        refuse(problem, values < 0, "DynamicWeightAverage needs values of at least 0")
        known = recalled(state, STATE, (problem.r, problem.m)) or dict.fromkeys(STATE)
        last, before_last = known["last"], known["before_last"]
        if last is None and before_last is not None:
            raise ValueError("state['last'] must be there if state['before_last'] is, got None")
        if before_last is None:
            weights = np.ones_like(values)
        else:
            ratio = _ratio(array(last), array(before_last))
            raised = np.exp((ratio - ratio.max(-1, keepdims=True)) / self.temperature)
            weights = problem.m * (raised / raised.sum(-1, keepdims=True))
        calls, running = known["calls"], values
        if known["running"] is None:
            calls = 1
        else:
            assert isinstance(calls, int)  # checked by ``recalled``
            calls += 1
            before = array(known["running"])
            running = before + (values - before) / calls
        mean = torch.from_numpy(running)
        if calls >= self.steps_per_epoch:
            after = {"calls": 0, "running": None, "last": mean, "before_last": last}
        else:
            after = {"calls": calls, "running": mean, "last": last, "before_last": before_last}
        return Answer(weights, state=after)


def _ratio(last: np.ndarray, before: np.ndarray) -> np.ndarray:
    # Both are divided by the larger one, so that nothing overflows.
    larger = np.maximum(last, before)
    safe = np.where(larger > 0, larger, 1.0)
    above, below = last / safe, before / safe
    ratio = above / np.maximum(below, 1.0 / STEEPEST)
    return np.where(larger > 0, ratio, 1.0)
