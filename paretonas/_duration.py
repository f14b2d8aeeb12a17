"""Times that people type, such as ``90s``, ``10m`` and ``1h``."""

from __future__ import annotations

import math
import re

_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600}


def seconds_in(text: str) -> float | None:
    """The seconds of a time, also of 0; None if the text is none."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|m|min|h)\s*", text)
    return None if match is None else float(match[1]) * _SECONDS[match[2]]


def time_limit(value: object) -> float | None:
    """The seconds of a time limit, such as ``90s``, ``10m`` or ``1h``; a number is of seconds.

    Raises:
        ValueError: a text that reads otherwise, or a number that is not positive and finite.
        TypeError: something else was given.

    >>> time_limit("10m")
    600.0
    """
    if value is None:
        return None
    what = f"an evaluation timeout is a time such as 90s, 10m or 1h, got {value!r}"
    if isinstance(value, str):
        read = seconds_in(value)
        if read is None:
            raise ValueError(what)
        seconds = read
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise TypeError(what)
    if not 0 < seconds < math.inf:
        raise ValueError(what)
    return seconds
