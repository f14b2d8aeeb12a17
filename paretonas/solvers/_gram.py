"""The Gram matrix of the gradients, split into what has no scale (cosines) and what has (norms)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

CHUNK = 1 << 15  # columns converted to float64 at a time: the copy stays in the cache


@dataclass(frozen=True)
class Gram:
    """Angles and lengths of the rows of r jacobians, in float64.

    Two numbers per row rather than one product, so that rows of 1e-30 and of 1e30 lose nothing.
    A zero row has norm 0 and counts as orthogonal to every other.
    """

    cosines: Float[Tensor, "r m m"]
    norms: Float[Tensor, "r m"]

    @staticmethod
    def of(rows: Float[Tensor, "r m n"], peaks: Float[Tensor, "r m"]) -> Gram:
        """Compute it from rows whose largest absolute entries, ``peaks``, are finite."""
        scale = peaks.double()
        scale = torch.where(scale > 0, scale, 1.0)
        unit = scale.unsqueeze(-1)
        n = rows.shape[-1]
        if n <= 2 * CHUNK:
            block = rows.double() / unit
            products = block @ block.mT
        else:
            products = scale.new_zeros(*rows.shape[:-1], rows.shape[-2])
            for start in range(0, n, CHUNK):
                block = rows[..., start : start + CHUNK].double() / unit
                products += block @ block.mT
        lengths = products.diagonal(dim1=-2, dim2=-1).sqrt()
        safe = torch.where(lengths > 0, lengths, 1.0)
        cosines = products / (safe.unsqueeze(-1) * safe.unsqueeze(-2))
        cosines = (0.5 * (cosines + cosines.mT)).clamp(-1.0, 1.0)
        cosines.diagonal(dim1=-2, dim2=-1).fill_(1.0)
        return Gram(cosines, lengths * scale)


def combine(weights: Float[Tensor, "r m"], rows: Float[Tensor, "r m n"]) -> Float[Tensor, "r n"]:
    """Sum the rows by their weights in float64; the answer has the dtype of the rows."""
    n = rows.shape[-1]
    if n <= 2 * CHUNK:
        return (weights.unsqueeze(-2) @ rows.double()).squeeze(-2).to(rows.dtype)
    out = rows.new_empty(rows.shape[0], n)
    for start in range(0, n, CHUNK):
        block = rows[..., start : start + CHUNK].double()
        out[..., start : start + CHUNK] = (weights.unsqueeze(-2) @ block).squeeze(-2)
    return out
