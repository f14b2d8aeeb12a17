"""`Point`, an evaluated architecture, and `Failure`, one that could not be evaluated."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

from paretonas.space import Architecture

__all__ = [
    "Cell",
    "EvaluationError",
    "Failure",
    "FailureWarning",
    "Lost",
    "Outcome",
    "Point",
    "Stopped",
]

Cell = str | int | float
"""A value in a table of points."""
_NOTHING: Mapping[str, Cell] = MappingProxyType({})
_NAME = re.compile(r"\w[\w.\-]*")
# The rule for an id; it is also the name of a file.
NAME = "made of letters, digits, '_', '.' and '-', at most 100 bytes, no name of a Windows device"
_LONGEST = 100
_WINDOWS = re.compile(r"(con|prn|aux|nul|(com|lpt)[\d¹²³])(\..*)?|.*\.", re.IGNORECASE)


@dataclass(frozen=True, repr=False)
class Point:
    """An evaluated architecture and what was found.

    Attributes:
        architecture: one pick per choice; a plain mapping is converted to an `Architecture`.
        objectives: the values by column, as the user sees them, also if they are maximized; the
            unit is in the name (``latency_ms``).
        reported: values of what is no objective: finite numbers, or words that do not read as
            numbers (so that a CSV file keeps them).
        id: a short name; a front gives one to a point that has none.

    Raises:
        ValueError: a reported value is not finite, is an empty word, or is a word like ``"12"``.
        TypeError: a value has another type.
    """

    architecture: Architecture
    objectives: Mapping[str, float]
    reported: Mapping[str, Cell] = field(default_factory=dict)
    id: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.architecture, Architecture):
            object.__setattr__(self, "architecture", Architecture(self.architecture))
        # Most values are plain floats; a hundred thousand points are to be read in a second.
        objectives = {
            name: value if type(value) is float else self._number(name, value)
            for name, value in self.objectives.items()
        }
        reported = {
            name: value
            if type(value) is float and math.isfinite(value)
            else self._cell(name, value)
            for name, value in self.reported.items()
        }
        object.__setattr__(self, "objectives", MappingProxyType(objectives))
        object.__setattr__(self, "reported", MappingProxyType(reported) if reported else _NOTHING)

    def __hash__(self) -> int:
        return hash((self.architecture, self.id))

    def __repr__(self) -> str:
        name = f"{self.id!r}, " if self.id else ""
        costs = ", ".join(f"{name}={value:.6g}" for name, value in self.objectives.items())
        return f"Point({name}{self.architecture}: {costs})"

    def __str__(self) -> str:
        return f"{self.id or 'point'} ({self.architecture})"

    def __reduce__(self) -> tuple[type[Point], tuple[object, ...]]:
        # The read-only views cannot be pickled or deep-copied themselves.
        picks = dict(self.architecture)
        return Point, (picks, dict(self.objectives), dict(self.reported), self.id)

    def with_values(self, found: Mapping[str, Cell]) -> Point:
        """The point with other values of some objectives, and of what is reported."""
        own = {name: float(value) for name, value in found.items() if name in self.objectives}
        rest = {name: value for name, value in found.items() if name not in self.objectives}
        objectives, reported = {**self.objectives, **own}, {**self.reported, **rest}
        return replace(self, objectives=objectives, reported=reported)

    def check_objectives(self, names: Collection[str]) -> None:
        """Refuse other objectives than these, and a cost that is not finite.

        Raises:
            ValueError: there are others, or one is not finite.
        """
        if self.objectives.keys() != set(names):
            found = ", ".join(self.objectives) or "none"
            raise ValueError(f"{self} has the objectives {found}, not {', '.join(names)}")
        if not all(map(math.isfinite, self.objectives.values())):
            name, value = next(it for it in self.objectives.items() if not math.isfinite(it[1]))
            raise ValueError(f"{name} of {self} must be finite, got {value}")

    def _number(self, name: str, value: object) -> float:
        if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
            raise TypeError(f"{name} of {self} must be a number, got {value!r}")
        return self._float(name, value)

    def _float(self, name: str, value: Any) -> float:
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} of {self} must be finite, got too large a number") from None

    def _cell(self, name: str, value: object) -> Cell:
        if isinstance(value, str):
            if not _is_word(value):
                raise ValueError(
                    f"{name} of {self}: a reported word must not be empty or read as a number, "
                    f"got {value!r}"
                )
            return value
        if type(value) is int and math.isfinite(self._float(name, value)):
            return value
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"{name} of {self} must be a number or a word, got {value!r}")
        if not math.isfinite(self._float(name, value)):
            raise ValueError(f"{name} of {self} must be finite, got {value}; leave it out instead")
        return int(value) if isinstance(value, Integral) else float(value)


def is_name(text: str) -> bool:
    """Whether a text may be an id; ids are also names of files, on Windows too.

    >>> is_name("a01"), is_name("../a01"), is_name(""), is_name("nul"), is_name("a" * 101)
    (True, False, False, False, False)
    """
    return (
        _NAME.fullmatch(text) is not None
        and len(text.encode()) <= _LONGEST
        and _WINDOWS.fullmatch(text) is None
    )


class FailureWarning(UserWarning):
    """Something fails and was left out; everything else continues."""


class EvaluationError(RuntimeError):
    """An architecture could not be evaluated; the message says why."""


# The exceptions that count as a failure of an evaluation; an interruption never does.
FAILING = (Exception, SystemExit)


@dataclass(frozen=True)
class Failure:
    """An architecture that could not be evaluated, or the single pick that causes failures.

    Attributes:
        architecture: one pick for each choice, or the single pick.
        reason: the cause, in one line.
    """

    architecture: Architecture
    reason: str

    @classmethod
    def of(cls, architecture: Architecture, error: Exception | SystemExit) -> Failure:
        """The failure that an exception describes, in one line."""
        kind = "" if isinstance(error, EvaluationError) else f"{type(error).__name__}: "
        reason = " ".join(f"{kind}{error}".split()).removesuffix(":")
        reason = " ".join([reason, *getattr(error, "__notes__", ())])
        # A file of text cannot hold lone surrogates.
        return cls(architecture, reason.encode("utf-8", "backslashreplace").decode())

    def __str__(self) -> str:
        return f"{self.architecture}: {self.reason}"


@dataclass(frozen=True)
class Lost(Failure):
    """An architecture whose evaluation has ended its process, or took longer than it may.

    So it is not tried in a process that has more to do.
    """


@dataclass(frozen=True)
class Stopped(Failure):
    """An architecture whose training was stopped early, so it has no objectives.

    Nothing is wrong with it: it did not promise enough; see `SuccessiveHalving`.

    Attributes:
        epochs: that it was trained for.
        planned: the epochs of a whole training.
        scores: the metrics on the validation split after these epochs, by column.
        expected: the metrics that a whole training is expected to give.
    """

    epochs: int
    planned: int
    scores: Mapping[str, float]
    expected: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.architecture}: stopped after {self.epochs} of {self.planned} epochs"


Outcome = Point | Failure
"""The result of an evaluation."""


@lru_cache(maxsize=256)  # points of one origin report the same words
def _is_word(text: str) -> bool:
    return text != "" and isinstance(number_or_word(text), str)


def number_or_word(text: str) -> Cell:
    """The value of a CSV cell: an int or a float if it reads as one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
