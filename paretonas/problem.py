"""A problem: a search space and the objectives to optimize on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.cell import Structure
from paretonas.constraint import Constraint
from paretonas.direction import turned
from paretonas.objectives.base import AnyObjective, MeasuredObjective, Objective, maximizes
from paretonas.point import FAILING, Point
from paretonas.space import Architecture, Choice, SearchSpace, nearest


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A search problem: a space, and the objectives to optimize on it.

    Attributes:
        space: the search space: its choices, and its ``structure`` if it has one.
        objectives: each has a column, and a cost for each architecture, or it is measured on
            trained networks; by default the objectives of the space itself, as a table has them.
        log: columns on a log scale: halving a value counts the same from 10 as from 1.
        free: columns that cost no evaluation: a method may call the objective itself.
        constraint: limits, as a `Constraint` or as text, "latency<=2ms". They may be on objectives,
            and on others that the space has: those are evaluated as well, and not optimized.

    Raises:
        ValueError: there is no objective, one is named twice, or a column belongs to no objective.
            The constraint names another column, or has the wrong direction.
        TypeError: the space or an objective has another type, such as a class, or the ``maximize``
            of an objective is neither True nor False.
    """

    space: SearchSpace
    objectives: tuple[AnyObjective, ...] = None  # type: ignore[assignment]  # see __post_init__
    log: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    constraint: Constraint = None  # type: ignore[assignment]  # see __post_init__

    def __post_init__(self) -> None:
        if not hasattr(self.space, "choices"):
            raise TypeError(f"space must be a search space, with choices, got {self.space!r}")
        if self.objectives is None:
            known = getattr(self.space, "objectives", None)
            if known is None:
                raise ValueError(f"{self.space.name} knows no objectives; give them")
            object.__setattr__(self, "objectives", known)
        for name in ("objectives", "log", "free"):
            object.__setattr__(self, name, _several(name, getattr(self, name)))
        for objective in self.objectives:
            if isinstance(objective, type) or not isinstance(
                objective, Objective | MeasuredObjective
            ):
                raise TypeError(
                    "an objective has a column, and gives a cost by exact(architecture) or is "
                    f"measured by measure(network, example); got {objective!r}"
                )
            if not isinstance(objective.column, str) or not objective.column:
                raise TypeError(f"the column of {objective!r} must be a name")
            maximizes(objective)
        if not self.objectives or len(set(self.columns)) != len(self.columns):
            raise ValueError(
                f"a problem needs at least one objective, each once, got {list(self.columns)}"
            )
        object.__setattr__(self, "constraint", self._limits(self.constraint))
        evaluated = tuple(objective.column for objective in self.evaluated)
        for columns, known in ((self.log, self.columns), (self.free, evaluated)):
            for column in columns:
                if not isinstance(column, str):
                    raise TypeError(f"log and free hold names of columns, got {column!r}")
                if column not in known:
                    raise ValueError(f"no objective is called {column!r}{nearest(column, known)}")
        for objective in self.objectives:
            if objective.column in self.free and not isinstance(objective, Objective):
                raise ValueError(
                    f"{objective.column} is measured on trained networks; only what has "
                    "exact(architecture) can be free"
                )

    def __repr__(self) -> str:
        return f"Problem({self.space.name!r}: {', '.join(self.columns)})"

    @property
    def choices(self) -> tuple[Choice, ...]:
        """The decisions of the space."""
        return self.space.choices

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the objectives, in order."""
        return tuple(objective.column for objective in self.objectives)

    @property
    def maximize(self) -> tuple[str, ...]:
        """The names of the objectives of which larger values are better."""
        return tuple(o.column for o in self.objectives if maximizes(o))

    @property
    def limited(self) -> tuple[Objective, ...]:
        """What has a limit and is no objective, in the order of the space."""
        return tuple(o for o in self._others() if o.column in self.constraint.limits)

    @property
    def evaluated(self) -> tuple[AnyObjective, ...]:
        """All that an evaluation finds: the objectives, then what is only limited."""
        return (*self.objectives, *self.limited)

    @property
    def structure(self) -> Structure | None:
        """The wiring of the choices, if the space has it."""
        return getattr(self.space, "structure", None)

    def costs(self, points: Sequence[Mapping[str, float]]) -> Float[NDArray[np.float64], "k m"]:
        """What is minimized, as a matrix: maximized values negated, columns in `log` as logarithms.

        Args:
            points: the values of each point by column, as `Point.objectives` holds them.

        Raises:
            ValueError: a column in `log` has a value of 0, or values of both signs.
        """
        costs = np.empty((len(points), len(self.objectives)))
        for index, objective in enumerate(self.objectives):
            values = np.array([float(point[objective.column]) for point in points])
            costs[:, index] = self.costs_of(objective, values)
        return costs

    def excess(self, point: Point) -> dict[str, float]:
        """By how much a point exceeds each limit; see `Constraint.excess`."""
        return self.constraint.excess(_values(point))

    def violation(self, point: Point) -> float:
        """How far a point is beyond the limits, see `Constraint.violation`; 0 if it is feasible."""
        return self.constraint.violation(_values(point))

    def best(self, points: Iterable[Point]) -> list[Point]:
        """The feasible points; if there is none, those with the least violation."""
        found = [(self.violation(point), point) for point in points]
        least = min((violation for violation, _ in found), default=0.0)
        return [point for violation, point in found if violation == least]

    def known_violation(self, architecture: Architecture) -> float:
        """How far an architecture is beyond the limits on columns in `free`; no evaluation.

        Infinite if a value is not finite, or there is none.
        """
        limits = self.constraint.limits
        known = [
            o
            for o in self.evaluated
            if isinstance(o, Objective) and o.column in self.free and o.column in limits
        ]
        if not known:
            return 0.0
        try:
            values = {o.column: turned(float(o.exact(architecture)), maximizes(o)) for o in known}
        except FAILING:
            return math.inf
        if not all(map(math.isfinite, values.values())):
            return math.inf
        return self.constraint.on(values).violation(values)

    def costs_of(
        self, objective: AnyObjective, values: Float[NDArray[np.float64], " k"]
    ) -> Float[NDArray[np.float64], " k"]:
        """The column of `costs` for one objective, from its values.

        Raises:
            ValueError: as `costs`.
        """
        costs = turned(values, maximizes(objective))
        if objective.column not in self.log:
            return costs
        if not ((values > 0).all() or (values < 0).all()):
            raise ValueError(
                "an objective on a log scale must be positive throughout, but "
                f"{objective.column} goes from {values.min():g} to {values.max():g}"
            )
        # Negative costs are negated gains: -log(gain), so that lower is still better.
        logs: NDArray[np.float64] = np.sign(costs) * np.log(np.abs(costs))
        return logs

    def _others(self) -> tuple[Objective, ...]:
        """What the space has beside the objectives."""
        there = getattr(self.space, "objectives", None) or ()
        return tuple(o for o in there if o.column not in self.columns)

    def _limits(self, given: object) -> Constraint:
        if given is None:
            return Constraint({})
        known = (*self.objectives, *self._others())
        columns, upward = [o.column for o in known], [o.column for o in known if maximizes(o)]
        constraint = Constraint.of(given, columns, upward)  # type: ignore[arg-type]
        constraint.satisfied(dict.fromkeys(columns, 0.0))  # refuses other names
        return constraint


def _values(point: Point) -> dict[str, float]:
    """The numbers of a point, also those that it only reports."""
    numbers = {k: v for k, v in point.reported.items() if not isinstance(v, str)}
    return {**numbers, **point.objectives}


def _several(name: str, values: object) -> tuple[object, ...]:
    """The values as a tuple; a text counts as one column."""
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, got {values!r}")
    return tuple(values)
