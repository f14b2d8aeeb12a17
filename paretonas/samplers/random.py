"""Random search: every architecture equally likely, none twice."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

from paretonas.point import Outcome
from paretonas.problem import Problem
from paretonas.space import Architecture, Choice, decode, size

TRIES = 1000  # draws to find one that is not known to be infeasible


class Random:
    """Propose architectures in a random order, one after the other, until there are no more.

    The baseline that every other method has to beat. It proposes nothing twice, also in a space of
    any size. What is known to be infeasible, by a limit on a free objective, is put off. Memory
    is taken only for what was drawn: what was proposed, and what was put off.

    Args:
        problem: what to search.
        seed: of the order.

    References:
        Li and Talwalkar, "Random search and reproducibility for neural architecture search" (2019),
        arXiv 1902.07638.
    """

    def __init__(self, problem: Problem, *, seed: int = 0) -> None:
        self._problem, self._choices = problem, problem.choices
        self._left = size(problem.choices)
        self._rng = random.Random(seed)
        self._moved: dict[int, int] = {}
        self._infeasible: deque[Architecture] = deque()

    def __repr__(self) -> str:
        return f"Random({self._problem}, {self._left + len(self._infeasible)} left)"

    def ask(self) -> list[Architecture]:
        """The next architecture; nothing once all were proposed."""
        for _ in range(TRIES):
            drawn = self._draw()
            if not drawn or not self._problem.known_violation(drawn[0]):
                break
            self._infeasible += drawn
            drawn = []
        return drawn or ([self._infeasible.popleft()] if self._infeasible else [])

    def _draw(self) -> list[Architecture]:
        if not self._left:
            return []
        # Fisher and Yates' shuffle of the numbers of all architectures, of which only those numbers
        # are kept that are not at their own place.
        self._left -= 1
        place = self._rng.randrange(self._left + 1)
        last = self._moved.pop(self._left, self._left)
        number = self._moved.get(place, place) if place < self._left else last
        if place < self._left:
            self._moved[place] = last
        return [numbered(self._choices, number)]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Nothing is learned."""


def numbered(choices: Sequence[Choice], number: int) -> Architecture:
    """The architecture at this place of `paretonas.space.every`."""
    picks = []
    for choice in reversed(choices):
        number, pick = divmod(number, len(choice.options))
        picks.append(pick)
    return decode(choices, picks[::-1])
