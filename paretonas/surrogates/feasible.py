"""Feasible architectures: those that meet the constraint by tabulated costs, without training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from random import Random

from ..constraint import Constraint
from ..direction import turned
from ..nn import Supernet
from ..objectives import DifferentiableObjective
from ..objectives.base import Objective, maximizes
from ..point import FAILING
from ..space import Architecture, Choice, draw, every, fair_paths, neighbors, size

FEW = 5000  # architectures of a space that are all looked at before a constraint is refused
Rank = tuple[float, float]  # violation, then the product of costs; the smaller, the better


class Feasible:
    """Whether an architecture is feasible, and an initial design of feasible ones.

    Args:
        supernet: the space.
        costs: the objectives that are tabulated.
        constraint: limits; those on other objectives are ignored.
        seed: of the random architectures.

    Raises:
        ValueError: no feasible one was found; the message has what is nearest.
    """

    def __init__(
        self,
        supernet: Supernet,
        costs: Sequence[DifferentiableObjective],
        constraint: Constraint,
        *,
        seed: int,
    ) -> None:
        self._supernet, self._costs, self._seed = supernet, tuple(costs), seed
        self._limit(constraint)
        if self._least:
            raise ValueError(self._rank.unmet(self._cheapest))

    def __call__(self, architecture: Architecture) -> bool:
        return self._rank(architecture)[0] <= self._least

    def violation(self, architecture: Architecture) -> float:
        """The sum of what is exceeded, as parts of the limits; infinite if a cost is not finite."""
        return self._rank(architecture)[0]

    def within(self, constraint: Constraint) -> Feasible:
        """The same for other limits; if no architecture meets them, the nearest are feasible."""
        found = copy(self)
        found._limit(constraint)
        return found

    def _limit(self, constraint: Constraint) -> None:
        supernet = self._supernet
        self._rank = _Ranks(self._costs, constraint)
        self._cheapest = _nearest(
            supernet.choices, self._rank, seed=self._seed, canonical=supernet.canonical
        )
        self._least = self._rank(self._cheapest)[0]  # 0 if it is feasible

    def design(self, count: int) -> Iterator[Architecture]:
        """Feasible architectures: balanced random ones, then those around the cheapest."""
        choices, canonical = self._supernet.choices, self._supernet.canonical
        paths = fair_paths(choices, Random(self._seed))
        for _ in range(20 * count):
            architecture = canonical(next(paths))
            if self(architecture):
                yield architecture
        around = [self._cheapest]
        for center in around:
            yield center
            near = (canonical(other) for other in neighbors(choices, center))
            around += [a for a in near if self(a) and a not in around]
            if len(around) > 10 * count:
                break


def refuse_unmet(
    choices: Sequence[Choice], objectives: Sequence[Objective], constraint: Constraint
) -> None:
    """Refuse a constraint that no architecture meets.

    Args:
        choices: of the space.
        objectives: that are known without an evaluation; limits on others are ignored.
        constraint: the limits.

    Raises:
        ValueError: no feasible architecture was found; the message has what is nearest.
    """
    limited = [objective for objective in objectives if objective.column in constraint.limits]
    if limited:
        rank = _Ranks(limited, constraint)
        if rank(nearest := _nearest(choices, rank, seed=0))[0]:
            raise ValueError(rank.unmet(nearest))


class _Ranks:
    """How far architectures are beyond the limits on some objectives."""

    def __init__(self, objectives: Sequence[Objective], constraint: Constraint) -> None:
        self._objectives = tuple(objectives)
        self._constraint = constraint.on([objective.column for objective in objectives])

    def __call__(self, architecture: Architecture) -> Rank:
        """The sum of what is exceeded, as parts of the limits, then the product of the costs.

        Both are infinite where an objective has no finite cost.
        """
        try:
            costs = self._costs(architecture)
        except FAILING:
            costs = [math.nan]
        if not all(map(math.isfinite, costs)):
            return math.inf, math.inf
        found = self._constraint.violation(self._values(costs))
        return found, math.prod(max(cost, 1e-9) for cost in costs)

    def unmet(self, nearest: Architecture) -> str:
        """What to say if none is feasible."""
        if self(nearest)[0] == math.inf:
            names = ", ".join(objective.column for objective in self._objectives)
            return f"no architecture was found with a finite cost of {names}"
        return self._constraint.unmet([self._values(self._costs(nearest))])

    def _costs(self, architecture: Architecture) -> list[float]:
        return [float(objective.exact(architecture)) for objective in self._objectives]

    def _values(self, costs: Sequence[float]) -> dict[str, float]:
        """The costs as the user sees them."""
        return {
            objective.column: turned(cost, maximizes(objective))
            for objective, cost in zip(self._objectives, costs, strict=True)
        }


def _nearest(
    choices: Sequence[Choice],
    rank: Callable[[Architecture], Rank],
    *,
    seed: int,
    canonical: Callable[[Architecture], Architecture] = lambda architecture: architecture,
) -> Architecture:
    """The least violation that local search finds, from the best of some random architectures.

    It goes through the choices one by one, until no single pick would be better. If the result is
    not feasible, a small space is searched as a whole.
    """
    rng = Random(seed)

    def of(architecture: Architecture) -> Rank:
        return rank(canonical(architecture))  # without options that were set aside

    best = min((draw(choices, rng) for _ in range(100)), key=of)
    least, before = of(best), None
    while best != before:
        before = best
        for choice in choices:
            for pick in choice.options:
                near = Architecture({**best, choice.name: pick})
                if (found := of(near)) < least:
                    best, least = near, found
    if least[0] and size(choices) <= FEW:
        best = min(every(choices), key=of)
    return canonical(best)
