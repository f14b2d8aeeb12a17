"""The initial design: which architectures are evaluated before there is a surrogate."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from paretonas.cell import Structure
from paretonas.relaxation import one_hot_picks
from paretonas.space import Choice

from .features import Features
from .gaussian_process import NOISE, WEIGHTS, kernel_diagonal, kernel_parts
from .observations import Picks

POOL = 500  # random architectures to choose from


def initial_design(
    choices: Sequence[Choice],
    structure: Structure | None,
    features: Features,
    rng: random.Random,
    count: int,
) -> list[Picks]:
    """Architectures in the order in which to evaluate them; all have a route that passes something.

    Each of the first half takes one option wherever it is offered. These show most clearly what an
    option costs, and the expensive end of a front is often among them. The second half is cheap, if
    the structure knows identities and dead options: one architecture without any operation, and
    architectures with a single operation among identities. The rest maximizes the variance of the
    surrogates' prior, given those chosen so far.

    Args:
        choices: of the space.
        structure: how they are wired, if known.
        features: of the architectures.
        rng: draws the random ones.
        count: how many; fewer in a small space.
    """
    uniform = list(dict.fromkeys(_uniform(choices, rng)))
    cheap = list(dict.fromkeys(_cheap(choices, structure, features, rng))) if structure else []
    drawn = [tuple(rng.randrange(n) for n in features.sizes) for _ in range(POOL)]
    wanted = [*uniform[: (count + 1) // 2], *cheap[: count // 2]]
    pool = list(dict.fromkeys([*wanted, *drawn]))
    encoded = features(one_hot_picks(torch.tensor(pool), features.sizes))
    kernel = np.tensordot(WEIGHTS, kernel_parts(encoded, encoded).numpy(), 1)
    left = np.where(encoded.alive.numpy() > 0, WEIGHTS @ kernel_diagonal(encoded), -np.inf)
    chosen: list[int] = []
    factor = np.zeros((0, len(pool)))  # of the kernel, a row for each that was chosen
    while len(chosen) < count and left.max() > -np.inf:
        waiting = left[: len(set(wanted))] > -np.inf
        place = int(waiting.argmax() if waiting.any() else left.argmax())
        row = (kernel[place] - factor[:, place] @ factor) / np.sqrt(max(left[place], 0.0) + NOISE)
        left = left - np.square(row)
        left[place] = -np.inf
        factor = np.vstack([factor, row])
        chosen.append(place)
    return [pool[place] for place in chosen]


def _uniform(choices: Sequence[Choice], rng: random.Random) -> Iterator[Picks]:
    """One option in all choices that share their options, random picks in the others."""
    offered = [choice.options for choice in choices]
    shared = {options: None for options in offered if offered.count(options) > 1}
    options = list(dict.fromkeys(option for options in shared for option in options))
    rng.shuffle(options)
    for option in options:
        yield tuple(
            own.index(option) if own in shared and option in own else rng.randrange(len(own))
            for own in offered
        )


def _cheap(
    choices: Sequence[Choice], structure: Structure, features: Features, rng: random.Random
) -> Iterator[Picks]:
    """One architecture without operations, then those with a single one."""
    offered = {option for choice in choices for option in choice.options}
    if offered & structure.identity and offered & structure.dead:
        idle = structure.identity | structure.dead
        bare = [
            [i for i, option in enumerate(choice.options) if option in idle]
            or list(range(len(choice.options)))
            for choice in choices
        ]
        drawn = [tuple(map(rng.choice, bare)) for _ in range(POOL)]
        alive = features(one_hot_picks(torch.tensor(drawn), features.sizes)).alive.tolist()
        yield from [picks for picks, routes in zip(drawn, alive, strict=True) if routes > 0][:1]
    yield from _single(choices, structure, rng)


def _single(choices: Sequence[Choice], structure: Structure, rng: random.Random) -> Iterator[Picks]:
    """A single operation; an identity in each other choice that offers one."""
    passing = [
        next((i for i, option in enumerate(choice.options) if option in structure.identity), None)
        for choice in choices
    ]
    places = [place for place, index in enumerate(passing) if index is not None]
    for place in rng.sample(places, len(places)):
        options = [
            index
            for index, option in enumerate(choices[place].options)
            if option not in structure.identity | structure.dead
        ]
        if options:
            around = [
                rng.randrange(len(choice.options)) if index is None else index
                for choice, index in zip(choices, passing, strict=True)
            ]
            around[place] = rng.choice(options)
            yield tuple(around)
