"""The direction of an objective: inside everything is a cost, and people see their own values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", float, NDArray[np.float64])


def turned(number: Number, maximize: bool) -> Number:
    """The cost of a value, and as well the value of a cost: its negative if it is maximized.

    >>> turned(0.9, True), turned(3.5, False), turned(0.0, True)
    (-0.9, 3.5, 0.0)
    """
    return 0.0 - number if maximize else number  # 0 stays 0, not -0


def check_maximize(maximize: Iterable[str], objectives: Sequence[str]) -> tuple[str, ...]:
    """The names of the objectives of which larger is better, in the order of all objectives.

    Raises:
        ValueError: a name is not that of an objective.
        TypeError: a single text instead of a sequence of names.
    """
    if isinstance(maximize, str):
        raise TypeError(f"maximize must be a sequence of names, got {maximize!r}")
    names = tuple(maximize)
    for name in names:
        if name not in objectives:
            raise ValueError(
                f"maximize names {name!r}, and the objectives are {', '.join(objectives)}"
            )
    return tuple(name for name in objectives if name in names)
