"""Comparisons of version 0.1.0: there a maximized column was the cost ``minus_COLUMN``, negated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paretonas.direction import turned

_MINUS = "minus_"


def renamed(about: Mapping[str, Any], maximize: object) -> dict[str, Any]:
    """What a comparison was asked for, with the user's names in place of ``minus_COLUMN``.

    Args:
        about: the content of its ``compare.json``.
        maximize: the objectives that are maximized.
    """
    settings, asked = about["settings"], about["asked"]
    known = _texts(settings.get("objectives"))
    names = [name for name in _texts(maximize) if f"{_MINUS}{name}" in known]
    if "maximize" in settings or not names:
        return dict(about)

    def with_names(plain: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: [_name(one, names) for one in _texts(value)] or value
            if key in ("objectives", "log", "free")
            else value
            for key, value in plain.items()
        }

    now = {**with_names(settings), "maximize": names}
    return {**about, "settings": now, "asked": with_names(asked)}


def upright(entry: Mapping[str, Any], maximize: tuple[str, ...]) -> Mapping[str, Any]:
    """A line of a run with the values of what is maximized in place of their negatives."""
    found = entry.get("objectives", {})
    older = [name for name in maximize if name not in found and f"{_MINUS}{name}" in found]
    if not older:
        return entry
    values = {
        _name(column, older): turned(value, _name(column, older) != column)
        for column, value in found.items()
    }
    return {**entry, "objectives": values}


def _name(column: str, maximize: list[str]) -> str:
    name = column.removeprefix(_MINUS)
    return name if name in maximize else column


def _texts(value: object) -> list[str]:
    """A list of texts as it is; of anything else, which a damaged file may hold, nothing."""
    texts = isinstance(value, list) and all(isinstance(one, str) for one in value)
    return list(value) if texts else []  # type: ignore[call-overload]
