"""Moving average of a solver's weights: less noise from minibatches."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from paretonas.solvers._learned import Kind, array, recalled
from paretonas.solvers._wrapper import Wrapper, check_inner, fit, inner_state
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem

STATE: dict[str, Kind] = {"inner": "inner", "weights": "numbers"}


@dataclass(frozen=True, eq=False)
class MovingAverage(Wrapper):
    """Average the weights that a solver finds from call to call (CR-MOGM).

    Weights and gradients of one minibatch depend on the same noise, so the expected direction is
    biased, and the inner solver may not converge. Averaged weights are nearly independent of the
    batch. Convex weights stay convex. The inner solver's guarantees about angles, such as
    non-conflict, do not hold for averaged weights.

    Its guarantees about length do hold. Weights that depend on the lengths of gradients, such as
    those of `NashMTL` or `UPGrad`, are first adapted to the current gradients (``rescale``), and
    then averaged with the new weights. So a call with short gradients does not outweigh the others,
    and the direction is never longer than the method allows on the current gradients.

    Attributes:
        inner: the solver whose weights are averaged.
        momentum: in [0, 1), the weight of the old average; 0 is the inner solver.

    The first call uses the inner weights. The certificate is about the averaged weights; its KKT
    residual and its branch are those of the inner solver on this call. The state holds the average
    and the inner state.

    Raises:
        TypeError: inner does not weigh rows.
        ValueError: momentum is not in [0, 1).

    References:
        Zhou et al., On the Convergence of Stochastic Multi-Objective Gradient Manipulation and
        Beyond (NeurIPS 2022).

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> solver = MovingAverage(MGDA(), momentum=0.75)
    >>> first = solver(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    >>> solver(torch.tensor([[1.0, 0.0], [2.0, 0.0]]), state=first.state).weights
    tensor([0.6250, 0.3750])
    """

    inner: WeightingSolver
    momentum: float = 0.9

    def __post_init__(self) -> None:
        """Check the settings."""
        check_inner(self.inner)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    def due(self, state: object) -> bool:
        """Whether the next call of the inner solver needs gradients."""
        return self.inner.due(inner_state(recalled(state, STATE, None)))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Average the weights of the inner solver."""
        known = recalled(state, STATE, (problem.r, problem.m))
        answer = self.inner.weigh(problem, inner_state(known))
        weights = answer.weights
        if known is not None and self.momentum > 0:
            before = array(known["weights"])
            if answer.limit is None:
                before = fit(self.inner, problem, before, answer)
            weights = self.momentum * before + (1 - self.momentum) * weights
        after = {"inner": answer.state, "weights": torch.from_numpy(weights.copy())}
        return answer._replace(weights=weights, state=after)
