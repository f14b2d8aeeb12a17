"""Whole numbers among the arguments of a user."""

from __future__ import annotations

from numbers import Integral


def whole(name: str, value: object, least: float) -> int:
    """The number itself.

    Args:
        name: of the argument.
        value: what was given for it.
        least: that is allowed.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is too small.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, got {value}")
    return int(value)
