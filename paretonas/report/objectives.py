"""Objectives with the user's names and signs, and which of them is the quality."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from paretonas._words import title
from paretonas.objectives.base import Objective


@dataclass(frozen=True)
class ShownObjective:
    """How a report shows an objective.

    Attributes:
        column: the name of the cost in files and points.
        name: the user's name; for the cost ``minus_accuracy`` it is ``accuracy``.
        maximized: whether the cost is the negative of the user's column.
    """

    column: str
    name: str
    maximized: bool = False

    @property
    def title(self) -> str:
        """The readable name with its unit, safe inside HTML."""
        return title(self.name)

    @property
    def sense(self) -> str:
        """The word ``maximized`` or ``minimized``."""
        return "maximized" if self.maximized else "minimized"

    @property
    def better(self) -> str:
        """Which values are better: higher or lower."""
        return "higher" if self.maximized else "lower"

    def value(self, cost: float) -> float:
        """The user's value of a cost."""
        return 0.0 - cost if self.maximized else cost  # (0 stays 0, not -0)


def shown_objectives(objectives: Sequence[Objective]) -> tuple[ShownObjective, ...]:
    """How each objective is shown, in their order; one with a ``gain`` has the name of the gain."""
    return tuple(_shown(objective) for objective in objectives)


def quality_first(objectives: Sequence[ShownObjective]) -> tuple[ShownObjective, ...]:
    """The same with the quality first: the first maximized objective, else an error or a loss.

    >>> [shown.name for shown in quality_first([ShownObjective("ms", "ms"),
    ...     ShownObjective("test_error", "test_error")])]
    ['test_error', 'ms']
    """

    def candidates() -> Iterator[ShownObjective]:
        yield from (shown for shown in objectives if shown.maximized)
        yield from (shown for shown in objectives if re.search("error|loss", shown.name.lower()))
        yield from objectives

    quality = next(candidates())
    return quality, *(shown for shown in objectives if shown is not quality)


def _shown(objective: Objective) -> ShownObjective:
    gain = getattr(objective, "gain", None)
    return ShownObjective(objective.column, gain or objective.column, gain is not None)
