"""A problem: a search space and the objectives to optimize on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.cell import Structure
from paretonas.direction import turned
from paretonas.objectives.base import AnyObjective, MeasuredObjective, Objective, maximizes
from paretonas.space import Choice, SearchSpace, nearest


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """A search problem: a space, and the objectives to optimize on it.

    Attributes:
        space: the search space: its choices, and its ``structure`` if it has one.
        objectives: each has a column, and a cost for each architecture, or it is measured on
            trained networks; by default the objectives of the space itself, as a table has them.
        log: columns on a log scale: halving a value counts the same from 10 as from 1.
        free: columns that cost no evaluation: a method may call the objective itself.

    Raises:
        ValueError: there is no objective, one is named twice, or a column belongs to no objective.
        TypeError: the space or an objective has another type, such as a class, or the ``maximize``
            of an objective is neither True nor False.
    """

    space: SearchSpace
    objectives: tuple[AnyObjective, ...] = None  # type: ignore[assignment]  # see __post_init__
    log: tuple[str, ...] = ()
    free: tuple[str, ...] = ()

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
        for column in (*self.log, *self.free):
            if not isinstance(column, str):
                raise TypeError(f"log and free hold names of columns, got {column!r}")
            if column not in self.columns:
                raise ValueError(
                    f"no objective is called {column!r}{nearest(column, self.columns)}"
                )
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


def _several(name: str, values: object) -> tuple[object, ...]:
    """The values as a tuple; a text counts as one column."""
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, got {values!r}")
    return tuple(values)
