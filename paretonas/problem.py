"""A problem: a search space and the objectives to minimize on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.cell import Structure
from paretonas.objectives.base import Objective
from paretonas.space import Choice, SearchSpace, nearest


@dataclass(frozen=True, eq=False, repr=False)
class Problem:
    """What is searched: a space, and the objectives to minimize on it.

    Attributes:
        space: its choices, and its ``structure`` if it knows one.
        objectives: each has a column, and a cost for each architecture; those that the space knows
            itself, as a table does, unless given.
        log: columns that count by their ratios: half is as good a step from 10 as from 1.
        free: columns that cost no evaluation: a method may ask the objective itself.

    Raises:
        ValueError: no objective, one named twice, or a column that is no objective's.
        TypeError: a space or an objective that is none, such as a class in its place.
    """

    space: SearchSpace
    objectives: tuple[Objective, ...] = None  # type: ignore[assignment]  # see __post_init__
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
            if isinstance(objective, type) or not isinstance(objective, Objective):
                raise TypeError(
                    "an objective has a column and gives a cost by exact(architecture), "
                    f"got {objective!r}"
                )
        if not self.objectives or len(set(self.columns)) != len(self.columns):
            raise ValueError(
                f"a problem needs at least one objective, each once, got {list(self.columns)}"
            )
        for column in (*self.log, *self.free):
            if column not in self.columns:
                raise ValueError(
                    f"no objective is called {column!r}{nearest(column, self.columns)}"
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
    def structure(self) -> Structure | None:
        """How the choices are wired, if the space knows."""
        return getattr(self.space, "structure", None)

    def costs(self, points: Sequence[Mapping[str, float]]) -> Float[NDArray[np.float64], "k m"]:
        """Costs by column as a matrix, logarithms taken of the columns in `log`.

        Raises:
            ValueError: a logarithm is asked of 0.
        """
        table = np.array([[float(point[c]) for c in self.columns] for point in points])
        table = table.reshape(len(points), len(self.columns))
        for index, objective in enumerate(self.objectives):
            if objective.column in self.log:
                gain = getattr(objective, "gain", None)
                table[:, index] = logarithm(table[:, index], objective.column, gain)
        return table


def logarithm(
    values: NDArray[np.float64], column: str, gain: str | None = None
) -> NDArray[np.float64]:
    """Of positive costs their logarithm; of negated gains -log(gain), so that less stays better.

    Args:
        values: the costs.
        column: what they are called.
        gain: what the user calls it where the costs are a gain negated.

    Raises:
        ValueError: a value of 0, or values of both signs.
    """
    if (values > 0).all():
        return np.log(values)
    if (values < 0).all():
        return -np.log(-values)
    low, high = values.min(), values.max()
    low, high = (low, high) if gain is None else (0.0 - high, 0.0 - low)
    raise ValueError(
        f"a logarithmic objective is positive throughout, but {gain or column} goes from "
        f"{low:g} to {high:g}"
    )


def _several(name: str, values: object) -> tuple[object, ...]:
    """A tuple of what was given; one text is one column."""
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence, got {values!r}")
    return tuple(values)
