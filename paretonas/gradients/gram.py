"""The Gram matrix of the gradients, split into cosines, which have no scale, and norms.

`Gram.of` has three tiers, by size. *Alone* (``_alone``, ``plain``, ``dot``): one ray of up to
``FEW`` objectives and few numbers, in plain Python numbers. This replaces several numpy calls: with
m = 2 and n = 200 MGDA takes 38 instead of 68 microseconds. *Few* (``rows.few``): one numpy product
on the host for all rays. *Alone* performs the same operations in the same order, so a ray gets the
same bits alone and in a batch. *Many*: products block by block on the rows' device, with one read
of memory; on a CPU in float32 stripes (``in_stripes``) if the rows are far from dependent, else
``in_float64``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import add, mul

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.rows import PACK, Rows

FEW = 4  # up to this many objectives one matrix is processed in plain Python numbers
STRIPE = 2**14  # columns per float32 sum; the sums of stripes are added in float64
CLEAR = 0.1  # float32 products are accurate enough if the cosines have no eigenvalue below this
LEAST, MOST = 1e-140, 1e140  # products of lengths in this range keep their digits in float64
LEAST_SQUARE, MOST_SQUARE = LEAST**2, MOST**2


@dataclass(frozen=True, eq=False)
class Gram:
    """Angles and lengths of the rows of r jacobians, in float64 on the host.

    Cosines and norms are stored separately, so that rows of 1e-30 and of 1e30 keep their digits.
    A zero row has norm 0 and counts as orthogonal to every other row.
    """

    cosines: Float[np.ndarray, "r m m"]
    norms: Float[np.ndarray, "r m"]

    @staticmethod
    def of(rows: Rows, metric: Float[Tensor, " n"] | None = None) -> Gram:
        """Compute cosines and norms; with a metric, from products sum_k a_k metric_k b_k.

        Raises:
            ValueError: a row is not finite.
        """
        if rows.few:
            few = rows.wide()
            if metric is not None:
                few = few * np.sqrt(metric.to("cpu", torch.float64).numpy())
            with np.errstate(over="ignore", invalid="ignore"):  # handled below
                products = few @ few.swapaxes(-1, -2) if rows.batched else few.dot(few.T)[None]
            if len(products) == 1 and rows.m <= FEW:
                gram = _alone(products[0].tolist())
                if gram is not None:
                    return gram
            # (numpy's product of a matrix with its own transpose is symmetric to the last bit)
            norms = np.sqrt(products.diagonal(axis1=-2, axis2=-1))
            if np.minimum.reduce(norms, None) > LEAST and np.maximum.reduce(norms, None) < MOST:
                return _divided(products, norms)
            plain: np.ndarray = np.all((norms > LEAST) & (norms < MOST), axis=-1)
            if plain.any():
                with np.errstate(invalid="ignore"):
                    gram = _divided(products, np.where(plain[:, None], norms, 1.0))
                return _replaced(gram, np.logical_not(plain), rows, metric)
        if rows.r > 1:  # choose the method for each ray alone, so that no ray influences another
            empty = np.empty((rows.r, rows.m, rows.m))
            gram = Gram(empty, np.empty((rows.r, rows.m)))
            return _replaced(gram, np.ones(rows.r, dtype=bool), rows, metric)
        narrow = rows.dtype == torch.float32 and rows.n > STRIPE and rows.device.type == "cpu"
        if narrow and metric is None:
            products = _products(rows, in_stripes).cpu().numpy()
            squares = products.diagonal(axis1=-2, axis2=-1)
            # Squares below the range of float32 would be 0 in the sums, those above are inf.
            if squares.min() > 1e-30 * rows.n and squares.max() < 1e38:
                gram = (_alone(products[0].tolist()) if rows.m <= FEW else None) or _split(products)
                if _far_from_dependent(gram.cosines):
                    return gram
        products = _products(rows, in_float64, metric).cpu().numpy()
        squares = products.diagonal(axis1=-2, axis2=-1)
        if squares.min() > LEAST**2 and squares.max() < MOST**2:
            return _split(products)
        rows.check_finite()
        peaks = _peaks(rows)
        scale = torch.where(peaks > 0, peaks, 1.0)
        gram = _split(_products(rows, in_float64, metric, scale).cpu().numpy())
        return Gram(gram.cosines, gram.norms * scale.cpu().numpy())

    @staticmethod
    def of_matrix(products: Float[np.ndarray, "r m m"]) -> Gram:
        """Split a matrix; the caller ensures that it is symmetric and its diagonal is >= 0."""
        return _split(products)


def plain(gram: Gram) -> tuple[list[list[float]], list[float]] | None:
    """One small matrix and its norms as plain Python numbers, which are faster for a few steps.

    None if there are several matrices, a larger one, or a zero row. Code that uses them performs
    the same operations in the same order as on arrays, so a ray gets the same bits in a batch.
    """
    if not (len(gram.norms) == 1 < gram.norms.size <= FEW):
        return None
    norms: list[float] = gram.norms[0].tolist()
    return None if 0.0 in norms else (gram.cosines[0].tolist(), norms)


def dot(a: Iterable[float], b: Iterable[float]) -> float:
    """Add products from left to right, as numpy's sum does for fewer than 8 terms."""
    total: float = reduce(add, map(mul, a, b))
    return total


