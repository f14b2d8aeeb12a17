"""The exact shortest vector in the convex hull of the gradients (min-norm problem)."""

from __future__ import annotations

from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float

from paretonas.gradients.gram import Gram, plain
from paretonas.solvers.kernels.nnqp import kkt_residual, nonnegative_qp, one_nonnegative_qp

Array = np.ndarray


def min_norm(gram: Gram) -> Float[Array, "r m"]:
    """Return the convex weights of the shortest combination of the rows.

    The simplex constraint is replaced by a non-negative program: with c = 1 / norms, the x >= 0
    that minimizes 1/2 x'(C + cc')x - c'x is a multiple of the answer (for any positive factor of
    cc'). A zero row is itself the shortest vector; several zero rows share the weight.
    """
    if (alone := plain(gram)) is not None:
        return np.array([_of_few(*alone)])
    norms = gram.norms
    if norms.shape[-1] == 1:
        return np.ones_like(norms)
    zero = norms == 0.0
    if not zero.any():
        return _of_nonzero(gram.cosines, norms)
    shared = zero / np.maximum(zero.sum(-1, keepdims=True), 1)
    weights = _of_nonzero(gram.cosines, np.where(zero, 1.0, norms))
    return np.where(zero.any(-1, keepdims=True), shared, weights)


def min_norm_residual(gram: Gram, weights: Float[Array, "r m"]) -> Float[Array, " r"]:
    """Relative KKT residual of convex weights, on the cosine matrix.

    The weights determine the x of the program except for its length. The squared length of the
    combination would give that length, but where long rows cancel only rounding is left of it. So
    the condition of each row gives one length, and the length with the smallest residual is used.
    """
    zero = gram.norms == 0.0
    c = _relative(np.where(zero, 1.0, gram.norms))
    y = np.divide(weights, c, out=np.zeros_like(c), where=c > 0.0)
    slope = np.vecmat(y, gram.cosines) + c
    lengths = np.divide(c, slope, out=np.ones_like(c), where=slope > c)
    x = lengths[:, :, None] * y[:, None]
    linear = np.broadcast_to(c[:, None], x.shape)
    residual = kkt_residual(_lifted(gram.cosines, c), linear, x).min(-1)
    return np.where(zero.any(-1), 0.0, residual)


def _of_nonzero(cosines: Array, norms: Array) -> Array:
    if norms.shape[-1] == 2:
        return _of_two(cosines[:, 0, 1], norms)
    c = _relative(norms)
    weights: Array = nonnegative_qp(_lifted(cosines, c), c[:, None])[:, 0] * c
    weights /= weights.sum(-1, keepdims=True)
    return weights


def _of_two(cosine: Float[Array, " r"], norms: Float[Array, "r 2"]) -> Array:
    # With the ratio q of the lengths and the cosine c, the longer row has the weight
    # q (q - c) / ((q - c)^2 + 1 - c^2), at least 0. In this form nothing cancels for equal rows.
    longest = norms.max(-1)
    ratio = norms.min(-1) / longest
    over = np.maximum(ratio - cosine, 0.0)
    below = over * over + (1.0 - cosine) * (1.0 + cosine)
    twice = (below == 0.0) & (ratio == 1.0)  # two equal rows
    longer = np.minimum((ratio * over + 0.5 * twice) / (below + (below == 0.0)), 0.5)
    weights = np.empty_like(norms)
    first = norms[:, 0] == longest
    weights[:, 0] = np.where(first, longer, 1.0 - longer)
    weights[:, 1] = np.where(first, 1.0 - longer, longer)
    return weights


def _of_few(cosines: list[list[float]], norms: list[float]) -> list[float]:
    # Fast path for one small matrix, in plain Python numbers.
    shortest, longest = min(norms), max(norms)
    if len(norms) == 2:
        ratio, cosine = shortest / longest, cosines[0][1]
        over = max(ratio - cosine, 0.0)
        below = over * over + (1.0 - cosine) * (1.0 + cosine)
        twice = 0.5 if below == 0.0 and ratio == 1.0 else 0.0
        longer = min((ratio * over + twice) / (below or 1.0), 0.5)
        return [longer, 1.0 - longer] if norms[0] == longest else [1.0 - longer, longer]
    c = [shortest / norm for norm in norms]
    lifted = [
        [v + a * b for v, b in zip(row, c, strict=True)] for row, a in zip(cosines, c, strict=True)
    ]
    weights = [x * a for x, a in zip(one_nonnegative_qp(lifted, c), c, strict=True)]
    total = reduce(add, weights)
    return [weight / total for weight in weights]


def _relative(norms: Array) -> Array:
    relative: Array = norms.min(-1, keepdims=True) / norms
    return relative


def _lifted(cosines: Array, c: Array) -> Array:
    lifted: Array = cosines + c[:, :, None] * c[:, None, :]
    return lifted
