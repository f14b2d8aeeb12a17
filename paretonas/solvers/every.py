"""Solve only every k steps, and reuse the weights in between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from paretonas.solvers._learned import Kind, array, recalled
from paretonas.solvers._wrapper import Wrapper, check_inner, fit, inner_state, limit_of
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem

STATE: dict[str, Kind] = {
    "inner": "inner",
    "weights": "numbers",
    "limit": "sizes or None",
    "age": "count",
}


@dataclass(frozen=True, eq=False)
class EveryKSteps(Wrapper):
    """Call a solver on every k-th call and reuse its weights on the other calls (PSMGD).

    Weights change little from step to step. A step with reused weights costs one backward pass
    instead of m; ``due`` says whether the next call needs gradients. On calls with reused weights,
    the inner solver's guarantees about angles do not hold, and it does not get the values.

    Its guarantees about length do hold. The weights of `NashMTL` and `FairGrad` depend on the
    inverse lengths of the gradients, those of `UPGrad` on their ratios. Reused without a change,
    such weights would give a huge direction when a short gradient grows. So the direction is
    shortened to the longest one that the method allows for the current gradients (``longest``), or
    scaled to the length that the method's equation gives (`FairGrad`). After one backward pass only
    the sum of the gradients is known. If the limit depends on each length, the limit of the last
    solved call is then used. Convex weights, such as those of `MGDA`, are not changed.

    Attributes:
        inner: the inner solver.
        k: the number of calls that use one answer; with 1 this is the inner solver.

    The state holds the weights, the length of the longest direction on the gradients they were
    found on, the number of calls that used them, and the inner state.

    Raises:
        TypeError: inner does not weigh rows.
        ValueError: k is below 1.

    References:
        Xu et al., PSMGD: Periodic Stochastic Multi-Gradient Descent for Fast Multi-Objective
        Optimization (2024), arXiv 2412.10961.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> solver = EveryKSteps(MGDA(), k=2)
    >>> first = solver(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> solver.due(first.state)
    False
    >>> solver(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), state=first.state).weights
    tensor([0.5000, 0.5000])
    """

    inner: WeightingSolver
    k: int = 4

    def __post_init__(self) -> None:
        """Check the settings."""
        check_inner(self.inner)
        if not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"k must be a whole number of at least 1, got {self.k}")

    def due(self, state: object) -> bool:
        """Whether the next call, with this state, needs gradients for the inner solver."""
        known = recalled(state, STATE, None)
        asks = known is None or _age(known["age"]) >= self.k
        return asks and self.inner.due(inner_state(known))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Call the inner solver, or reuse its weights."""
        known = recalled(state, STATE, (problem.r, problem.m))
        if known is None or _age(known["age"]) >= self.k:
            answer = self.inner.weigh(problem, inner_state(known))
            kept = torch.from_numpy(answer.weights.copy())
            limit = limit_of(self.inner, problem, answer)
            after = {"inner": answer.state, "weights": kept, "limit": None, "age": 1}
            if limit is not None:  # (r, m) like the weights and every other entry of a state
                wide = np.broadcast_to(limit[:, None], kept.shape)
                after["limit"] = torch.from_numpy(wide.copy())
            return answer._replace(state=after)
        older = {**known, "age": _age(known["age"]) + 1}
        weights = array(known["weights"]).copy()
        if not self.inner.needs_gradients:
            weights = fit(self.inner, problem, weights)
        limit = None if known["limit"] is None else array(known["limit"])[:, 0]
        return Answer(weights, branch="reused", state=older, limit=limit)


def _age(entry: object) -> int:
    assert isinstance(entry, int)  # checked by ``recalled``
    return entry
