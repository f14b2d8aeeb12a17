"""Small linear programs over the simplex, solved exactly, all problems of a batch at once.

Maximize c'x such that Ax <= b, sum x = 1 and x >= 0, where b >= 0. The simplex method starts at
x = 0 and first increases sum x to 1; from there it maximizes c'x. If rounding has made an answer
wrong, which nearly parallel gradients can cause, the program is solved again in exact arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from paretonas.solvers.kernels.exact_lp import exact

TOLERANCE = 1e-13  # a reduced cost below this, relative to the prices in its sum, is 0
PIVOT = 1e-10  # an entry of a column below this, relative to the largest, is 0
SLACK = 1e-13  # largest violation of a constraint that a pivot may cause
SPOILED = 1e-11  # above this residual the program is solved in exact arithmetic


@dataclass(frozen=True, eq=False)
class Program:
    """The data of b programs; each row and the objective are scaled to largest entry 1."""

    objective: Float[np.ndarray, "b m"]
    matrix: Float[np.ndarray, "b k m"]
    bound: Float[np.ndarray, "b k"]

    @staticmethod
    def of(
        objective: Float[np.ndarray, "b m"],
        matrix: Float[np.ndarray, "b k m"],
        bound: Float[np.ndarray, "b k"],
    ) -> Program:
        """Scale the data; the answer stays the same."""
        peaks = np.abs(matrix).max(-1)
        peaks[peaks == 0] = 1.0
        top = np.abs(objective).max(-1, keepdims=True)
        top[top == 0] = 1.0
        return Program(objective / top, matrix / peaks[..., None], bound / peaks)


@dataclass(frozen=True, eq=False)
class Solution:
    """The optimal x of each program, and its proof: prices of the constraints, sum x = 1 last."""

    x: Float[np.ndarray, "b m"]
    feasible: Bool[np.ndarray, " b"]
    prices: Float[np.ndarray, "b q"]


def maximize(program: Program) -> Solution:
    """Solve all programs; if one has no feasible point, x is the one with the sum nearest to 1."""
    full, right, cost = _standard(program)
    count, q, width = full.shape
    m = width - q
    table = np.empty((count, q + 1, width + 1))
    table[:, :-1, :-1], table[:, :-1, -1] = full, right
    table[:, -1, :-1], table[:, -1, -1] = cost, 0.0
    basis = np.broadcast_to(np.arange(m, width), (count, q)).copy()
    _pivot(table, basis)
    # The columns of the slacks now hold the inverse of the basis. One correction step with it on
    # the original data removes the rounding of the pivots.
    columns = np.take_along_axis(full, basis[:, None, :], 2)
    inverse = table[:, :-1, m:-1]
    level = table[:, :-1, -1:]
    level = level + inverse @ (right[..., None] - columns @ level)
    paid = np.take_along_axis(cost, basis, 1)[:, None, :]
    prices = paid @ inverse
    prices = (prices + (paid - prices @ columns) @ inverse)[:, 0]
    spread = np.zeros((count, width))
    np.put_along_axis(spread, basis, level[..., 0], 1)
    x = np.maximum(spread[:, :m], 0.0)
    total = x.sum(-1, keepdims=True)
    feasible = total[:, 0] > 1.0 - 1e-9
    x /= np.maximum(total, 1e-300)
    solution = Solution(x, feasible, prices)
    doubtful = np.where(feasible, lp_residual(program, solution) > SPOILED, total[:, 0] > 0.5)
    for i in np.flatnonzero(doubtful):
        x[i], feasible[i], prices[i] = exact(
            program.objective[i], program.matrix[i], program.bound[i]
        )
    return solution


def lp_residual(program: Program, solution: Solution) -> Float[np.ndarray, " b"]:
    """Largest violation of the constraints of a program and of its dual, and of their gap.

    Violations of the dual and the gap are relative to the prices, since prices determine their
    rounding: constraints that nearly contradict each other have huge prices.
    """
    prices, x = solution.prices, solution.x
    rows, total = prices[:, :-1], prices[:, -1:]
    excess = (program.matrix @ x[..., None])[..., 0] - program.bound
    reduced = program.objective - (rows[:, None, :] @ program.matrix)[:, 0] - total
    gained = (program.objective * x).sum(-1)
    paid = (rows * program.bound).sum(-1) + total[:, 0]
    size = 1.0 + np.abs(prices).sum(-1)
    dual = np.maximum(np.maximum(reduced.max(-1), -rows.min(-1)), np.abs(paid - gained)) / size
    violation: Float[np.ndarray, " b"] = np.maximum(np.maximum(excess.max(-1), dual), 0.0)
    return violation


def _pivot(table: Float[np.ndarray, "b rows columns"], basis: Int[np.ndarray, "b q"]) -> None:
    # Works in place. The last row of a table holds the reduced costs, the last column the levels.
    q, width = basis.shape[1], table.shape[2] - 1
    last = width - 1  # the slack of "sum x", which never returns after it leaves
    at = np.arange(len(table))
    for turn in range(6 * width):
        now, held = table[at], basis[at]
        each = np.arange(len(at))
        # While that slack is in the basis, in its first row, the sum is maximized.
        row = np.where(held[:, -1] == last, q - 1, q)
        reduced = now[each, row, :width]
        size = 1.0 + np.abs(reduced[:, width - q :]).sum(-1, keepdims=True)  # size of the prices
        gains = np.where(reduced[:, :last] > TOLERANCE * size, reduced[:, :last], 0.0)
        # Bland's rule (1977) never cycles; the other rule takes fewer and larger pivots.
        careful = turn >= 3 * width
        entering = (gains > 0).argmax(-1) if careful else gains.argmax(-1)
        column = now[each, :, entering]
        falls = column[:, :-1] > PIVOT * np.abs(column[:, :-1]).max(-1, keepdims=True)
        going = (gains[each, entering] > 0) & falls.any(-1)
        if not going.all():
            if not going.any():
                return
            at, now, held, column = at[going], now[going], held[going], column[going]
            falls, entering, each = falls[going], entering[going], each[: len(at)]
        steps = np.where(falls, column[:, :-1], 1.0)
        level = np.maximum(now[:, :-1, -1], 0.0)
        # Rows that block within SLACK count as tied. Among these the largest pivot is the most
        # accurate (Harris 1973); the slack of the sum leaves before any other.
        most = np.where(falls, (level + SLACK) / steps, np.inf).min(-1, keepdims=True)
        rank = np.where(held == last, np.inf, -held if careful else steps)
        rank = np.where(falls & (level <= most * steps), rank, -np.inf)
        leaving = rank.argmax(-1)
        line = now[each, leaving] / steps[each, leaving][:, None]
        now -= column[:, :, None] * line[:, None, :]
        now[each, leaving] = line
        table[at] = now
        basis[at, leaving] = entering


def _standard(
    program: Program,
) -> tuple[Float[np.ndarray, "b q width"], Float[np.ndarray, "b q"], Float[np.ndarray, "b width"]]:
    # A row for sum x <= 1, last, and a slack for each row.
    count, k, m = program.matrix.shape
    full = np.zeros((count, k + 1, m + k + 1))
    full[:, :k, :m] = program.matrix
    full[:, k, :m] = 1.0
    full[:, np.arange(k + 1), np.arange(m, m + k + 1)] = 1.0
    right = np.ones((count, k + 1))
    right[:, :k] = program.bound
    cost = np.zeros((count, m + k + 1))
    cost[:, :m] = program.objective
    return full, right, cost
