"""Non-negative quadratic programs, solved exactly and many at once.

Find x >= 0 that minimizes 1/2 x'Qx - c'x for a positive semi-definite Q whose diagonal is near 1.
With up to four variables, elimination tries for each variable whether it is zero or free. With more
variables, whole blocks join and leave the support (Kim and Park, Fast nonnegative matrix
factorization: an active-set-like method and comparisons, 2011). If that does not end, an active-set
method solves the problem (Lawson and Hanson, Solving least squares problems, 1974). The problems of
a batch do not influence each other.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from jaxtyping import Bool, Float

Array = np.ndarray
FEW = 4  # up to this number of problems plain Python numbers are faster than arrays
ELIMINATE = 4  # largest m for elimination, which solves 2^(m - 1) programs of one variable
RIDGE = 2e-14  # added to the diagonal: dependent rows get an answer, and signs are reliable
ACCURACY = 4e-15  # a slope below this, relative to its terms, is 0
EXCHANGES = 8  # block exchanges before the active-set method starts: 3 to 5 are usual


def nonnegative_qp(
    matrix: Float[Array, "b m m"], linear: Float[Array, "b k m"]
) -> Float[Array, "b k m"]:
    """Solve b x k problems; the k problems of a batch entry share their matrix."""
    b, k, m = linear.shape
    if m > 1:
        matrix = matrix + _ridge(m)
    if m > ELIMINATE:
        return _by_exchange(matrix, linear)
    if b * k > FEW:
        # Variables come first and problems last, so each step is one long vector operation.
        x = _by_elimination(matrix.transpose(1, 2, 0)[..., None], linear.transpose(2, 0, 1))
        return np.ascontiguousarray(x.transpose(1, 2, 0))
    pairs = zip(matrix.tolist(), linear.tolist(), strict=True)
    return np.array([[_one_by_elimination(q, c) for c in several] for q, several in pairs])


def one_nonnegative_qp(matrix: list[list[float]], linear: list[float]) -> list[float]:
    """Solve one problem of at most ``ELIMINATE`` variables in plain Python numbers."""
    if len(linear) > 1:
        for i, row in enumerate(matrix):
            row[i] += RIDGE
    return _one_by_elimination(matrix, linear)


def kkt_residual(
    matrix: Float[Array, "b m m"], linear: Float[Array, "b k m"], x: Float[Array, "b k m"]
) -> Float[Array, "b k"]:
    """The KKT residual of x: the largest entry of |min(x, Qx - c)|, 0 at the optimum.

    It is relative to the terms that must cancel, for programs scaled to terms of about 1.
    """
    residual: Array = np.abs(np.minimum(x, x @ matrix - linear)).max(-1)
    relative: Array = residual / (1.0 + np.abs(x).sum(-1))
    return relative


@cache
def _ridge(m: int) -> Float[Array, "m m"]:
    return RIDGE * np.eye(m)


def _one_by_elimination(q: list[list[float]], c: list[float]) -> list[float]:
    # Let the last variable be free and solve for the others. If it is then non-negative, that is
    # the answer; otherwise it is 0. If rounding could change a sign, both cases satisfy the
    # conditions.
    *rest, end = c
    if not rest:
        return [max(end, 0.0) / q[0][0]]
    *across, last = q[-1]
    others = [row[:-1] for row in q[:-1]]
    if len(rest) == 1:
        ((side,),) = others
        only = across[0]
        free = max(rest[0] - only * end / last, 0.0) / (side - only * only / last)
        value = (end - only * free) / last
        return [free, value] if value >= 0.0 else [max(rest[0], 0.0) / side, 0.0]
    # (ab / last, not a (b / last): the remaining matrix stays symmetric, and so positive.)
    remainder = [
        [v - a * b / last for v, b in zip(row, across, strict=True)]
        for row, a in zip(others, across, strict=True)
    ]
    found = _one_by_elimination(
        remainder, [v - a * end / last for v, a in zip(rest, across, strict=True)]
    )
    for a, x in zip(across, found, strict=True):
        end -= a * x
    if end >= 0.0:
        return [*found, end / last]
    return [*_one_by_elimination(others, rest), 0.0]


def _by_elimination(q: Float[Array, "m m *b 1"], c: Float[Array, "m *b k"]) -> Array:
    # The same operations in the same order; both cases are computed.
    if len(c) == 1:
        only: Array = np.maximum(c, 0.0) / q[0]
        return only
    across, last = q[:-1, -1], q[-1, -1]
    rest = len(across)
    remainder = q[:-1, :-1] - across[:, None] * across / last
    right = c[:-1] - across * c[-1] / last
    if rest == 1:
        free, zero = np.maximum(right, 0.0) / remainder[0], np.maximum(c[:1], 0.0) / q[:1, 0]
    else:
        both_q = np.empty((rest, rest, 2, *q.shape[2:]))
        both_c = np.empty((rest, 2, *c.shape[1:]))
        both_q[:, :, 0], both_q[:, :, 1] = remainder, q[:-1, :-1]
        both_c[:, 0], both_c[:, 1] = right, c[:-1]
        both = _by_elimination(both_q, both_c)
        free, zero = both[:, 0], both[:, 1]
    x = np.empty(c.shape)
    end = c[-1]
    for a, found in zip(across, free, strict=True):
        end = end - a * found
    x[:-1] = np.where(end >= 0.0, free, zero)
    np.divide(np.maximum(end, 0.0), last, out=x[-1])
    return x


def _by_exchange(matrix: Float[Array, "b m m"], linear: Float[Array, "b k m"]) -> Array:
    # All variables with the wrong sign leave the support, and all with a slope of the wrong sign
    # join it, at once. This nearly always ends, but there is no guarantee.
    x = np.zeros(linear.shape)
    support = linear > 0.0
    at = np.nonzero(support.any(-1))
    for _ in range(EXCHANGES):
        if len(at[0]) == 0:
            return x
        x[at] = _solve_on(matrix[at[0]], linear[at], support[at])
        wrong = np.where(support, x < 0.0, _gains(matrix, linear, x))
        support ^= wrong
        at = np.nonzero(wrong.any(-1))
    if len(at[0]):
        x[at] = _by_active_set(matrix[at[0]], linear[at])
    return x


def _by_active_set(matrix: Float[Array, "p m m"], linear: Float[Array, "p m"]) -> Array:
    # One variable joins at a time, the one with the largest gain, and variables that become
    # negative leave. The value decreases with every step, so no support returns. It starts from 0,
    # not from the last blocks: a support that grows from 0 is independent, and blocks may not be.
    p, m = linear.shape
    x = np.zeros((p, m))
    support = np.zeros((p, m), bool)
    joined = np.zeros((p, m), bool)
    refused = np.zeros((p, m), bool)  # joined and left at once: its gain was only rounding
    for _ in range(6 * m + 6):
        target = _solve_on(matrix, linear, support)
        blocked = support & (target <= 0.0)
        back = blocked.any(-1, keepdims=True)
        # Blocked: move toward the target until the first variable reaches 0; it leaves.
        reach = np.where(blocked, 0.0, np.inf)
        np.divide(x, x - target, out=reach, where=blocked & (x > 0.0))
        step = np.minimum(reach.min(-1, keepdims=True), 1.0)
        leaving = blocked & (reach <= step)
        progress = ~back & joined.any(-1, keepdims=True)
        refused = (refused | (leaving & joined)) & ~progress
        x = np.where(back, np.where(leaving, 0.0, x + step * (target - x)), target)
        np.maximum(x, 0.0, out=x)
        support &= ~leaving
        # Free: the next variable joins, until none gains.
        slope = linear - np.vecmat(x, matrix)
        may = _gains(matrix, linear[:, None], x[:, None])[:, 0] & ~(support | refused | back)
        joined = (np.where(may, slope, -np.inf).argmax(-1)[:, None] == np.arange(m)) & may
        support |= joined
        if not (joined | back).any():
            break
    return x


def _gains(
    matrix: Float[Array, "b m m"], linear: Float[Array, "b k m"], x: Float[Array, "b k m"]
) -> Bool[Array, "b k m"]:
    # Whether the value decreases by more than rounding if a variable grows.
    noise = ACCURACY * (1.0 + np.abs(x).sum(-1, keepdims=True))
    gains: Array = linear - x @ matrix > noise
    return gains


def _solve_on(
    matrix: Float[Array, "p m m"], linear: Float[Array, "p m"], support: Bool[Array, "p m"]
) -> Float[Array, "p m"]:
    # Qx = c on the support, x = 0 off it.
    p, m = linear.shape
    left = matrix * (support[:, :, None] & support[:, None, :])
    left.reshape(p, m * m)[:, :: m + 1] += ~support
    x: Array = np.linalg.solve(left, (linear * support)[..., None])[..., 0]
    return x
