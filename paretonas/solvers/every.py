"""Solve every k steps only, and reuse the weights in between."""

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
    """Ask a solver on every k-th call and reuse its weights on the others (PSMGD).

    Weights change little from step to step, and without new ones a step costs one backward pass
    instead of m: ``due`` tells whether the next call needs gradients. On a call in between, the
    inner solver's guarantees about angles do not hold, and it does not see the values.

    What it says about length does hold, on the gradients at hand: those of `NashMTL` and `FairGrad`
    go by the inverse of the gradients' lengths, those of `UPGrad` by their ratios, and kept as they
    are such weights would make an endless direction where a short gradient grows. So a direction
    in between is shortened to the longest that the method could give on these gradients
    (``longest``), or brought to the length that its equation asks for (`FairGrad`). After one
    backward pass only the sum of the gradients is known: where the limit depends on each length,
    it is then that of the last solved call. Convex weights, as of `MGDA`, are kept as they are.

    Attributes:
        inner: the solver to ask.
        k: calls that one answer serves; 1 is the inner solver.

    The state is the weights, the longest direction where they were found, how many calls they have
    served, and the inner state.

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
        """Refuse what cannot be asked."""
        check_inner(self.inner)
        if not isinstance(self.k, int) or self.k < 1:
            raise ValueError(f"k must be a whole number of at least 1, got {self.k}")

    def due(self, state: object) -> bool:
        """Say whether the next call, with this state, asks the inner solver for gradients."""
        known = recalled(state, STATE, None)
        asks = known is None or _age(known["age"]) >= self.k
        return asks and self.inner.due(inner_state(known))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Ask, or reuse."""
        known = recalled(state, STATE, (problem.r, problem.m))
        if known is None or _age(known["age"]) >= self.k:
            answer = self.inner.weigh(problem, inner_state(known))
            kept = torch.from_numpy(answer.weights.copy())
            limit = limit_of(self.inner, problem, answer)
            after = {"inner": answer.state, "weights": kept, "limit": None, "age": 1}
            if limit is not None:  # as wide as the weights, as every entry of a state is
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
    assert isinstance(entry, int)  # as checked by ``recalled``
    return entry
