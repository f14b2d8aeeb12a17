"""Dynamic weight average: more weight for the losses that fall slower."""

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
STEEPEST = 1e3  # ratio of two means, from 0 to more, that counts for infinite


@dataclass(frozen=True, eq=False)
class DynamicWeightAverage(WeightingSolver):
    """Weigh each loss by how little it fell from one epoch to the next.

    Weights are m softmax(ratio / temperature), where ratio_i is the mean of loss i in the last
    epoch over that in the one before; 1 each in the first two epochs. Looks at values only; may
    conflict; a factor on a loss changes nothing.

    Values must not be negative: a ratio of changing signs says nothing about progress. A loss that
    was 0 and still is counts as unchanged (ratio 1); one that rises from 0 as risen a thousandfold,
    which is also where ratios end.

    Attributes:
        steps_per_epoch: calls whose values are averaged. 1 is right where values are
            deterministic, as of objectives on alpha; with minibatches, give the epoch's length.
        temperature: higher is nearer to equal weights.

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
        """Refuse settings that are none."""
        if not isinstance(self.steps_per_epoch, int) or self.steps_per_epoch < 1:
            raise ValueError(
                f"steps_per_epoch must be a whole number of at least 1, got {self.steps_per_epoch}"
            )
        positive("temperature", self.temperature)

    def total_weight(self, m: int) -> float:
        """Return m: weights are positive and sum to it."""
        return float(m)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Weigh by the two epochs before this one, and add the values to this one's mean."""
        values = problem.values
        refuse(problem, values < 0, "DynamicWeightAverage needs values of at least 0")
        known = recalled(state, STATE, (problem.r, problem.m)) or dict.fromkeys(STATE)
        last, before_last = known["last"], known["before_last"]
        if last is None and before_last is not None:
            raise ValueError("state['last'] must be there where state['before_last'] is, got None")
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
            assert isinstance(calls, int)  # as checked by ``recalled``
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
    # Both over the larger one, so that nothing overflows.
    larger = np.maximum(last, before)
    safe = np.where(larger > 0, larger, 1.0)
    above, below = last / safe, before / safe
    ratio = above / np.maximum(below, 1.0 / STEEPEST)
    return np.where(larger > 0, ratio, 1.0)
