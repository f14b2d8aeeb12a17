"""Tiny linear programs over the simplex, exact, all problems of a batch in step.

Maximize c'x such that Ax <= b, sum x = 1 and x >= 0, where b >= 0. The simplex method starts at
x = 0 and first lets sum x grow to 1; from there it maximizes c'x.
Bland's rule (1977) keeps it from going round in circles.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TOLERANCE = 1e-12  # reduced cost that counts as none; rows and objective have largest entry 1
PIVOT = 1e-10  # entry of a column that counts as 0, relative to the largest


@dataclass(frozen=True, eq=False)
class Program:
    """The data of b programs, each row and the objective scaled to largest entry 1."""

    objective: Float[Tensor, "b m"]
    matrix: Float[Tensor, "b k m"]
    bound: Float[Tensor, "b k"]

    @staticmethod
    def of(objective: Tensor, matrix: Tensor, bound: Tensor) -> Program:
        """Scale; the answer stays the same."""
        peaks = matrix.abs().amax(-1)
        peaks = torch.where(peaks > 0, peaks, 1.0)
        top = objective.abs().amax(-1, keepdim=True)
        return Program(
            objective / torch.where(top > 0, top, 1.0), matrix / peaks.unsqueeze(-1), bound / peaks
        )


@dataclass(frozen=True, eq=False)
class Solution:
    """The best x of each program, and what proves it: the basis."""

    x: Float[Tensor, "b m"]
    feasible: Bool[Tensor, " b"]
    basis: Int[Tensor, "b q"]


def maximize(program: Program) -> Solution:
    """Solve all programs; where one has no feasible point, x is what comes nearest to sum 1."""
    full, right = _standard(program)
    m, (count, q, _) = program.objective.shape[-1], full.shape
    first, second = _costs(program)
    last = m + q - 1
    basis = torch.arange(m, m + q, device=full.device).expand(count, -1).clone()
    for _ in range(20 * (m + q)):
        # The table comes from the data at each step, so that rounding does not build up.
        table, level = _table(full, right, basis)
        # Until the slack of "sum x", the last column, has left, the sum is what grows.
        started = (basis != last).all(-1, keepdim=True)
        cost = torch.where(started, second, first)
        gains = _reduced(cost, table, basis) > TOLERANCE
        gains[..., last] = False
        gains = gains.scatter(-1, basis, False)
        open_ = gains.any(-1, keepdim=True)
        if not open_.any():
            break
        entering = gains.int().argmax(-1, keepdim=True)
        steps = table.gather(-1, entering.unsqueeze(-2).expand(-1, q, -1)).squeeze(-1)
        falls = steps > PIVOT * steps.abs().amax(-1, keepdim=True)
        ratios = torch.where(falls, level.clamp_min(0.0) / steps, torch.inf)
        tied = ratios <= ratios.amin(-1, keepdim=True) + 1e-14
        order = torch.where(basis == last, -1, basis)  # of equals, that slack goes first
        leaving = torch.where(tied, order, m + q).argmin(-1, keepdim=True)
        basis = torch.where(open_, basis.scatter(-1, leaving, entering), basis)
    _, level = _table(full, right, basis)
    x = full.new_zeros(count, m + q).scatter(-1, basis, level)[..., :m].clamp_min(0.0)
    total = x.sum(-1, keepdim=True)
    feasible = (total > 1.0 - 1e-9).squeeze(-1)
    return Solution(x / total.clamp_min(1e-300), feasible, basis)


def _table(full: Tensor, right: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    columns = full.gather(-1, basis.unsqueeze(-2).expand(-1, full.shape[-2], -1))
    both = torch.cat([full, right.unsqueeze(-1)], dim=-1)
    solved: Tensor = torch.linalg.solve_ex(columns, both).result
    return solved[..., :-1], solved[..., -1]


def _reduced(cost: Tensor, table: Tensor, basis: Tensor) -> Tensor:
    return cost - (cost.gather(-1, basis).unsqueeze(-2) @ table).squeeze(-2)


def _costs(program: Program) -> tuple[Tensor, Tensor]:
    slacks = program.bound.shape[-1] + 1
    pad = torch.nn.functional.pad
    return pad(torch.ones_like(program.objective), (0, slacks)), pad(program.objective, (0, slacks))


def lp_residual(program: Program, solution: Solution) -> Float[Tensor, " b"]:
    """Largest violation among the constraints and the optimality conditions of the basis."""
    full, right = _standard(program)
    table, _ = _table(full, right, solution.basis)
    # The slack of "sum x", the last column, is fixed at 0: its price may have either sign.
    reduced = _reduced(_costs(program)[1], table, solution.basis)[..., :-1]
    excess = (program.matrix @ solution.x.unsqueeze(-1)).squeeze(-1) - program.bound
    size = 1.0 + reduced.abs().amax(-1)
    return torch.maximum(excess.amax(-1), reduced.amax(-1) / size).clamp_min(0.0)


def _standard(program: Program) -> tuple[Tensor, Tensor]:
    matrix = torch.nn.functional.pad(program.matrix, (0, 0, 0, 1), value=1.0)  # sum x <= 1, last
    right = torch.nn.functional.pad(program.bound, (0, 1), value=1.0)
    q = matrix.shape[-2]
    slacks = torch.eye(q, dtype=matrix.dtype, device=matrix.device).expand(len(matrix), -1, -1)
    return torch.cat([matrix, slacks], dim=-1), right