def _replaced(gram: Gram, which: np.ndarray, rows: Rows, metric: Tensor | None) -> Gram:
    rays = rows.dense()
    try:
        for k in np.flatnonzero(which):
            alone = Gram.of(Rows(rays[k]), metric)
            gram.cosines[k], gram.norms[k] = alone.cosines[0], alone.norms[0]
    except ValueError:
        rows.check_finite()  # its message also names the ray
        raise
    return gram


def _split(products: np.ndarray) -> Gram:
    norms = np.sqrt(products.diagonal(axis1=-2, axis2=-1))
    safe = norms if norms.min() > 0 else np.where(norms > 0, norms, 1.0)
    # Divide twice, since the product of two lengths may leave the range of float64.
    cosines = products / safe[:, :, None]
    cosines /= safe[:, None, :]
    cosines = cosines + cosines.swapaxes(-1, -2)
    cosines *= 0.5
    return Gram(_clipped(cosines), norms)


def _alone(products: list[list[float]]) -> Gram | None:
    # One small matrix: the same operations in plain Python numbers are several times as fast.
    squares = [row[i] for i, row in enumerate(products)]
    if not (LEAST_SQUARE < min(squares) <= sum(squares) < MOST_SQUARE):  # (not so for NaN)
        return None
    norms = list(map(math.sqrt, squares))
    cosines = [[1.0] * len(norms) for _ in norms]
    for i, row in enumerate(products):
        for j in range(i):
            cosine = row[j] / (norms[i] * norms[j])
            if not -1.0 <= cosine <= 1.0:
                cosine = math.copysign(1.0, cosine)
            cosines[i][j] = cosines[j][i] = cosine
    return Gram(np.array([cosines]), np.array([norms]))


def _far_from_dependent(cosines: np.ndarray) -> bool:
    # Whether the smallest eigenvalue is well above 0; Gershgorin's circles are tried first.
    beyond: float = np.abs(cosines).sum(-1).max() - 1.0
    if 1.0 - beyond > CLEAR:
        return True
    return bool(np.linalg.eigvalsh(cosines)[..., 0].min() > CLEAR)


def _divided(products: np.ndarray, norms: np.ndarray) -> Gram:
    return Gram(_clipped(products / (norms[:, :, None] * norms[:, None, :])), norms)


def _clipped(cosines: np.ndarray) -> np.ndarray:
    np.minimum(cosines, 1.0, out=cosines)
    np.maximum(cosines, -1.0, out=cosines)
    m = cosines.shape[-1]
    cosines.reshape(-1, m * m)[:, :: m + 1] = 1.0
    return cosines


def in_float64(block: Float[Tensor, "r m b"]) -> Float[Tensor, "r m m"]:
    """Multiply in float64, in chunks of columns that fit into the cache."""
    total = None
    for cut in (block,) if block.shape[-1] <= PACK else block.split(PACK, dim=-1):
        wide = cut.double()
        product = wide @ wide.mT
        total = product if total is None else total.add_(product)
    assert total is not None
    return total


def in_stripes(block: Float[Tensor, "r m b"]) -> Float[Tensor, "r m m"]:
    """Multiply stripes of columns in float32 and add the results in float64."""
    whole = block.shape[-1] // STRIPE * STRIPE
    stripes = block[..., :whole].unflatten(-1, (-1, STRIPE)).transpose(1, 2)  # (r, k, m, STRIPE)
    rest = block[..., whole:]
    total: Tensor = (stripes @ stripes.mT).sum(1, dtype=torch.float64)
    return total + (rest @ rest.mT).double()


def _products(
    rows: Rows,
    multiply: Callable[[Tensor], Tensor],
    metric: Tensor | None = None,
    scale: Tensor | None = None,
) -> Tensor:
    total: Tensor | None = None
    start = 0
    for block in rows.blocks():
        width = block.shape[-1]
        if scale is not None:
            block = block.double() / scale.unsqueeze(-1)
        if metric is not None:
            block = block.double() * metric[start : start + width].double().sqrt()
        start += width
        product = multiply(block)
        total = product if total is None else total + product
    assert total is not None
    return total


def _peaks(rows: Rows) -> Float[Tensor, "r m"]:
    peaks = [torch.linalg.vector_norm(block, torch.inf, dim=-1) for block in rows.blocks()]
    return torch.stack(peaks).amax(0).double()
