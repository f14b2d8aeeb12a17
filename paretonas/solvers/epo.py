"""EPO: reach the point of the front where the preferred balance between the objectives holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._lp import Program, lp_residual, maximize
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import Problem, check_preference


@dataclass(frozen=True, eq=False)
class EPO(WeightingSolver):
    """Search for the exact Pareto point where preference_i * value_i is the same for all i.

    While the products differ, it balances: it lowers the largest and may let others rise. Once
    they agree, it descends without harm to any objective. Each step is one tiny linear program
    over convex weights. Values must be positive: 0 is the ideal.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each. The larger its
            entry, the smaller that objective becomes, as in ``Tchebycheff``.
        tolerance: how uneven the products may be before it balances: their Kullback-Leibler
            divergence from uniform.

    The certificate's branch says "balance", "descent", or "relaxed descent": at descent the
    program may also ask not to unbalance, which can be impossible; then that wish is dropped
    (public code falls back to fixed weights there).

    Raises:
        ValueError: the preference does not fit, the tolerance is negative, or a value is not
            positive.

    References:
        Mahapatra and Rajan, Multi-Task Learning with User Preferences (2020), ICML,
        extended in arXiv 2010.06313.

    >>> import torch
    >>> EPO()(torch.eye(2), torch.tensor([0.9, 0.1])).weights
    tensor([1., 0.])
    """

    preference: Float[Tensor, "*r m"] | None = None
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse what cannot be a preference or a tolerance."""
        check_preference(self.preference)
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be non-negative and finite, got {self.tolerance}")

    def weigh(self, problem: Problem, state: object) -> Answer:
        """Set up one program per ray and solve them together."""
        preference, values = problem.spread(self.preference), problem.values
        _check_positive(values, problem.batched)
        products = preference * values
        shares = products / products.sum(-1, keepdim=True)
        logs = (shares * shares.shape[-1]).log()
        unevenness = (shares * logs).sum(-1, keepdim=True)
        pull = logs - unevenness
        # Products that agree to the last digits pull nowhere.
        anchor = preference * torch.where(pull.abs() < 1e-12, 0.0, pull)  # "a" of the paper
        balances = unevenness > self.tolerance
        worst = products == products.amax(-1, keepdim=True)
        program = _program(problem, anchor, balances, worst)
        solution = maximize(program)
        failed = ~solution.feasible
        if failed.any():
            keep = torch.ones_like(program.bound)
            keep[..., -1] = (~failed).double()
            matrix = program.matrix * keep.unsqueeze(-1)
            program = Program(program.objective, matrix, program.bound)
            solution = maximize(program)

        def branches() -> tuple[str, ...]:
            flags = zip(balances.flatten().tolist(), failed.tolist(), strict=True)
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


def _program(problem: Problem, anchor: Tensor, balances: Tensor, worst: Tensor) -> Program:
    gram = problem.gram
    top = gram.norms.amax(-1, keepdim=True)
    lengths = gram.norms / torch.where(top > 0, top, 1.0)
    # What convex weights do to each objective, per unit of its own gradient, and what the anchor
    # would do: only signs and ratios matter, so no product of two small lengths is formed.
    effects = gram.cosines * lengths.unsqueeze(-2)
    pull = (effects @ anchor.unsqueeze(-1)).squeeze(-1)
    helped = pull > 0
    # Balance: no objective that the anchor harms is harmed more, and the worst is not harmed.
    floor = torch.where(helped.any(-1, keepdim=True), pull, 0.0).clamp_max(0.0)
    floor = torch.where(worst, 0.0, floor)
    free = balances & helped & ~worst
    floor = torch.where(balances, floor, 0.0)
    toward = lengths * pull  # G a
    slack = toward.amax(-1, keepdim=True).clamp_max(0.0)
    steady = torch.where(balances, 0.0, toward)
    matrix = -torch.cat(
        [torch.where(free.unsqueeze(-1), 0.0, effects), steady.unsqueeze(-2)], dim=-2
    )
    bound = -torch.cat([torch.where(free, 0.0, floor), torch.where(balances, 0.0, slack)], dim=-1)
    descent = lengths * (gram.cosines @ lengths.unsqueeze(-1)).squeeze(-1)
    return Program.of(torch.where(balances, toward, descent), matrix, bound)


def _check_positive(values: Tensor, batched: bool) -> None:
    if (values > 0).all():
        return
    at = (values <= 0).nonzero()[0].tolist()
    raise ValueError(
        f"EPO needs positive values (subtract an ideal that is not reached), "
        f"got {values[tuple(at)].item()} for objective {at[-1]}"
        + (f" of ray {at[0]}" if batched else "")
    )
