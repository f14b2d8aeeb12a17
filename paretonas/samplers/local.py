"""Pareto local search: step from the best architectures to their neighbors."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

from paretonas.point import Outcome, Point
from paretonas.problem import Problem
from paretonas.samplers.random import Random
from paretonas.space import Architecture, neighbors


class LocalSearch:
    """Evaluate a random neighbor of an architecture that no other dominates, again and again.

    Starts from a few random architectures. A neighbor differs in one pick. Once all neighbors of
    the front are known, the search starts anew from other random architectures, and takes only
    these and what it finds from there into account. Violations of a constraint are compared before
    objectives.

    Args:
        problem: what to search.
        seed: of its random numbers.
        starts: how many random architectures each start is made from.

    References:
        Paquete, Chiarandini and Stützle, "Pareto local optimum sets in the biobjective traveling
        salesman problem" (2004), whose search moves on after a whole neighborhood; one neighbor
        after the other drawn at random as in Drugan and Thierens, "Stochastic Pareto local search"
        (2012). White, Nolen and Savani, "Exploring the loss landscape in neural architecture
        search" (2021), arXiv 2005.02960, find local search a strong baseline.
    """

    def __init__(self, problem: Problem, *, seed: int = 0, starts: int = 10) -> None:
        if starts < 1:
            raise ValueError(f"starts must be at least 1, got {starts}")
        self._problem, self._starts = problem, starts
        self._rng = random.Random(seed)
        self._random = Random(problem, seed=seed)
        self._known: set[Architecture] = set()
        self._front: dict[Architecture, np.ndarray[tuple[int], np.dtype[np.float64]]] = {}
        self._violation = math.inf  # of those on the front
        self._unexplored: dict[Architecture, list[Architecture]] = {}

    def __repr__(self) -> str:
        return f"LocalSearch({self._problem}, {len(self._known)} known)"

    def ask(self) -> list[Architecture]:
        """A neighbor of the front, or random ones to start from; nothing once all are known."""
        while self._unexplored:
            center = self._rng.choice(list(self._unexplored))
            ways = self._unexplored[center]
            while ways:
                step = ways.pop(self._rng.randrange(len(ways)))
                if step not in self._known and self._promises(step):
                    return [step]
            del self._unexplored[center]
        self._front, self._violation = {}, math.inf
        drawn: list[Architecture] = []
        while len(drawn) < self._starts and (fresh := self._random.ask()):
            drawn += [architecture for architecture in fresh if architecture not in self._known]
        return drawn

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Who is on the front of this start now, its neighbors to be explored."""
        for outcome in outcomes:
            self._known.add(outcome.architecture)
            if not isinstance(outcome, Point):
                continue
            violation = self._problem.violation(outcome)
            if violation > self._violation:
                continue
            if violation < self._violation:
                self._front, self._unexplored, self._violation = {}, {}, violation
            costs = self._problem.costs([outcome.objectives])[0]
            if any((other <= costs).all() for other in self._front.values()):
                continue
            for architecture, other in list(self._front.items()):
                if (costs <= other).all():
                    del self._front[architecture]
                    self._unexplored.pop(architecture, None)
            self._front[outcome.architecture] = costs
            self._unexplored[outcome.architecture] = list(
                neighbors(self._problem.choices, outcome.architecture)
            )

    def _promises(self, architecture: Architecture) -> bool:
        """Whether limits on free objectives leave it a chance to enter the front."""
        return self._problem.known_violation(architecture) <= self._violation
