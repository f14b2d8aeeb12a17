"""Names, numbers and picks as readable text that is safe inside HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from html import escape

from paretonas.constraint import split_unit

_UNITS = {
    "percent": "%",
    "kib": "KiB",
    "mib": "MiB",
    "gib": "GiB",
    "b": "B",
    "kb": "kB",
    "mb": "MB",
    "gb": "GB",
    "us": "µs",
    "uj": "µJ",
    "mj": "mJ",
    "j": "J",
}


def title(name: str) -> str:
    """The readable name of a column.

    >>> title("latency_ms"), title("parameters")
    ('latency (ms)', 'parameters')
    """
    stem, unit = split_unit(name)
    spelled = escape(stem.replace("_", " "))
    return spelled if unit is None else f"{spelled} ({_UNITS.get(unit, unit)})"


def cell(value: object) -> str:
    """A value in a table or a hover box, with four digits, the precision of a measurement."""
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(key))}: {cell(each)}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell, value))
    return escape(str(value))


def picks(architecture: Mapping[str, str], width: int = 56) -> list[str]:
    """The picks of an architecture in lines of about ``width`` characters."""
    text = "  ".join(
        f"{name}={option}".replace(" ", "\N{NO-BREAK SPACE}")
        for name, option in architecture.items()
    )
    return [escape(line) for line in textwrap.wrap(text, width, break_long_words=False)]
