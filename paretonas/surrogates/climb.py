"""Hill climbing among whole architectures, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .observations import Picks

Score = Callable[[list[Picks]], list[tuple[Picks, float]]]

ROUNDS = 4
WIDTH = 8  # how many climb at once


def climb(starts: Iterable[Picks], sizes: Sequence[int], score: Score) -> list[Picks]:
    """The architectures met on the way up, best first.

    Each round looks at all neighbors of the best so far; it ends when two rounds in a row found
    nothing better, or after a few.

    Args:
        starts: where to begin.
        sizes: the number of options of each choice.
        score: scores what it is given, or the part of it that may be chosen; higher is better.
    """
    scores = dict(score(list(dict.fromkeys(starts))))
    expanded: set[Picks] = set()
    for round_ in range(ROUNDS):
        leaders = [p for p in _best(scores)[:WIDTH] if p not in expanded]
        expanded.update(leaders)
        met = [n for p in leaders for n in neighbors(p, sizes) if n not in scores]
        before = max(scores.values(), default=0.0)
        scores.update(score(list(dict.fromkeys(met))))
        if not leaders or (round_ and max(scores.values()) <= before):
            break
    return _best(scores)


def neighbors(picks: Picks, sizes: Sequence[int]) -> list[Picks]:
    """The architectures that differ in one pick."""
    return [
        (*picks[:place], option, *picks[place + 1 :])
        for place, size in enumerate(sizes)
        for option in range(size)
        if option != picks[place]
    ]


def _best(scores: dict[Picks, float]) -> list[Picks]:
    return sorted(scores, key=lambda picks: -scores[picks])
