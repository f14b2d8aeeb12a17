"""What is minimized beside the error."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ..nn import NetworkSpace
from ..objectives import CostTable, Latency, Memory, Objective


def costs_of(given: object, space: NetworkSpace) -> tuple[Objective, ...]:
    """The objectives that were given, or latency and memory by a table in a file.

    Args:
        given: objectives, or the path of a file that ``paretonas profile`` has written.
        space: what they are costs of.

    Raises:
        ValueError: a file that is no cost table of this space.
        TypeError: something else was given.
    """
    if isinstance(given, str | os.PathLike):
        supernet, example = space.supernet(), space.data().example
        return Latency(CostTable.read(given, supernet.choices)), Memory.of(supernet, example)
    costs = tuple(given) if isinstance(given, Iterable) else (given,)
    for cost in costs:
        if isinstance(cost, type) or not isinstance(cost, Objective):
            what = f"the class {cost.__name__}" if isinstance(cost, type) else repr(cost)
            raise TypeError(
                "costs must be a list of objectives, such as [Latency(...), Memory.of(...)], or "
                f"the path of a cost table, got {what}"
            )
    return costs
