"""CAGrad's program, solved exactly: raise the floor, the smallest inner product, within a radius.

With unit rows that have the cosines C and lengths n, a start d_0 = sum_i start_i u_i and a radius
k, find the v >= 0 for which d = d_0 + sum_i v_i u_i maximizes the floor h = min_i n_i u_i . d
within |d - d_0| <= k. Its dual is the usual form, min over w in the simplex of g_w . g_0 + k |g_w|,
and w ~ v / n.

For a given floor this is the projection of d_0 onto {d : u_i . d >= h / n_i}. Its v is piecewise
linear in h: a row joins when its inner product equals the floor, and leaves when its v is 0. The
floor is raised from one such event to the next until the radius is reached. There is no tolerance
and no iteration. If the convex hull of the rows contains 0, the floor cannot exceed 0. The answer
is then the projection of d_0 onto the cone of directions that do not conflict.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.kernels.nnqp import nonnegative_qp

Array = np.ndarray
DEPENDENT = 2 * RESOLUTION  # a shorter sum of unit rows, relative to its weights, counts as 0
RIDGE = 1e-14  # added to the diagonal: dependent rows get an answer, and signs are reliable
FALLING = 1e-12  # smaller relative rates count as 0


class Raised(NamedTuple):
    """The highest floor.

    Attributes:
        v: the amount to add along each unit row.
        blocked: whether the floor stopped at 0 before the radius was reached.
    """

    v: Float[Array, "r m"]
    blocked: Bool[Array, " r"]


def raise_floor(
    cosines: Float[Array, "r m m"],
    lengths: Float[Array, "r m"],
    start: Float[Array, "r m"],
    radius: Float[Array, " r"],
) -> Raised:
    """Solve r programs. Rows of length 0 must be orthogonal to all others, and keep the floor at 0.

    A solved program is removed from the batch, so its answer does not depend on the others.
    """
    r, m = lengths.shape
    answer, stopped = np.zeros((r, m)), np.zeros(r, dtype=bool)
    live = np.flatnonzero(radius > 0)
    lit = lengths > 0
    cost = np.where(lit, 1.0 / np.where(lit, lengths, 1.0), 0.0)
    v, products = np.zeros((r, m)), np.matvec(cosines, start)
    floor = np.where(lit, products * lengths, np.inf).min(-1)
    on = lit & (products * lengths <= floor[:, None])
    on &= on.cumsum(-1) == 1  # the first among ties; the others join at once
    state = [cosines, cost, lit, products, radius, v, floor, on, np.zeros_like(on)]
    state = [part[live] for part in state]
    for _ in range(10 * m + 20):
        if not len(live):
            break
        c, cost, lit, given, radius, v, floor, on, refused = state
        moved = np.matvec(c, v)
        products = given + moved
        rate = _rate(c, cost, on)
        lift = np.matvec(c, rate)
        square = np.maximum(np.vecdot(rate, lift), 0.0)
        # Dependent rows: v changes a lot while the floor and the direction do not.
        weight = np.abs(rate).sum(-1)
        still = square <= (DEPENDENT * weight) ** 2
        if still.any():
            rounding = still[:, None] & (np.abs(rate) < FALLING * weight[:, None])
            rate = np.where(rounding, 0.0, rate / np.where(still, weight, 1.0)[:, None])
            lift, square = np.where(still[:, None], cost, lift), np.where(still, 0.0, square)
        # How far the floor rises until a row off the support meets it, ...
        gain = lift - cost
        slack = np.maximum(products - floor[:, None] * cost, 0.0)
        meets = lit & ~on & ~refused & (gain < -FALLING * cost)
        joining = np.where(meets, slack / np.where(meets, -gain, 1.0), np.inf)
        # ... until the v of a row on the support reaches 0, ...
        fading = on & (rate < 0)
        leaving = np.where(fading, v / np.where(fading, -rate, 1.0), np.inf)
        # ... or until the radius is reached: |v + step rate|_C = k.
        along = np.where(still, 0.0, np.maximum(np.vecdot(rate, moved), 0.0))
        room = np.maximum(radius * radius - np.vecdot(v, moved), 0.0)
        below = along + np.sqrt(along * along + square * room)
        reach = np.where(below > 0, room / np.where(below > 0, below, 1.0), np.inf)
        height = np.where(lit.all(-1), np.inf, np.maximum(-floor, 0.0))
        height = np.where(still, np.inf, height)
        step = np.minimum(np.minimum(reach, height), np.minimum(joining.min(-1), leaving.min(-1)))
        # If the floor can never rise again, the hull of the support contains 0.
        trapped = still & ~fading.any(-1)
        step = np.where(trapped, 0.0, step)
        blocked = trapped | (step >= height)
        over = blocked | (step >= reach)
        left = fading & (leaving <= step[:, None])
        v = np.where(left, 0.0, v + step[:, None] * rate)
        floor = floor + np.where(still, 0.0, step)
        joined = meets & (joining <= step[:, None]) & ~left.any(-1, keepdims=True)
        joined &= joined.cumsum(-1) == 1
        on = (on & ~left) | joined
        refused = (refused & (step <= 0)[:, None]) | left
        state = [c, cost, lit, given, radius, v, floor, on, refused]
        if over.any():
            answer[live[over]], stopped[live[over]] = v[over], blocked[over]
            keep = ~over
            live = live[keep]
            state = [part[keep] for part in state]
    if len(live):
        answer[live] = state[5]
    if stopped.any():
        # Near 0 the support was nearly dependent: solve once more, with the floor at 0.
        wanted = -np.matvec(cosines[stopped], start[stopped])
        answer[stopped] = nonnegative_qp(cosines[stopped], wanted[:, None])[:, 0]
    return Raised(np.maximum(answer, 0.0), stopped)


def raised_residual(
    cosines: Float[Array, "r m m"],
    lengths: Float[Array, "r m"],
    start: Float[Array, "r m"],
    radius: Float[Array, " r"],
    raised: Raised,
) -> Float[Array, " r"]:
    """The KKT residual of v, relative to the size of the terms that must cancel."""
    v = raised.v
    lit = lengths > 0
    cost = np.where(lit, 1.0 / np.where(lit, lengths, 1.0), 0.0)
    products = np.matvec(cosines, start + v)
    total = np.maximum(np.vecdot(v, cost), 1e-300)
    lowest = np.where(lit, products * lengths, np.inf).min(-1)
    lowest = np.where(lit.any(-1), lowest, 0.0)
    moved = (v > 0).any(-1)
    floor = np.where(moved, np.vecdot(v, products) / total, lowest)
    floor = np.where(raised.blocked & ~lit.all(-1), np.minimum(floor, 0.0), floor)
    terms = np.matvec(np.abs(cosines), start + v) + np.abs(floor)[:, None] * cost
    slack = (products - floor[:, None] * cost) / np.maximum(terms, 1e-300)
    share = v / np.maximum(v.max(-1, keepdims=True), 1e-300)
    worst = np.where(lit, np.abs(np.minimum(share, slack)), 0.0).max(-1)
    length = np.sqrt(np.maximum(np.vecdot(v, np.matvec(cosines, v)), 0.0))
    missed = np.where(raised.blocked, np.maximum(length - radius, 0.0), np.abs(length - radius))
    residual: Array = np.maximum(worst, missed / np.maximum(radius + v.sum(-1), 1e-300))
    return residual


def _rate(cosines: Array, cost: Array, on: Array) -> Array:
    # The rate of v per unit of floor that keeps the rows of the support at the floor.
    m = on.shape[-1]
    pair = on[:, :, None] & on[:, None, :]
    system = np.where(pair, cosines, 0.0) + np.eye(m) * np.where(on, RIDGE, 1.0)[:, :, None]
    return np.linalg.solve(system, np.where(on, cost, 0.0)[:, :, None])[..., 0]
