"""PCGrad: remove from each gradient its conflicting parts, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations
from math import factorial

import numpy as np
import torch
from jaxtyping import Float, Int

from paretonas.gradients.gram import Gram, plain
from paretonas.solvers._random import check_generator
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay

Array = np.ndarray
ALL_ORDERS = 5  # up to 5 objectives all orders are averaged: 5 x 24 chains of 4 projections


def project_conflicting(
    cosines: Float[Array, "r m m"], orders: Int[Array, "r_or_1 m p turns"]
) -> Float[Array, "r m p m"]:
    """Algorithm 1 of Yu et al. without its last line, the sum.

    Gradients are weighted sums of unit rows, so the cosines are enough. The result is g_i^PC of
    each ray, for each of the p orders in which gradient i is projected.
    """
    (r, m, _), p = cosines.shape, orders.shape[2]
    met = cosines[np.arange(r)[:, None, None, None], orders]
    g_pc = np.zeros((r, m, p, m)) + np.eye(m)[:, None]  # g_i^PC = g_i
    entries, share = g_pc.reshape(-1), _places(g_pc, orders)
    for turn in range(m - 1):  # project i off j = orders[:, i, :, turn]
        inner = np.vecdot(met[..., turn, :], g_pc)  # inner product of g_i^PC with the unit row j
        entries[share[..., turn]] = np.maximum(-inner, 0.0)  # remove it if it is negative
    return g_pc


@dataclass(frozen=True, eq=False)
class PCGrad(WeightingSolver):
    """Project each gradient off the gradients it conflicts with, in turn, and sum the results.

    The result depends on the order of the projections. With a generator each gradient draws its
    own order, as published. Without one nothing is random, and permuting the objectives permutes
    the weights. Up to 5 objectives the result is then the average over all orders, the expectation
    of the published method. With more objectives the order goes from the most conflicting gradient
    to the least, which is one of the possible orders (equal angles keep the order of the rows).

    It is non-conflicting only for two objectives, where it is twice UPGrad. Each weight is at least
    1, so the direction is 0 only if some positive combination of the gradients is 0. It is linear
    in the length of each gradient. A zero gradient conflicts with none.

    Attributes:
        generator: draws the orders, for all rays at once; None for the deterministic rule.

    Raises:
        TypeError: the generator has another type.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782. Each gradient
        skips itself, and is projected off the original other gradients; the results are summed.

    >>> import torch
    >>> PCGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).vector
    tensor([0.5000, 1.5000])
    """

    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Check the generator."""
        check_generator(self.generator)

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the sum of the lengths: no projection makes a gradient longer."""
        return np.asarray(problem.gram.norms.sum(-1))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Project the weights, and sum."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        r, m = norms.shape
        if m == 2:
            return Answer(_two_need_no_order(problem.gram), state=state)
        if self.generator is not None:
            drawn = torch.rand(r, m, m, generator=self.generator, device=self.generator.device)
            orders, branch = _by(drawn.cpu().numpy()), "drawn order"
        elif m <= ALL_ORDERS:
            orders, branch = _every(m), "all orders"
        else:
            orders, branch = _by(cosines), "most conflicting first"
        g_pc = project_conflicting(cosines, orders)
        # Each gradient has p orders; take the average over them.
        shares = np.repeat(norms / orders.shape[2], orders.shape[2], -1)
        weights = np.vecmat(shares, g_pc.reshape(r, -1, m)) / _safe(norms)
        return Answer(np.where(norms > 0, weights, 1.0), branch=branch, state=state)


def _places(g_pc: Float[Array, "r m p m"], orders: Int[Array, "r_or_1 m p turns"]) -> Array:
    # The position of the weight of row j in g_i^PC: one flat index is faster than four.
    r, m, p, _ = g_pc.shape
    places: Array = np.arange(0, g_pc.size, m).reshape(r, m, p, 1) + orders
    return places


def _two_need_no_order(gram: Gram) -> Float[Array, "r 2"]:
    # Closed form for two gradients, each projected once: it takes about half the time.
    if (alone := plain(gram)) is not None:
        ((_, cosine), _), (first, second) = alone
        conflict = max(-cosine, 0.0)
        return np.array([[1.0 + conflict * second / first, 1.0 + conflict * first / second]])
    norms, conflicts = gram.norms, np.maximum(-gram.cosines[:, :1, 1], 0.0)
    weights: Array = 1.0 + conflicts * norms[:, ::-1] / _safe(norms)
    return weights


def _safe(norms: Array) -> Array:
    return norms if norms.all() else np.where(norms > 0, norms, 1.0)


def _by(keys: Float[Array, "r m m"]) -> Int[Array, "r m 1 turns"]:
    # The order for gradient i: the others j by increasing keys[i, j]; i itself would be the last.
    itself = np.eye(keys.shape[-1], dtype=bool)
    return np.where(itself, np.inf, keys).argsort(-1, kind="stable")[:, :, None, :-1]


@cache
def _every(m: int) -> Int[Array, "1 m p turns"]:
    orders = [list(permutations([j for j in range(m) if j != i])) for i in range(m)]
    return np.array(orders, dtype=np.intp).reshape(1, m, factorial(m - 1), m - 1)
