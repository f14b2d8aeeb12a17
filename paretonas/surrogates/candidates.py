"""Candidate generation: which architectures an acquisition function ranks.

Both searches propose where alpha leads, the neighbors of good architectures, and random ones.
`Surgery` can rank any architecture at once and improves its best candidates by `local_search`. The
gradient search ranks one fixed pool, since draws of its surrogate are joint over all candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from random import Random

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn import Supernet
from ..relaxation import picks_of, probabilities, sizes_of
from ..space import Architecture, decode, encode, neighbor_picks
from .observations import Picks

Scoring = Callable[[list[Picks]], list[tuple[Picks, float]]]

SAMPLES = 4  # of each ray's distribution
RANDOM = 20  # drawn uniformly, so that every option can be reached
POOL = 2000  # candidates of the gradient search: joint draws take the cube of their number
ROUNDS = 4  # of local search
BEAM = 8  # architectures whose neighbors are scored in a round


def candidates(
    supernet: Supernet,
    alpha: Float[Tensor, "r K"],
    front: Iterable[Architecture],
    *,
    seed: int,
) -> list[Architecture]:
    """The pool of the gradient search.

    For each ray the architecture of its most probable picks and `SAMPLES` of its distribution; the
    neighbors of the former and of the front; `RANDOM` random ones. In a large space a random part
    of the neighbors is left out, so that there are at most `POOL` candidates. Architectures that
    are the same network are listed once, under their canonical name.

    Args:
        supernet: the space.
        alpha: a row for each ray.
        front: the best architectures so far.
        seed: of the samples and the random ones.
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
    decided = [tuple(row) for row in picks_of(p, sizes).tolist()]
    samples = [tuple(row) for row in torch.cat(drawn).tolist()]
    centers = dict.fromkeys([*decided, *(encode(choices, a) for a in front)])
    rng = Random(seed)
    near = around(centers, sizes, rng, RANDOM)
    room = max(RANDOM, POOL - len(decided) - len(samples))
    if len(near) > room:
        near = rng.sample(near[:-RANDOM], room - RANDOM) + near[-RANDOM:]
    found = [*decided, *samples, *near]
    return list(dict.fromkeys(supernet.canonical(decode(choices, picks)) for picks in found))


def around(centers: Iterable[Picks], sizes: Sequence[int], rng: Random, count: int) -> list[Picks]:
    """All neighbors of some architectures, then `count` random ones, perhaps repeated."""
    near = [picks for center in centers for picks in neighbor_picks(center, sizes)]
    return near + [tuple(map(rng.randrange, sizes)) for _ in range(count)]


def local_search(starts: Iterable[Picks], sizes: Sequence[int], score: Scoring) -> list[Picks]:
    """The architectures that a beam search over neighbors has scored, best first.

    Each round scores all neighbors of the `BEAM` best so far. The search ends after two rounds
    without a better one, or after `ROUNDS`.

    Args:
        starts: where to begin.
        sizes: the number of options of each choice.
        score: gives the score of each architecture that may be proposed, and leaves out the
            others; higher is better.
    """
    scores = dict(score(list(dict.fromkeys(starts))))
    expanded: set[Picks] = set()
    for round_ in range(ROUNDS):
        leaders = [p for p in _best(scores)[:BEAM] if p not in expanded]
        expanded.update(leaders)
        met = [n for p in leaders for n in neighbor_picks(p, sizes) if n not in scores]
        before = max(scores.values(), default=0.0)
        scores.update(score(list(dict.fromkeys(met))))
        if not leaders or (round_ and max(scores.values()) <= before):
            break
    return _best(scores)


def _best(scores: dict[Picks, float]) -> list[Picks]:
    return sorted(scores, key=lambda picks: -scores[picks])
