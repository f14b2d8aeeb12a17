"""Upper limits on objectives, such as ``latency<=2ms,memory<=64KiB``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["Constraint"]

# Each unit as (what it measures, its size in the smallest unit of that kind).
_UNITS = {
    "ns": ("time", 1),
    "us": ("time", 10**3),
    "ms": ("time", 10**6),
    "s": ("time", 10**9),
    "b": ("bytes", 1),
    "kb": ("bytes", 10**3),
    "mb": ("bytes", 10**6),
    "gb": ("bytes", 10**9),
    "kib": ("bytes", 2**10),
    "mib": ("bytes", 2**20),
    "gib": ("bytes", 2**30),
    "uj": ("energy", 1),
    "mj": ("energy", 10**3),
    "j": ("energy", 10**6),
    "percent": ("percent", 1),
}
_SPELLINGS = {"%": "percent", "µs": "us", "μs": "us", "bytes": "b", "byte": "b"}
_TERM = re.compile(
    r"\s*(?P<name>[A-Za-z_]\w*)\s*<=\s*"
    r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[A-Za-zµμ]*)\s*"
)


@dataclass(frozen=True, repr=False)
class Constraint:
    """Upper limits on some objectives; a point is feasible if it satisfies all of them.

    >>> constraint = Constraint.parse("latency<=1500us", ["error_percent", "latency_ms"])
    >>> str(constraint), constraint.satisfied({"error_percent": 4.0, "latency_ms": 1.2})
    ('latency_ms<=1.5', True)

    Attributes:
        limits: the largest allowed value for each objective, by name, in the objective's unit.
    """

    limits: Mapping[str, float]

    def __post_init__(self) -> None:
        for name, limit in self.limits.items():
            if not math.isfinite(limit):
                raise ValueError(f"the limit on {name} must be finite, got {limit}")
        object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))

    @classmethod
    def parse(cls, text: str, objectives: Sequence[str]) -> Constraint:
        """Read terms ``NAME<=NUMBER[UNIT]``, joined by commas.

        NAME is an objective, with or without its unit: ``latency`` means ``latency_ms``. UNIT is
        one of ns, us, ms, s; B, kB, MB, GB, KiB, MiB, GiB; uJ, mJ, J; %; upper or lower case.
        Without a unit the number is in the objective's unit. If an objective has two limits, the
        smaller one counts.

        Raises:
            ValueError: a term is malformed, an objective or unit is unknown, a unit is of another
                kind, or no measurement can satisfy a limit.
        """
        limits: dict[str, float] = {}
        for term in text.split(","):
            match = _TERM.fullmatch(term)
            if match is None:
                raise ValueError(
                    "a constraint reads NAME<=NUMBER[UNIT], as in latency<=2ms; "
                    f"got {term.strip()!r}"
                )
            name = resolve(match["name"], objectives)
            limit = _convert(float(match["number"]), match["unit"], name)
            limits[name] = min(limit, limits.get(name, limit))
        return cls(limits)

    @classmethod
    def of(cls, value: Constraint | str, objectives: Sequence[str]) -> Constraint:
        """A constraint from a `Constraint`, or from text that `parse` reads.

        Raises:
            ValueError: `parse` refuses the text.
            TypeError: the value is neither a `Constraint` nor a text.
        """
        if isinstance(value, str):
            return cls.parse(value, objectives)
        if isinstance(value, Constraint):
            return value
        raise TypeError(
            f"constraint must be a Constraint or a text such as 'latency<=2ms', got {value!r}"
        )

    def satisfied(self, objectives: Mapping[str, float]) -> bool:
        """Whether these objective values are within all limits.

        Raises:
            ValueError: a limited objective has no value.
        """
        missing = [name for name in self.limits if name not in objectives]
        if missing:
            raise ValueError(
                f"the constraint limits {missing[0]}, but there are only {', '.join(objectives)}"
            )
        return all(objectives[name] <= limit for name, limit in self.limits.items())

    def __repr__(self) -> str:
        return f"Constraint({str(self)!r})"

    def __str__(self) -> str:
        return ",".join(f"{name}<={limit:.12g}" for name, limit in self.limits.items())

    def __reduce__(self) -> tuple[type[Constraint], tuple[dict[str, float]]]:
        return Constraint, (dict(self.limits),)  # the read-only view itself cannot be pickled


def resolve(name: str, objectives: Iterable[str]) -> str:
    """The column of the objective that is called ``name``, with or without its unit.

    >>> resolve("latency", ["error_percent", "latency_ms"])
    'latency_ms'

    Raises:
        ValueError: no objective has this name, or more than one has it.
    """
    known = list(objectives)
    if name in known:
        return name
    meant = [objective for objective in known if split_unit(objective)[0] == name]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ValueError(f"{name!r} may be any of {', '.join(meant)}; say which")
    raise ValueError(f"no objective is called {name!r}; there are {', '.join(known)}")


def split_unit(objective: str) -> tuple[str, str | None]:
    """``latency_ms`` as ``("latency", "ms")``; the unit is None if the last word is no unit."""
    stem, _, unit = objective.rpartition("_")
    unit = _SPELLINGS.get(unit, unit)
    return (stem, unit) if stem and unit in _UNITS else (objective, None)


def _convert(number: float, written: str, objective: str) -> float:
    unit = split_unit(objective)[1]
    folded = _SPELLINGS.get(written.lower(), written.lower())
    if unit is not None and number < 0:
        raise ValueError(f"{objective} is never negative, got a limit of {number:g}{written}")
    if not folded:
        return number
    if folded not in _UNITS:
        raise ValueError(
            f"unknown unit {written!r}; there are ns, us, ms, s, B, kB, MB, GB, KiB, MiB, GiB, "
            "uJ, mJ, J and %"
        )
    if unit is None or _UNITS[unit][0] != _UNITS[folded][0]:
        raise ValueError(f"{objective} is not measured in {written!r}, or its name does not say so")
    return number * _UNITS[folded][1] / _UNITS[unit][1]
