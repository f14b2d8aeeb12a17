"""EPO, Exact Pareto Optimal search: reach the point of the front on a preference vector."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from paretonas.solvers._aim import refuse
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.kernels.lp import Program, lp_residual, maximize
from paretonas.solvers.problem import GradientProblem, check_preference


@dataclass(frozen=True, eq=False)
class EPO(WeightingSolver):
    """Search for the exact Pareto point where preference_i * value_i is the same for all i.

    While the products differ, it balances them: it lowers the largest, and others may rise. When
    they agree, it descends without harm to any objective. Each step solves one small linear program
    over convex weights exactly. It is deterministic. Permuting the objectives permutes the weights,
    if the program has only one solution. Values must be positive: 0 is the ideal.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each. The larger its
            entry, the smaller that objective becomes, as in ``Tchebycheff``.
        tolerance: it balances if the Kullback-Leibler divergence of the products from uniform is
            above this number.

    The certificate's branch is "balance", "descent" or "relaxed descent". In descent the program
    also keeps the balance. If that is impossible, this condition is dropped: "relaxed descent"
    (public code uses fixed weights then). Zero gradients may get weight and contribute nothing. Off
    the ray it continues to balance even at a Pareto stationary point. On the ray the direction is 0
    if a positive combination of all gradients is 0.

    Raises:
        ValueError: the preference does not fit, the tolerance is negative, or a value is not
            positive.

    References:
        Mahapatra and Rajan, Multi-Task Learning with User Preferences (2020), ICML,
        extended in arXiv 2108.00597.

    >>> import torch
    >>> EPO()(torch.eye(2), torch.tensor([0.9, 0.1])).weights
    tensor([1., 0.])
    """

    preference: Float[Tensor, "*r m"] | None = None
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        """Check the preference and the tolerance."""
        check_preference(self.preference)
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be non-negative and finite, got {self.tolerance}")

    def total_weight(self, m: int) -> float:
        """Return 1: weights are convex."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Set up one program per ray and solve them together."""
        preference = problem.spread(self.preference)
        values = problem.values
        rule = "EPO needs positive values (subtract an ideal that is not reached)"
        refuse(problem, values <= 0, rule)
        shares = np.maximum(preference * (values / values.max(-1, keepdims=True)), 1e-300)
        worst = shares == shares.max(-1, keepdims=True)
        shares = shares / shares.sum(-1, keepdims=True)
        logs = np.log(shares * problem.m)
        unevenness = (shares * logs).sum(-1, keepdims=True)
        pull = logs - unevenness
        # Products that agree to the last digits count as equal.
        anchor = preference * np.where(np.abs(pull) < 1e-12, 0.0, pull)  # "a" of the paper
        balances = unevenness > self.tolerance
        program = _program(problem, anchor, balances, worst)
        solution = maximize(program)
        failed = ~solution.feasible
        if failed.any():
            program.matrix[failed, -1] = 0.0
            solution = maximize(program)

        def branches() -> tuple[str, ...]:
            flags = zip(balances[:, 0], failed, strict=True)
            return tuple(
                "balance" if balance else "relaxed descent" if relaxed else "descent"
                for balance, relaxed in flags
            )

        return Answer(
            solution.x,
            residual=lambda: lp_residual(program, solution),
            branch=branches,
            state=state,
        )


def _program(
    problem: GradientProblem,
    anchor: Float[np.ndarray, "r m"],
    balances: Bool[np.ndarray, "r 1"],
    worst: Bool[np.ndarray, "r m"],
) -> Program:
    gram = problem.gram
    top = gram.norms.max(-1, keepdims=True)
    lengths = gram.norms / np.where(top > 0, top, 1.0)
    # The effect of convex weights on each objective, per unit of its own gradient, and the effect
    # of the anchor. Only signs and ratios matter, so no product of two small lengths is formed.
    effects = gram.cosines * lengths[:, None, :]
    pull = (effects @ anchor[..., None])[..., 0]
    helped = pull > 0
    # Balance: the step harms no objective more than the anchor does, and does not harm the worst.
    floor = np.where(worst | ~balances | ~helped.any(-1, keepdims=True), 0.0, np.minimum(pull, 0.0))
    free = balances & helped & ~worst
    toward = lengths * pull  # G a
    slack = np.minimum(toward.max(-1), 0.0)
    m = problem.m
    matrix = np.empty((problem.r, m + 1, m))
    matrix[:, :m] = np.where(free[..., None], 0.0, -effects)
    matrix[:, m] = np.where(balances, 0.0, -toward)
    bound = np.empty((problem.r, m + 1))
    bound[:, :m] = -floor
    bound[:, m] = np.where(balances[:, 0], 0.0, -slack)
    descent = lengths * (gram.cosines @ lengths[..., None])[..., 0]
    return Program.of(np.where(balances, toward, descent), matrix, bound)
