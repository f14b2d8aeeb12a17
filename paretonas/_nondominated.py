"""Cost vectors that no other one dominates, while new ones arrive one at a time."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Costs = tuple[float, ...]

_BLOCK = 512  # the vectors of a block, up to twice as many: an insertion moves those of its block
_ROOM = 64  # the vectors that there is room for at first


class Nondominated(Protocol):
    """Cost vectors of one length, each finite; lower is better. None is there twice."""

    def enter(self, costs: Costs) -> list[Costs] | None:
        """Take a vector in, unless one that is there dominates it or is equal to it.

        Returns:
            The vectors that it dominates, which leave; None if it did not enter.
        """
        ...

    def remove(self, costs: Costs) -> None:
        """Take a vector out that is there."""
        ...


def nondominated(count: int) -> Nondominated:
    """Nothing yet, for vectors of so many costs."""
    return Staircase() if count <= 2 else Scan(count)


class Staircase:
    """Vectors of one or two costs, sorted: while the first cost rises, the last one falls.

    So only the vector just before a new one can dominate it, and those that it dominates are just
    after it. The place is found by halving, and each vector leaves once: O(log n) a vector.

    References:
        Kung, Luccio and Preparata, "On finding the maxima of a set of vectors", 1975.
    """

    def __init__(self) -> None:
        # It stands before every other vector and dominates none.
        first = (-math.inf, math.inf)
        self._blocks: list[list[Costs]] = [[first]]  # none is empty
        self._firsts: list[Costs] = [first]  # the first of each block

    def enter(self, costs: Costs) -> list[Costs] | None:
        at = bisect_right(self._firsts, costs) - 1
        block = self._blocks[at]
        place = bisect_right(block, costs)
        if block[place - 1][-1] <= costs[-1]:
            return None
        beaten = _cut(block, place, costs[-1])
        while place == len(block) and at + 1 < len(self._blocks):  # more may follow
            following = self._blocks[at + 1]
            beaten += _cut(following, 0, costs[-1])
            if following:
                self._firsts[at + 1] = following[0]
                break
            del self._blocks[at + 1], self._firsts[at + 1]
        block.insert(place, costs)
        if len(block) > 2 * _BLOCK:
            self._blocks.insert(at + 1, block[_BLOCK:])
            self._firsts.insert(at + 1, block[_BLOCK])
            del block[_BLOCK:]
        return beaten

    def remove(self, costs: Costs) -> None:
        at = bisect_right(self._firsts, costs) - 1
        block = self._blocks[at]
        del block[bisect_left(block, costs)]
        if block:
            self._firsts[at] = block[0]
        else:
            del self._blocks[at], self._firsts[at]


def _cut(block: list[Costs], start: int, last: float) -> list[Costs]:
    """Take the vectors out that stand from `start` on and whose last cost is not below `last`."""
    end = start
    while end < len(block) and block[end][-1] >= last:
        end += 1
    gone = block[start:end]
    del block[start:end]
    return gone


class Scan:
    """Vectors of any length; a new one is compared with all of them at once, in O(mn).

    Args:
        count: the costs of a vector.
    """

    def __init__(self, count: int) -> None:
        self._room = np.empty((count, _ROOM))  # the first columns are the vectors
        self._size = 0

    def enter(self, costs: Costs) -> list[Costs] | None:
        new = np.array(costs)[:, None]
        held = self._room[:, : self._size]
        if (held <= new).all(axis=0).any():
            return None
        worse: NDArray[np.bool_] = np.logical_and.reduce(held >= new)
        beaten: list[Costs] = []
        if worse.any():
            beaten = [tuple(row) for row in held[:, worse].T.tolist()]
            self._keep(~worse)
        if self._size == self._room.shape[1]:
            self._room = np.hstack([self._room, np.empty_like(self._room)])
        self._room[:, self._size] = costs
        self._size += 1
        return beaten

    def remove(self, costs: Costs) -> None:
        held = self._room[:, : self._size]
        self._keep((held != np.array(costs)[:, None]).any(axis=0))

    def _keep(self, these: NDArray[np.bool_]) -> None:
        kept = self._room[:, : self._size][:, these]
        self._size = kept.shape[1]
        self._room[:, : self._size] = kept
