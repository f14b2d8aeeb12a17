"""The lines of a journal of evaluations: one line for each outcome."""

from __future__ import annotations

import math
from collections.abc import Mapping
from sys import intern
from typing import Any

from paretonas import _lines
from paretonas.point import NAME, Failure, Lost, Outcome, Point, Stopped, is_name
from paretonas.space import Architecture


def encode(outcome: Outcome, seconds: float | None = None) -> bytes:
    """The line of an outcome, with the seconds of its evaluation if they are known.

    Raises:
        ValueError: a value is not finite.
    """
    entry: dict[str, Any] = {"architecture": dict(outcome.architecture)}
    if isinstance(outcome, Stopped):
        names = ("reason", "epochs", "planned", "scores", "expected")
        entry["stopped"] = {name: getattr(outcome, name) for name in names}
    elif isinstance(outcome, Failure):
        entry["failure"] = outcome.reason
        entry |= {"lost": True} if isinstance(outcome, Lost) else {}
    else:
        entry = {"id": outcome.id, **entry} if outcome.id else entry
        entry["objectives"] = dict(outcome.objectives)
        if outcome.reported:
            entry["reported"] = dict(outcome.reported)
    if seconds is not None:
        entry["seconds"] = seconds
    try:
        return _lines.encode(entry)
    except ValueError as error:
        raise ValueError(f"{outcome} has a value that is not finite: {entry}") from error


def decode(entry: Mapping[str, Any]) -> tuple[Outcome, float]:
    """An outcome and its seconds, which are 0 if they are not known.

    Raises:
        ValueError: the id is not valid, or a value is not finite.
        TypeError: a value has another type.
        KeyError: a part is missing.
    """
    architecture = _picks(entry["architecture"])
    seconds = float(entry.get("seconds", 0.0))
    if "stopped" in entry:
        return _stopped(architecture, entry["stopped"]), seconds
    if "failure" in entry:
        kind = Lost if entry.get("lost") is True else Failure
        return kind(architecture, str(entry["failure"])), seconds
    objectives, name = entry["objectives"], entry.get("id", "")
    if name != "" and not is_name(name):
        raise ValueError(f"an id is {NAME}; got {name!r}")
    if not all(map(math.isfinite, objectives.values())):
        raise ValueError(f"objectives must be finite, got {objectives}")
    return Point(architecture, objectives, entry.get("reported", {}), name), seconds


def _picks(entry: Mapping[str, str]) -> Architecture:
    """An architecture; the names of its options are in memory once, however many lines repeat them.

    Raises:
        TypeError: one is no text.
    """
    return Architecture(dict(zip(entry, map(intern, entry.values()), strict=True)))


def _stopped(architecture: Architecture, told: Mapping[str, Any]) -> Stopped:
    scores, expected = (
        {str(name): float(value) for name, value in told[part].items()}
        for part in ("scores", "expected")
    )
    if not all(map(math.isfinite, [*scores.values(), *expected.values()])):
        raise ValueError(f"scores must be finite, got {scores}, {expected}")
    return Stopped(
        architecture,
        str(told["reason"]),
        int(told["epochs"]),
        int(told["planned"]),
        scores,
        expected,
    )
