"""Choices, architectures, and the protocol of a search space."""

from __future__ import annotations

import itertools
import math
from collections.abc import Container, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from dataclasses import dataclass
from difflib import get_close_matches
from random import Random
from typing import Protocol, runtime_checkable

__all__ = [
    "Architecture",
    "Choice",
    "SearchSpace",
    "decode",
    "draw",
    "encode",
    "every",
    "fair_paths",
    "nearest",
    "neighbor_picks",
    "neighbors",
    "size",
]


@dataclass(frozen=True)
class Choice:
    """One decision of a search space and its alternatives.

    Attributes:
        name: the name of the decision in tables and files, such as ``"block1.op"``.
        options: the names of the alternatives: at least two, each once.

    Raises:
        ValueError: there are fewer than two options, or one is listed twice.
    """

    name: str
    options: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2:
            raise ValueError(
                f"choice {self.name!r} needs at least two options, got {list(self.options)}"
            )
        if len(set(self.options)) != len(self.options):
            raise ValueError(f"choice {self.name!r} lists an option twice: {list(self.options)}")


class Architecture(Mapping[str, str]):
    """One pick per choice, by name; immutable and hashable. The order of the choices is ignored.

    >>> tiny = Architecture({"width": "8", "op": "conv3"})
    >>> tiny["op"], str(tiny)
    ('conv3', 'width=8 op=conv3')
    >>> tiny == Architecture({"op": "conv3", "width": "8"})
    True
    """

    __slots__ = ("_hash", "_picks")

    def __init__(self, picks: Mapping[str, str]) -> None:
        self._picks = dict(picks)
        self._hash = hash(frozenset(self._picks.items()))

    def __getitem__(self, name: str) -> str:
        return self._picks[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._picks)

    def __len__(self) -> int:
        return len(self._picks)

    # Those of `Mapping` look up one pick after the other; comparisons use these.
    def keys(self) -> KeysView[str]:
        """The names of the choices."""
        return self._picks.keys()

    def values(self) -> ValuesView[str]:
        """The names of the picked options."""
        return self._picks.values()

    def items(self) -> ItemsView[str, str]:
        """The name of each choice with that of its option."""
        return self._picks.items()

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Architecture], tuple[dict[str, str]]]:
        return Architecture, (dict(self._picks),)  # hashes of strings differ between processes

    def __str__(self) -> str:
        return " ".join(f"{name}={option}" for name, option in self._picks.items())

    def __repr__(self) -> str:
        return f"Architecture({self._picks})"


@runtime_checkable
class SearchSpace(Protocol):
    """The choices that a search decides; a space that builds networks has a method for it."""

    @property
    def name(self) -> str:
        """The name of the space in files and tables."""
        ...

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The decisions, in a fixed order; at least one."""
        ...


def encode(choices: Sequence[Choice], architecture: Mapping[str, str]) -> tuple[int, ...]:
    """The index of each pick among its choice's options, in the order of the choices.

    Raises:
        ValueError: a choice has no pick, a pick has no choice, or an option is unknown.
    """
    unknown = set(architecture) - {choice.name for choice in choices}
    if unknown:
        name = sorted(unknown)[0]
        raise ValueError(
            f"no choice is called {name!r}{nearest(name, [choice.name for choice in choices])}"
        )
    picks = []
    for choice in choices:
        option = architecture.get(choice.name)
        if option is None:
            raise ValueError(f"the architecture has no pick for choice {choice.name!r}")
        if option not in choice.options and str(option) in choice.options:
            raise ValueError(
                f"the pick of choice {choice.name!r} must be a text, '{option}', got {option!r}"
            )
        if option not in choice.options:
            raise ValueError(
                f"choice {choice.name!r} has no option {option!r}{nearest(option, choice.options)}"
            )
        picks.append(choice.options.index(option))
    return tuple(picks)


def decode(choices: Sequence[Choice], picks: Sequence[int]) -> Architecture:
    """The architecture whose picks have these indices; the inverse of `encode`."""
    if len(picks) != len(choices):
        raise ValueError(f"one pick per choice: {len(choices)} choices, got {len(picks)} picks")
    return Architecture(
        {choice.name: choice.options[pick] for choice, pick in zip(choices, picks, strict=True)}
    )


def size(choices: Sequence[Choice]) -> int:
    """The number of architectures."""
    return math.prod(len(choice.options) for choice in choices)


def every(choices: Sequence[Choice]) -> Iterator[Architecture]:
    """All architectures; the last choice changes fastest."""
    for picks in itertools.product(*(choice.options for choice in choices)):
        yield Architecture(dict(zip((c.name for c in choices), picks, strict=True)))


def draw(choices: Sequence[Choice], rng: Random) -> Architecture:
    """An architecture drawn uniformly."""
    return Architecture({choice.name: rng.choice(choice.options) for choice in choices})


def fair_paths(
    choices: Sequence[Choice], rng: Random, aside: Container[tuple[int, int]] = ()
) -> Iterator[Architecture]:
    """An endless sequence of architectures for single-path training with strict fairness.

    A choice with n options takes each of them once in paths 1 to n, once in paths n + 1 to 2n, and
    so on. Options in `aside`, as (choice, option), are left out from the time they are added.

    One path is trained at a time, and all options equally often. So no option wins because it was
    trained more, which makes relaxed supernets collapse into skip connections.

    References:
        Chu et al. 2021, "FairNAS" (arXiv 1907.01845): strict fairness. Liang et al. 2019, "DARTS+"
        (arXiv 1909.06035): the collapse.
    """
    decks: list[list[int]] = [[] for _ in choices]
    while True:
        picks: list[int] = []
        for index, (deck, choice) in enumerate(zip(decks, choices, strict=True)):
            while len(picks) == index:
                if not deck:
                    deck += rng.sample(range(len(choice.options)), len(choice.options))
                pick = deck.pop()
                if (index, pick) not in aside:
                    picks.append(pick)
        yield decode(choices, picks)


def neighbors(choices: Sequence[Choice], architecture: Mapping[str, str]) -> Iterator[Architecture]:
    """The architectures that differ in exactly one pick, in a fixed order."""
    sizes = [len(choice.options) for choice in choices]
    for picks in neighbor_picks(encode(choices, architecture), sizes):
        yield decode(choices, picks)


def neighbor_picks(picks: tuple[int, ...], sizes: Sequence[int]) -> list[tuple[int, ...]]:
    """The same for picks by index, which is faster for many architectures.

    Args:
        picks: the index of each pick.
        sizes: the number of options of each choice.
    """
    return [
        (*picks[:place], option, *picks[place + 1 :])
        for place, size in enumerate(sizes)
        for option in range(size)
        if option != picks[place]
    ]


def nearest(name: str, known: Sequence[str]) -> str:
    """The end of an error message: the most similar known name, or all known names.

    >>> nearest("mdga", ["MGDA", "PCGrad"])
    "; did you mean 'MGDA'?"
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {folded[close[0]]!r}?"
    return f"; there are {', '.join(known)}"
