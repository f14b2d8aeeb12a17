"""From distributions back to architectures, and a look around each of them."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn import Supernet
from ..relaxation import picks_of, probabilities, sizes_of
from ..space import Architecture, decode, draw, neighbors

SAMPLES = 4  # of each ray's distribution
STRANGERS = 20  # drawn uniformly, so that no pick is out of reach


def candidates(
    supernet: Supernet,
    alpha: Float[Tensor, "r K"],
    front: Iterable[Architecture],
    *,
    seed: int,
) -> list[Architecture]:
    """Every ray decided, drawn from, and all neighbors by one pick of these and of the front.

    Architectures that are one network are listed once, under their canonical name.
    """
    choices = supernet.choices
    sizes = list(sizes_of(choices))
    p = probabilities(alpha, sizes, temperature=0.5)
    generator = torch.Generator().manual_seed(seed)
    drawn = [
        torch.stack(
            [torch.multinomial(part, 1, generator=generator)[:, 0] for part in p.split(sizes, 1)], 1
        )
        for _ in range(SAMPLES)
    ]
    decided = [decode(choices, row) for row in picks_of(p, sizes).tolist()]
    samples = [decode(choices, row) for row in torch.cat(drawn).tolist()]
    near = [b for a in dict.fromkeys([*decided, *front]) for b in neighbors(choices, a)]
    rng = Random(seed)
    strangers = [draw(choices, rng) for _ in range(STRANGERS)]
    found = [*decided, *samples, *near, *strangers]
    return list(dict.fromkeys(supernet.canonical(a) for a in found))
