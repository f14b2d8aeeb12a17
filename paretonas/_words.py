"""Names, numbers and picks as readable text that is safe inside HTML."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from html import escape

from paretonas.constraint import split_unit
from paretonas.space import Architecture

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
    """The readable name of a column; a unit that is not known is a part of the name.

    >>> title("latency_ms"), title("parameters"), title("dice_points")
    ('latency (ms)', 'parameters', 'dice points')
    """
    stem, unit = split_unit(name)
    words = escape(stem.replace("_", " "))
    return words if unit is None else f"{words} ({spelled(unit)})"


def spelled(unit: str) -> str:
    """A unit of a column's name as people write it, such as ``KiB`` for ``kib``."""
    return _UNITS.get(unit, unit)


def pair_of(joined: str, columns: Iterable[str]) -> tuple[str, str]:
    """The names of two objectives that are joined by ``_``, each perhaps without its unit.

    >>> pair_of("val_top1_latency", ["val_top1_percent", "latency_ms"])
    ('val_top1', 'latency')

    Args:
        joined: the two names.
        columns: the names of all objectives, with their units.
    """
    names = {name for column in columns for name in _beginnings(column)}
    words = joined.split("_")
    cuts = [("_".join(words[:at]), "_".join(words[at:])) for at in range(1, len(words))]
    known = [pair for pair in cuts if names.issuperset(pair)]
    return [*known, *cuts, (joined, "")][0]


def _beginnings(column: str) -> list[str]:
    words = column.split("_")
    return ["_".join(words[:at]) for at in range(1, len(words) + 1)]


def axis(name: str, maximize: bool) -> str:
    """The title of an axis: the readable name of a column, and which values are better.

    >>> axis("latency_ms", maximize=False)
    'latency (ms), lower is better'
    """
    return f"{title(name)}, {'higher' if maximize else 'lower'} is better"


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


def used(architecture: Mapping[str, str], about: Mapping[str, object]) -> Architecture:
    """The picks that the network uses, without those in parts that do not run.

    >>> about = {"conditions": {"late.1": [{"depth": ["2", "3"]}]}}
    >>> str(used({"depth": "1", "late.0": "conv", "late.1": "skip"}, about))
    'depth=1 late.0=conv'

    Args:
        architecture: all picks.
        about: what ``run.json`` tells. The ``conditions`` are those of `Supernet.conditions`; a
            choice of which there are none, as in runs of older versions, is used.
    """
    told = about.get("conditions")

    def runs(name: str) -> bool:
        places = told.get(name) if isinstance(told, dict) else None
        if not isinstance(places, list) or not all(isinstance(place, dict) for place in places):
            return True
        return any(
            all(architecture.get(outer) in options for outer, options in place.items())
            for place in places
        )

    return Architecture({name: option for name, option in architecture.items() if runs(name)})
