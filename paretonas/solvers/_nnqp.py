"""Non-negative quadratic programs, solved exactly and many at a time.

Find x >= 0 that minimizes 1/2 x'Qx - c'x for a positive semi-definite Q whose diagonal is near 1.
Up to four variables every support is tried in one batched elimination; beyond that an active set
grows and shrinks (Lawson and Hanson, 1974), all problems of the batch in step.
"""

from __future__ import annotations

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

ENUMERATE = 4  # variables up to which all 2^m supports are tried: 16 systems of 4 x 4
CHARGE = 1e-17  # what a unit of x costs a candidate: a fraction of float64's rounding
ACCURACY = 4e-15  # violation at which the active set stops, relative to the right-hand side


def nonnegative_qp(
    matrix: Float[Tensor, "b m m"], linear: Float[Tensor, "b k m"]
) -> Float[Tensor, "b k m"]:
    """Solve b x k problems; the k problems of a batch entry share their matrix."""
    if matrix.shape[-1] <= ENUMERATE:
        return _by_enumeration(matrix, linear)
    count = linear.shape[-2]
    matrices = matrix.unsqueeze(-3).expand(-1, count, -1, -1).flatten(0, 1)
    return _by_active_set(matrices, linear.flatten(0, 1)).view_as(linear)


def kkt_residual(
    matrix: Float[Tensor, "b m m"], linear: Float[Tensor, "b k m"], x: Float[Tensor, "b k m"]
) -> Float[Tensor, "b k"]:
    """How far x is from optimal: the largest entry of |min(x, Qx - c)|, 0 at the optimum.

    Relative to the size of the terms that must cancel, for programs scaled to terms of about 1.
    """
    residual = torch.minimum(x, x @ matrix - linear).abs().amax(-1)
    return residual / (1.0 + x.abs().sum(-1))


def _by_enumeration(matrix: Tensor, linear: Tensor) -> Tensor:
    m = linear.shape[-1]
    # Variables first, problems last: each step is then one long vector operation.
    q = matrix.permute(1, 2, 0).unsqueeze(2).unsqueeze(-1)  # (m, m, 1, b, 1)
    c = linear.permute(2, 1, 0).unsqueeze(-1)  # (m, k, b, 1)
    support = torch.tensor(_supports(m), dtype=matrix.dtype, device=matrix.device)
    x = _solve_each(q, support.view(m, 1, 1, -1), c)  # (m, k, b, s)
    slope = -c
    for i in range(m):
        slope = slope + q[:, i] * x[i]
    violation = torch.minimum(x, slope).abs_().amax(0)
    # Near-dependent gradients can need large x. Such an x is judged by its own size, and charged
    # for the rounding that it brings; a singular support is infinite or huge, and loses.
    total = x.abs().sum(0)
    score = violation / (1.0 + total) + CHARGE * total
    best = score.nan_to_num_(torch.inf, torch.inf).argmin(dim=-1, keepdim=True)  # (k, b, 1)
    x = x.gather(-1, best.expand(m, -1, -1, -1))
    return x.squeeze(-1).permute(2, 1, 0).clamp_min(0.0)


def _solve_each(q: Tensor, support: Tensor, right: Tensor) -> Tensor:
    # Solve on each support, with 0 off it, by elimination without row exchanges: stable where the
    # matrix of the support is positive definite.
    m = len(q)
    left = q * (support.unsqueeze(1) * support.unsqueeze(0))
    left.diagonal(dim1=0, dim2=1).add_((1.0 - support).movedim(0, -1))
    x = right * support
    for p in range(m - 1):
        factor = left[p + 1 :, p] / left[p, p]
        left[p + 1 :, p + 1 :].addcmul_(factor.unsqueeze(1), left[p, p + 1 :], value=-1.0)
        x[p + 1 :].addcmul_(factor, x[p], value=-1.0)
    for p in range(m - 1, -1, -1):
        x[p] /= left[p, p]
        x[:p].addcmul_(left[:p, p], x[p], value=-1.0)
    return x


@cache
def _supports(m: int) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(bits >> i & 1) for bits in range(1 << m)) for i in range(m))


def _by_active_set(matrix: Tensor, linear: Tensor) -> Tensor:
    m = linear.shape[-1]
    size = linear.abs().amax(-1, keepdim=True)
    x = torch.zeros_like(linear)
    support = torch.zeros_like(linear, dtype=torch.bool)
    refused = torch.zeros_like(support)  # entered and left without progress: dependent columns
    entered = torch.zeros_like(support)
    open_ = torch.ones_like(support[..., :1])
    for _ in range(6 * m + 6):
        z = _solve_on(matrix, linear, support)
        blocked = support & (z <= 0)
        back = blocked.any(-1, keepdim=True)
        # Blocked: walk towards z until the first variable reaches 0, and let that one go.
        reach = torch.where(blocked, x / (x - z).clamp_min(1e-300), torch.inf)
        step = reach.amin(-1, keepdim=True).clamp(0.0, 1.0)
        leaving = back & blocked & (reach <= step)
        progress = ~back & entered.any(-1, keepdim=True)
        refused = (refused | (leaving & entered)) & ~progress
        walked = torch.where(leaving, 0.0, x + step * (z - x))
        x = torch.where(open_, torch.where(back, walked, z), x)
        support = support & ~(leaving & open_)
        # Free: the variable that gains most joins, until none gains.
        gain = linear - (matrix @ x.unsqueeze(-1)).squeeze(-1)
        noise = ACCURACY * (size + x.abs().sum(-1, keepdim=True))
        gain = torch.where(support | refused | (gain <= noise), -torch.inf, gain)
        most, index = gain.max(-1, keepdim=True)
        open_ = open_ & (back | (most > -torch.inf))
        if not open_.any():
            break
        joins = open_ & ~back
        entered = torch.zeros_like(support).scatter(-1, index, joins)
        support = support | entered
    return x.clamp_min(0.0)


def _solve_on(matrix: Tensor, linear: Tensor, support: Tensor) -> Tensor:
    on = support.to(matrix.dtype)
    left = matrix * (on.unsqueeze(-1) * on.unsqueeze(-2)) + torch.diag_embed(1.0 - on)
    right = (linear * on).unsqueeze(-1)
    # A ridge at the size of rounding keeps dependent columns solvable; refinement removes its bias.
    factor, pivots, _ = torch.linalg.lu_factor_ex(left + 1e-15 * torch.diag_embed(on))
    x: Tensor = torch.linalg.lu_solve(factor, pivots, right)
    for _ in range(2):
        x = x + torch.linalg.lu_solve(factor, pivots, right - left @ x)
    return x.squeeze(-1)
