"""PCGrad: remove from each gradient, one after the other, what conflicts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import Problem

ALL_ORDERS = 5  # objectives up to which every order is averaged: 5 x 24 projections


@dataclass(frozen=True, eq=False)
class PCGrad(WeightingSolver):
    """Project each gradient off those it conflicts with, in turn, and sum the results.

    The result depends on the order of the projections. Without a generator it is the average over
    orders: over all of them for up to 5 objectives (so permuting the objectives changes nothing),
    over the rotations of the list and of its reverse beyond. With a generator each gradient draws
    one order, as published. Only for two objectives is it sure not to conflict.

    Attributes:
        generator: draws the orders; None for the average.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782. Each gradient
        skips itself, and is projected off the others as they were given.

    >>> import torch
    >>> PCGrad()(torch.tensor([[1.0, 0.0], [-1.0, 1.0]])).vector
    tensor([0.5000, 1.5000])
    """

    generator: torch.Generator | None = None

    def weigh(self, problem: Problem, state: object) -> Answer:
        """Project in the space of weights: only angles between rows are needed."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        r, m = norms.shape
        orders = self._orders(r, m, norms.device)  # (r or 1, m, p, m - 1)
        own = torch.eye(m, dtype=norms.dtype, device=norms.device)
        terms = own.unsqueeze(-2).expand(r, m, orders.shape[-2], m).clone()  # on unit rows
        ray = torch.arange(r, device=norms.device).view(-1, 1, 1)
        for turn in range(m - 1):
            other = orders[..., turn].expand(r, -1, -1)
            inner = (cosines[ray, other] * terms).sum(-1, keepdim=True)
            terms.scatter_add_(-1, other.unsqueeze(-1), (-inner).clamp_min(0.0))
        weights = (norms.unsqueeze(-2) @ terms.mean(-2)).squeeze(-2)
        safe = torch.where(norms > 0, norms, 1.0)
        weights = torch.where(norms > 0, weights / safe, 1.0)
        branch = "averaged" if self.generator is None else "drawn"
        return Answer(weights, branch=branch, state=state)

    def _orders(self, r: int, m: int, device: torch.device) -> Tensor:
        if self.generator is not None:
            keys = torch.rand(
                r, m, 1, m - 1, generator=self.generator, device=self.generator.device
            )
            drawn = keys.argsort(-1).to(device)
        else:
            drawn = torch.tensor(_fixed_orders(m), dtype=torch.long, device=device)
            drawn = drawn[None, None].expand(1, m, -1, -1)
        # A number counts the others only: from row i on, it means the next one.
        own = torch.arange(m, device=device).view(1, m, 1, 1)
        return drawn + (drawn >= own)


def _fixed_orders(m: int) -> list[tuple[int, ...]]:
    others = tuple(range(m - 1))
    if m <= ALL_ORDERS:
        return list(permutations(others))
    turned = [others[i:] + others[:i] for i in others]
    return turned + [order[::-1] for order in turned]
