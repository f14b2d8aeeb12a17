"""Feasible architectures: those that meet the constraint by tabulated costs, without training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random

from ..constraint import Constraint
from ..nn import Supernet
from ..objectives import DifferentiableObjective
from ..point import FAILING
from ..space import Architecture, draw, fair_paths, neighbors


class Feasible:
    """Whether an architecture is feasible, and an initial design of feasible ones.

    Args:
        supernet: the space.
        costs: the objectives that are tabulated.
        constraint: limits; those on other objectives are ignored.
        seed: of the random architectures.

    Raises:
        ValueError: no feasible one was found; the message gives the costs of the cheapest.
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
        self._limits = [constraint.limits.get(cost.column, math.inf) for cost in costs]
        self._cheapest = self._descend()
        if not self(self._cheapest):
            if self._violation(self._cheapest)[0] == math.inf:
                names = ", ".join(cost.column for cost in self._costs)
                raise ValueError(f"no architecture was found with a finite cost of {names}")
            offers = ", ".join(f"{c.column} {c.exact(self._cheapest):.4g}" for c in self._costs)
            raise ValueError(f"no architecture meets {constraint}: the cheapest found has {offers}")

    def __call__(self, architecture: Architecture) -> bool:
        return self._violation(architecture)[0] == 0

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

    def _violation(self, architecture: Architecture) -> tuple[float, float]:
        """The sum of the relative constraint violations, then the product of the costs.

        Both are infinite where an objective has no finite cost.
        """
        try:
            costs = [float(cost.exact(architecture)) for cost in self._costs]
        except FAILING:
            costs = [math.nan]
        if not all(map(math.isfinite, costs)):
            return math.inf, math.inf
        over = (
            max(0.0, cost - limit) / max(limit, 1e-9)
            for cost, limit in zip(costs, self._limits, strict=True)
        )
        return sum(over), math.prod(max(cost, 1e-9) for cost in costs)

    def _descend(self) -> Architecture:
        """Local search for the least violation, from the best of some random architectures.

        It goes through the choices one by one, until no single pick would be better.
        """
        choices, rng = self._supernet.choices, Random(self._seed)
        canonical = self._supernet.canonical

        def violation(architecture: Architecture) -> tuple[float, float]:
            return self._violation(canonical(architecture))  # without options that were set aside

        best = min((draw(choices, rng) for _ in range(100)), key=violation)
        least, before = violation(best), None
        while best != before:
            before = best
            for choice in choices:
                for pick in choice.options:
                    near = Architecture({**best, choice.name: pick})
                    if (found := violation(near)) < least:
                        best, least = near, found
        return canonical(best)
