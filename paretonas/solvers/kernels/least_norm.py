"""The shortest weights of unit rows that give wanted inner products, or the nearest ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from paretonas.gradients.gram import FEW, dot
from paretonas.solvers.certificate import RESOLUTION

Array = np.ndarray
STEEP = 1e6  # the inverse is as accurate as the spectrum if its entries are below this
EPS = float(np.finfo(np.float64).eps)


class LeastNorm(NamedTuple):
    """A combination sum_i z_i u_i of unit rows u_i.

    Attributes:
        z: weights of the unit rows; 0 for rows that are not lit (zero rows), and all 0 if no
            combination has inner products close to the wanted ones.
        inner: its inner products with the rows.
        square: its squared length.
        full: whether the rows are linearly independent; then the inner products are as wanted.
    """

    z: Float[Array, "r m"]
    inner: Float[Array, "r m"]
    square: Float[Array, " r"]
    full: Bool[Array, " r"]


def least_norm(
    cosines: Float[Array, "r m m"], wanted: Float[Array, "r m"], lit: Bool[Array, "r m"]
) -> LeastNorm:
    """Solve C z = wanted by least squares; if there are several solutions, take the shortest z.

    Rows that are not lit must be orthogonal to all others, and are left out.
    """
    m = cosines.shape[-1]
    z, steep, full = (_two if m == 2 else _few if m <= FEW else _more)(cosines, wanted)
    inner = wanted
    if not lit.all():
        z, inner = z * lit, inner * lit
    square = (z * inner).sum(-1)
    if not (steep.any() or square.min() <= 0):
        return LeastNorm(z, inner, square, full)
    products = np.matvec(cosines, z)
    inner = np.where(steep[:, None], products, inner)
    square = np.where(steep, np.vecdot(z, products), square)
    # Noise: a sum of terms that cancel, or products that are unrelated to the wanted ones.
    least = RESOLUTION * np.abs(z).sum(-1)
    nothing = (square <= least * least) | (
        np.vecdot(wanted, inner) <= RESOLUTION**2 * np.vecdot(wanted, wanted)
    )
    z, inner = np.where(nothing[:, None], 0.0, z), np.where(nothing[:, None], 0.0, inner)
    return LeastNorm(z, inner, np.where(nothing, 0.0, square), full)


def one_least_norm(
    cosines: list[list[float]], wanted: list[float]
) -> tuple[list[float], float] | None:
    """Solve one small problem in plain Python numbers; return z and the squared length.

    Return None if rows are nearly dependent, or if no combination has such inner products.
    """
    if len(wanted) == 2:
        cosine, (first, second) = cosines[0][1], wanted
        least = (1.0 - cosine) * (1.0 + cosine)
        if least * STEEP <= 1.0:
            return None
        z = [(first - cosine * second) / least, (second - cosine * first) / least]
    else:
        z, pivots = _eliminated(cosines, wanted, max)
        if min(pivots) * STEEP <= 1.0:
            return None
    square = dot(z, wanted)
    return (z, square) if square > 0.0 else None


def _eliminated(c: Any, w: Any, larger: Callable[..., Any]) -> tuple[list[Any], list[Any]]:
    # Solve C z = w for numbers or arrays by elimination, last variable first; also return pivots.
    *rest, end = w
    *across, pivot = c[-1]
    pivot = larger(pivot, EPS)
    if not rest:
        return [end / pivot], [pivot]
    others = [
        [v - a * b / pivot for v, b in zip(row, across, strict=False)]
        for row, a in zip(c, across, strict=False)
    ]
    right = [v - a * end / pivot for v, a in zip(rest, across, strict=True)]
    z, pivots = _eliminated(others, right, larger)
    for a, x in zip(across, z, strict=True):
        end = end - a * x
    return [*z, end / pivot], [*pivots, pivot]


def _few(cosines: Array, wanted: Array) -> tuple[Array, Array, Array]:
    found, pivots = _eliminated(cosines.transpose(1, 2, 0), wanted.T, np.maximum)
    z = np.stack(found, -1)
    steep = np.minimum.reduce(pivots) * STEEP <= 1.0
    return z, steep, _by_spectrum(cosines, wanted, z, steep)


def _two(cosines: Array, wanted: Array) -> tuple[Array, Array, Array]:
    cosine = cosines[:, :1, 1]
    square = (1.0 - cosine) * (1.0 + cosine)
    full = square > 8 * EPS
    turned = wanted[:, ::-1]
    if full.all():
        z = (wanted - cosine * turned) / square
    else:
        # The pseudo-inverse of this matrix of ones and minus ones is a quarter of the matrix.
        apart = (wanted - cosine * turned) / np.where(full, square, 1.0)
        z = np.where(full, apart, 0.25 * (wanted + np.sign(cosine) * turned))
    return z, square[:, 0] * STEEP <= 1.0, full[:, 0]


def _more(cosines: Array, wanted: Array) -> tuple[Array, Array, Array]:
    inverse = _inverse(cosines)
    steep = np.maximum.reduce(np.abs(inverse), (-2, -1)) > STEEP
    z = np.matvec(inverse, wanted)
    return z, steep, _by_spectrum(cosines, wanted, z, steep)


def _by_spectrum(cosines: Array, wanted: Array, z: Array, steep: Array) -> Array:
    # Improve z where the inverse is steep, and return where the rows are independent.
    full = np.ones(len(z), dtype=bool)
    if steep.any():
        values, vectors = np.linalg.eigh(cosines[steep])
        kept = values > 4 * cosines.shape[-1] * EPS * values[:, -1:]
        parts = np.vecmat(wanted[steep], vectors) / np.where(kept, values, np.inf)
        z[steep] = np.matvec(vectors, parts)
        full[steep] = kept.all(-1)
    return full


def _inverse(cosines: Array) -> Array:
    try:
        return np.linalg.inv(cosines)
    except np.linalg.LinAlgError:
        # One singular matrix makes the whole batch fail; it gets an inverse that counts as steep.
        steep = np.linalg.eigvalsh(cosines)[:, :1, None] < 1e-9
        inverse: Array = np.linalg.inv(np.where(steep, np.eye(cosines.shape[-1]), cosines))
        return np.where(steep, 2 * STEEP, inverse)
