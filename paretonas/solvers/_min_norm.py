"""The shortest vector in the convex hull of the gradients, exactly."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._gram import Gram
from paretonas.solvers._nnqp import kkt_residual, nonnegative_qp


def min_norm(gram: Gram) -> Float[Tensor, "r m"]:
    """Return the convex weights of the shortest combination of the rows.

    The simplex is left to a non-negative program: with c = 1 / norms, the x >= 0 that minimizes
    1/2 x'(C + cc')x - c'x is a multiple of the answer (any positive factor before cc' will do).
    """
    norms = gram.norms
    m = norms.shape[-1]
    if m == 1:
        return torch.ones_like(norms)
    zero = norms == 0
    safe = torch.where(zero, 1.0, norms)
    weights = _two(gram.cosines, safe) if m == 2 else _more(gram.cosines, safe)
    # A zero row is itself the shortest vector.
    any_zero = zero.any(-1, keepdim=True)
    shared = zero.double() / zero.sum(-1, keepdim=True).clamp_min(1)
    return torch.where(any_zero, shared, weights)


def min_norm_residual(gram: Gram, weights: Float[Tensor, "r m"]) -> Float[Tensor, " r"]:
    """KKT residual of convex weights, relative, on the cosine matrix."""
    zero = gram.norms == 0
    safe = torch.where(zero, 1.0, gram.norms)
    c = safe.amin(-1, keepdim=True) / safe
    y = weights / c
    length = (y.unsqueeze(-2) @ gram.cosines @ y.unsqueeze(-1)).squeeze(-1).clamp_min(0.0)
    x = (y / (1.0 + length)).unsqueeze(-2)
    residual = kkt_residual(_lifted(gram.cosines, c), c.unsqueeze(-2), x).squeeze(-1)
    return torch.where(zero.any(-1), 0.0, residual)


def _two(cosines: Tensor, norms: Tensor) -> Tensor:
    # With the ratio q of the lengths and the cosine c, written so that nothing cancels for
    # near-equal rows, the longer row weighs q (q - c) / ((q - c)^2 + 1 - c^2), at least 0.
    first, second = norms.unbind(-1)
    ratio = torch.minimum(first, second) / torch.maximum(first, second)
    cosine = cosines[..., 0, 1]
    over = (ratio - cosine).clamp_min(0.0)
    below = over * over + (1.0 - cosine) * (1.0 + cosine)
    longer = torch.where(below > 0, ratio * over / below, 0.5 * (first == second))
    longer = longer.clamp_max(0.5)
    share = torch.where(first >= second, longer, 1.0 - longer)
    return torch.stack([share, 1.0 - share], dim=-1)


def _more(cosines: Tensor, norms: Tensor) -> Tensor:
    c = norms.amin(-1, keepdim=True) / norms
    x = nonnegative_qp(_lifted(cosines, c), c.unsqueeze(-2)).squeeze(-2)
    weights = x * c
    return weights / weights.sum(-1, keepdim=True)


def _lifted(cosines: Tensor, c: Tensor) -> Tensor:
    return cosines + c.unsqueeze(-1) * c.unsqueeze(-2)
