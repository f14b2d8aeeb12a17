"""Damped Newton method for the convex programs of Nash-MTL and FairGrad, many at once.

With unit rows that have the cosines C, positive scales t and a power p, find z > 0 such that

    sum_j C_ij (t_j / t_i) z_j = z_i^-p,

the optimum of 1/2 |sum_i t_i z_i g_i|^2 - sum_i t_i^2 integral of z_i^-p, which is strictly convex.
It has no minimum if and only if the convex hull of the rows contains 0. Newton's steps do not
depend on the scale of the variables, so the answer does not either.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from paretonas.solvers.certificate import RESOLUTION

Array = np.ndarray
EPS = float(np.finfo(np.float64).eps)
NOISE = 8 * EPS
SMALL = 0.01  # a row with less weight, relative to the largest, is no part of a hull around 0
ITERATIONS = 100  # 5 to 8 are usual, 30 if lengths differ by 1e6
CALM = 0.5  # up to this relative change the full step is taken without a line search
SETTLED = 1e-8  # converged: the square of this relative change is below rounding (quadratic)
FLOOR = 1e-12 - 1.0  # largest relative decrease of a variable in one step
REACH = 4.0 ** np.arange(-6.0, 11.0)  # step lengths of the line search, in Newton steps


class Balance(NamedTuple):
    """The result of Newton's method.

    Attributes:
        z: positive; if the hull contains 0, the point at which this was detected.
        stationary: whether the convex hull of the rows contains 0, at the precision of float64.
    """

    z: Float[Array, "r m"]
    stationary: Bool[Array, " r"]


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # if the hull contains 0
def balance(
    cosines: Float[Array, "r m m"],
    scales: Float[Array, "r m"],
    lit: Bool[Array, "r m"],
    power: float,
) -> Balance:
    """Solve r programs; rows that are not lit must be orthogonal to all others, and are left out.

    A program that has converged is removed from the batch, so its answer does not depend on others.
    """
    matrix, sizes = _scaled(cosines, scales)
    t = scales * lit
    total, square = t.sum(-1), _dot(t, np.matvec(cosines, t))
    t_squares = t * t
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        along = (t_squares.sum(-1) / np.maximum(square, EPS * total**2)) ** (1.0 / (1.0 + power))
    z = np.where(lit, along[:, None], 1.0)
    eye = np.eye(cosines.shape[-1])

    least = 1e-250 ** (1.0 / max(1.0, power))  # z^-power stays within float64
    answer, stationary = z.copy(), np.zeros(len(z), dtype=bool)
    live, calm = np.arange(len(z)), np.zeros(len(z), dtype=bool)
    for _ in range(ITERATIONS):
        inner, target = np.matvec(matrix, z), z**-power
        # Any weights give a point of the hull. If the hull contains 0, the weights of the rows
        # around 0 grow far beyond the others. The others would hide this and are left out here.
        parts = t * z
        large = np.where(parts >= SMALL * parts.max(-1, keepdims=True), z, 0.0)
        square, total = _dot(t_squares * large, np.matvec(matrix, large)), _dot(t, large)
        unbounded = square <= (RESOLUTION * total) ** 2
        gap = target - inner
        right = np.abs(gap) <= NOISE * (np.matvec(sizes, z) + target)
        over = unbounded | right.all(-1)
        # At the end, gaps within rounding are set to 0: Newton would amplify them.
        gap[right & calm[:, None]] = 0.0
        if over.any():
            answer[live[over]], stationary[live[over]] = z[over], unbounded[over]
            keep = ~over
            live = live[keep]
            if not len(live):
                break
            matrix, sizes, t, t_squares = matrix[keep], sizes[keep], t[keep], t_squares[keep]
            z, inner, target, gap = z[keep], inner[keep], target[keep], gap[keep]
        bend = np.maximum(power * target / z, NOISE)
        step = np.linalg.solve(matrix + bend[:, :, None] * eye, gap[:, :, None])[..., 0]
        change = step / z
        most = np.abs(change).max(-1)
        wild = most > CALM
        if wild.any():
            length = np.ones(len(z))
            slope = _dot(t_squares * step, inner)
            curve = _dot(t_squares * step, gap - bend * step)
            length[wild] = _search(
                change[wild], (t_squares * z * target)[wild], slope[wild], curve[wild], power
            )
            change = np.maximum(length[:, None] * change, FLOOR)
        z = np.maximum(z * (1.0 + change), least)
        calm, done = ~wild, most <= SETTLED
        if done.any():
            answer[live[done]] = z[done]
            keep = ~done
            live = live[keep]
            if not len(live):
                break
            matrix, sizes, t, t_squares = matrix[keep], sizes[keep], t[keep], t_squares[keep]
            z, calm = z[keep], calm[keep]
    answer[live] = z[: len(live)]
    return Balance(answer, stationary)


def balance_residual(
    cosines: Float[Array, "r m m"],
    scales: Float[Array, "r m"],
    z: Float[Array, "r m"],
    power: float,
) -> Float[Array, " r"]:
    """The residual of z, relative to the size of the terms that must cancel."""
    matrix, sizes = _scaled(cosines, scales)
    target = z**-power
    gap = np.abs(target - np.matvec(matrix, z))
    residual: Array = (gap / (np.matvec(sizes, z) + target)).max(-1)
    return residual


def _scaled(cosines: Array, scales: Array) -> tuple[Array, Array]:
    matrix = cosines * (scales[:, None, :] / scales[:, :, None])
    return matrix, np.abs(matrix)


def _dot(a: Array, b: Array) -> Array:
    total: Array = np.vecdot(a, b)
    return total


def _search(change: Array, terms: Array, slope: Array, curve: Array, power: float) -> Array:
    # The best of several step lengths. No step makes a variable negative: longer ones stop at the
    # boundary. If the hull nearly contains 0, the best step is a very long one.
    down = np.maximum(-change, 0.0).max(-1, keepdims=True)
    lengths = REACH / (1.0 + REACH * down)
    growth = np.log1p(np.maximum(lengths[:, :, None] * change[:, None, :], FLOOR))
    with np.errstate(over="ignore"):
        if power != 1.0:
            growth = np.expm1((1.0 - power) * growth) / (1.0 - power)
        gain = np.matvec(growth, terms)
    cost = lengths * (slope[:, None] + 0.5 * lengths * curve[:, None]) - gain
    return np.take_along_axis(lengths, cost.argmin(-1, keepdims=True), -1)[:, 0]
