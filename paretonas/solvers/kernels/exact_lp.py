"""A small linear program over the simplex in exact integers: slow, and correct for all data.

With nearly parallel gradients the condition number of a basis exceeds 1e9, and the simplex method
fails in float64. Integers have no rounding: a pivot divides without remainder (Edmonds 1967), and
Bland's rule (1977) guarantees the end.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

BITS = 90  # data are rounded to multiples of 2^-90; float64 entries of about 1 have 53 bits


def exact(
    objective: Float[np.ndarray, " m"],
    matrix: Float[np.ndarray, "k m"],
    bound: Float[np.ndarray, " k"],
) -> tuple[Float[np.ndarray, " m"], bool, Float[np.ndarray, " q"]]:
    """Maximize c'x such that Ax <= b, sum x = 1, x >= 0, where b >= 0.

    Returns:
        x, with sum 1 if that is possible, else the largest sum; whether it is feasible; the prices
        of the constraints, the price of sum x = 1 last.
    """
    k, m = matrix.shape
    table = [
        [*_integers(row), *(int(i == j) for j in range(k + 1)), *_integers(right)]
        for i, (row, right) in enumerate(
            zip([*matrix, np.ones(m)], [*bound[:, None], np.ones(1)], strict=True)
        )
    ]
    table.append([*_integers(objective), *[0] * (k + 2)])
    basis = list(range(m, m + k + 1))
    last = m + k  # the slack of the sum: while it is in the basis, the sum is maximized
    scale = 1
    while True:
        row = table[k] if basis[k] == last else table[k + 1]
        entering = next((j for j in range(last) if row[j] > 0 and j not in basis), None)
        if entering is None:
            break
        leaving = _leaving(table, basis, entering, last)
        pivot, line = table[leaving][entering], table[leaving]
        for i, other in enumerate(table):
            if i != leaving:
                factor = other[entering]
                table[i] = [
                    (a * pivot - factor * b) // scale for a, b in zip(other, line, strict=True)
                ]
        scale, basis[leaving] = pivot, entering
    x = np.zeros(m)
    for i, j in enumerate(basis):
        if j < m:
            x[j] = table[i][-1] / scale
    prices = np.array([-entry / scale for entry in table[k + 1][m : m + k + 1]])
    feasible = basis[k] != last
    return x / max(x.sum(), 1e-300), feasible, prices


def _leaving(table: list[list[int]], basis: list[int], entering: int, last: int) -> int:
    # The smallest ratio of level and step, compared by products. Among ties the slack of the sum
    # leaves; otherwise Bland's rule decides.
    best = -1
    for i, j in enumerate(basis):
        step, level = table[i][entering], table[i][-1]
        if step <= 0:
            continue
        if best < 0:
            best = i
            continue
        ahead = level * table[best][entering] - table[best][-1] * step
        if ahead < 0 or (ahead == 0 and basis[best] != last and (j == last or j < basis[best])):
            best = i
    return best


def _integers(row: Float[np.ndarray, " m"]) -> list[int]:
    return [int(entry * 2.0**BITS) for entry in row.tolist()]
