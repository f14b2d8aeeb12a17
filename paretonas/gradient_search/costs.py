"""What is minimized beside the error."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..nn import NetworkSpace
from ..objectives import CostTable, DifferentiableObjective, Latency, Memory


def costs_of(objectives: object, space: NetworkSpace) -> tuple[DifferentiableObjective, ...]:
    """The objectives that were given, or latency and memory by a table in a file.

    Args:
        objectives: as such, or the path of a file that ``paretonas profile`` has written.
        space: what they are costs of.

    Raises:
        ValueError: a file that is no cost table of this space.
        TypeError: something else was given.
    """
    if isinstance(objectives, str | os.PathLike):
        supernet, example = space.supernet(), space.data().example
        return Latency(CostTable.read(objectives, supernet.choices)), Memory.of(supernet, example)
    costs = tuple(objectives) if isinstance(objectives, Iterable) else (objectives,)
    for cost in costs:
        if isinstance(cost, type) or not isinstance(cost, DifferentiableObjective):
            what = f"the class {cost.__name__}" if isinstance(cost, type) else repr(cost)
            raise TypeError(
                "objectives must be a list, such as [Latency(...), Memory.of(...)], or "
                f"the path of a cost table, got {what}"
            )
    return costs
