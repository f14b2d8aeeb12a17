"""Alpha that follows surrogates: a row for each ray, driven on from proposal to proposal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from paretonas.relaxation import picks_of
from paretonas.solvers import Solver

from .alpha import aimed, drive, rays
from .observations import Picks

Relaxed = Callable[[Tensor], Tensor]  # probabilities (r, K) -> objectives (r, m), scaled

STEPS = 3  # of alpha for each proposal: it goes on from where the last one left it
LEARNING_RATE = 0.3
KEPT = 0.7  # of alpha, from one proposal to the next
STIRRED = 0.3  # deviation of what is added to it then


class Rays:
    """Distributions over architectures that descend what the surrogates predict.

    Alpha is kept from one proposal to the next: surrogates change little when a point is added.
    It is softened and stirred in between, so that no pick is decided for good.

    Args:
        sizes: the number of options of each choice.
        objectives: how many.
        solver: resolves their conflict; aimed at the rays.
        seed: of the stirring.
        count: how many rays, at least.
    """

    def __init__(
        self, sizes: Sequence[int], objectives: int, solver: Solver, seed: int, count: int
    ) -> None:
        self._sizes = tuple(sizes)
        spread = rays(objectives, count).double()
        self._solver = aimed(solver, spread)
        self._generator = torch.Generator().manual_seed(seed)
        self._alpha = torch.zeros(len(spread), sum(sizes), dtype=torch.float64)
        self._asked = 0

    def __call__(self, relaxed: Relaxed) -> list[Picks]:
        """Drive alpha on; the architectures that it met, each once."""
        noise = torch.randn(self._alpha.shape, generator=self._generator, dtype=torch.float64)
        start = KEPT * self._alpha + STIRRED * noise
        self._asked += 1
        met: dict[Picks, None] = {}
        for step in drive(
            start,
            self._sizes,
            relaxed,
            self._solver,
            steps=STEPS,
            learning_rate=LEARNING_RATE,
            seed=self._asked,
        ):
            self._alpha = step.alpha
            met |= dict.fromkeys(map(tuple, picks_of(self._alpha, self._sizes).tolist()))
        return list(met)
