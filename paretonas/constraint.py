"""Limits on objectives, such as ``latency<=2ms,miou>=0.7``."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from paretonas.direction import check_maximize, turned

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
    r"\s*(?P<name>[A-Za-z_]\w*(?:@[^<>=]*[^<>=\s])?)\s*(?P<sign>[<>]=)\s*"
    r"(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*(?P<unit>%|[A-Za-zµμ]*)\s*"
)


@dataclass(frozen=True, repr=False)
class Constraint:
    """Limits on some objectives; a point is feasible if it satisfies all of them.

    >>> constraint = Constraint.parse("latency<=1500us", ["error_percent", "latency_ms"])
    >>> str(constraint), constraint.satisfied({"error_percent": 4.0, "latency_ms": 1.2})
    ('latency_ms<=1.5', True)
    >>> constraint = Constraint.parse("miou>=0.7", ["miou", "latency_ms"], maximize=["miou"])
    >>> str(constraint), constraint.satisfied({"miou": 0.6, "latency_ms": 1.2})
    ('miou>=0.7', False)

    Attributes:
        limits: the worst allowed value for each objective, by name, in the objective's unit: the
            largest, and for those in `at_least` the smallest.
        at_least: the objectives that are maximized, among those with a limit.

    Raises:
        ValueError: a limit is not finite, or `at_least` names an objective without a limit.
    """

    limits: Mapping[str, float]
    at_least: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "at_least", frozenset(check_maximize(self.at_least, [*self.limits]))
        )
        for name, limit in self.limits.items():
            if not math.isfinite(limit):
                raise ValueError(f"the limit on {name} must be finite, got {limit}")
        object.__setattr__(self, "limits", MappingProxyType(dict(self.limits)))

    @classmethod
    def parse(
        cls, text: str, objectives: Sequence[str], maximize: Sequence[str] = ()
    ) -> Constraint:
        """Read terms joined by commas: ``NAME<=NUMBER[UNIT]``, ``>=`` if NAME is maximized.

        NAME is an objective, with or without its unit: ``latency`` means ``latency_ms``, and
        ``rmse`` means ``rmse_celsius`` if only this objective begins like that; ``latency@phone``
        means ``latency_phone_ms``. UNIT is one of ns, us, ms, s; B, kB, MB, GB, KiB, MiB, GiB; uJ,
        mJ, J; %; upper or lower case; or the unit in the objective's name. Without a unit the
        number is in the objective's unit. If an objective has two limits, the stricter one counts.

        Args:
            text: the terms.
            objectives: the names of all objectives, with their units.
            maximize: those of which larger values are better.

        Raises:
            ValueError: a term is malformed, an objective or unit is unknown, a unit is of another
                kind, a limit has the wrong direction, or no measurement can satisfy it.
        """
        upward = check_maximize(maximize, objectives)
        limits: dict[str, float] = {}
        for term in text.split(","):
            match = _read(term)
            name = resolve(match["name"], objectives)
            sign, kind = (">=", "maximized") if name in upward else ("<=", "minimized")
            if match["sign"] != sign:
                number = match["number"] + match["unit"]
                raise ValueError(
                    f"{name} is {kind}, so its limit reads {match['name']}{sign}{number}; "
                    f"got {term.strip()!r}"
                )
            limit = _convert(float(match["number"]), match["unit"], name)
            stricter = max if name in upward else min
            limits[name] = stricter(limit, limits.get(name, limit))
        return cls(limits, frozenset(limits).intersection(upward))

    @staticmethod
    def names(text: str) -> dict[str, str]:
        """The names that a text limits, as they are written, and the last sign of each.

        >>> Constraint.names("latency<=2ms, miou >= 0.7")
        {'latency': '<=', 'miou': '>='}

        Raises:
            ValueError: a term is malformed.
        """
        return {match["name"]: match["sign"] for match in map(_read, text.split(","))}

    @classmethod
    def of(
        cls, value: Constraint | str, objectives: Sequence[str], maximize: Sequence[str] = ()
    ) -> Constraint:
        """A constraint from a `Constraint`, or from text that `parse` reads.

        Raises:
            ValueError: `parse` refuses the text, or a limit has the wrong direction.
            TypeError: the value is neither a `Constraint` nor a text.
        """
        if isinstance(value, str):
            return cls.parse(value, objectives, maximize)
        if isinstance(value, Constraint):
            value.check_direction(maximize)
            return value
        raise TypeError(
            f"constraint must be a Constraint or a text such as 'latency<=2ms', got {value!r}"
        )

    def satisfied(self, objectives: Mapping[str, float]) -> bool:
        """Whether these objective values are within all limits.

        Raises:
            ValueError: a limited objective has no value.
        """
        self._check_values(objectives)
        return all(
            turned(objectives[name], name in self.at_least) <= turned(limit, name in self.at_least)
            for name, limit in self.limits.items()
        )

    def excess(self, values: Mapping[str, float]) -> dict[str, float]:
        """By how much each limit is exceeded, as a part of the limit; 0 or less where it is met.

        The names are in alphabetical order. The part of a limit of 0 is the value itself. What is
        not a number exceeds every limit, by an infinite part.

        >>> Constraint({"latency_ms": 2.0, "energy_mj": 8.0}).excess(
        ...     {"latency_ms": 3.0, "energy_mj": 6.0})
        {'energy_mj': -0.25, 'latency_ms': 0.5}

        Raises:
            ValueError: a limited objective has no value.
        """
        self._check_values(values)
        parts = {
            name: turned(values[name] - self.limits[name], name in self.at_least)
            / (abs(self.limits[name]) or 1.0)
            for name in sorted(self.limits)
        }
        return {name: math.inf if math.isnan(part) else part for name, part in parts.items()}

    def violation(self, values: Mapping[str, float]) -> float:
        """The sum of what is exceeded, as parts of the limits; 0 exactly for what is feasible.

        Deb 2000, "An efficient constraint handling method for genetic algorithms".

        Raises:
            ValueError: a limited objective has no value.
        """
        return math.fsum(part for part in self.excess(values).values() if part > 0)

    def on(self, names: Collection[str]) -> Constraint:
        """The limits on these names alone."""
        limits = {name: limit for name, limit in self.limits.items() if name in names}
        return Constraint(limits, self.at_least & limits.keys())

    def unmet(self, values: Iterable[Mapping[str, float]], what: str = "architecture") -> str:
        """What to say if none of these architectures is feasible: what is nearest.

        >>> Constraint({"latency_ms": 0.01}).unmet([{"latency_ms": 0.7}, {"latency_ms": 0.043}])
        'no architecture has latency_ms <= 0.01; the least is 0.043'
        """
        nearest = min(values, key=self.violation)
        wanted = " and ".join(
            f"{name} {'>=' if name in self.at_least else '<='} {limit:.12g}"
            for name, limit in self.limits.items()
        )
        if len(self.limits) == 1:
            (name,) = self.limits
            most = "most" if name in self.at_least else "least"
            return f"no {what} has {wanted}; the {most} is {nearest[name]:.4g}"
        found = ", ".join(f"{name} {nearest[name]:.4g}" for name in self.limits)
        return f"no {what} has {wanted}; the nearest has {found}"

    def check_direction(self, maximize: Collection[str]) -> None:
        """Refuse an upper limit on what is maximized, and a lower one on what is minimized.

        Raises:
            ValueError: there is one.
        """
        for name, limit in self.limits.items():
            if (name in maximize) != (name in self.at_least):
                kind, sign = ("maximized", ">=") if name in maximize else ("minimized", "<=")
                raise ValueError(
                    f"{name} is {kind}, so its limit reads {name}{sign}{limit:g}; got {self}"
                )

    def _check_values(self, values: Mapping[str, float]) -> None:
        missing = [name for name in self.limits if name not in values]
        if missing:
            raise ValueError(
                f"the constraint limits {missing[0]}, but there are only {', '.join(values)}"
            )

    def __bool__(self) -> bool:
        """Whether there is a limit."""
        return bool(self.limits)

    def __repr__(self) -> str:
        return f"Constraint({str(self)!r})"

    def __str__(self) -> str:
        return ",".join(
            f"{name}{'>=' if name in self.at_least else '<='}{limit:.12g}"
            for name, limit in self.limits.items()
        )

    def __reduce__(self) -> tuple[type[Constraint], tuple[dict[str, float], frozenset[str]]]:
        return Constraint, (
            dict(self.limits),
            self.at_least,
        )  # the read-only view itself cannot be pickled


def _read(term: str) -> re.Match[str]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise ValueError(
            "a constraint reads NAME<=NUMBER[UNIT], as in latency<=2ms, or NAME>=NUMBER "
            f"if NAME is maximized; got {term.strip()!r}"
        )
    return match


def resolve(name: str, objectives: Iterable[str]) -> str:
    """The column of the objective that is called ``name``, with or without its unit.

    The unit may be any words, if no column has this name with a unit of time, size or energy.

    >>> resolve("latency", ["latency_ms", "latency_gpu_ms"]), resolve("rmse", ["rmse_celsius"])
    ('latency_ms', 'rmse_celsius')

    Raises:
        ValueError: no objective has this name, or more than one has it.
    """
    known, name = list(objectives), on_device(name)
    if name in known:
        return name
    meant = [objective for objective in known if split_unit(objective)[0] == name]
    meant = meant or [objective for objective in known if objective.startswith(f"{name}_")]
    if len(meant) == 1:
        return meant[0]
    if meant:
        raise ValueError(f"{name!r} may be any of {', '.join(meant)}; say which")
    raise ValueError(f"no objective is called {name!r}; there are {', '.join(known)}")


def on_device(name: str) -> str:
    """The name of an objective on a device, as files spell it; other names stay.

    >>> on_device("latency@tables/pixel-7.json"), on_device("latency@phone"), on_device("memory")
    ('latency_pixel_7', 'latency_phone', 'memory')
    """
    objective, on, device = name.partition("@")
    if not on:
        return name
    word = re.sub(r"\W+", "_", PurePath(device).name.removesuffix(".json")).strip("_")
    return f"{objective}_{word}"


def is_resource(objective: str) -> bool:
    """Whether an objective is time, size or energy by its unit, or a count of parameters or flops.

    >>> is_resource("latency_ms"), is_resource("error_percent"), is_resource("parameters_M")
    (True, False, True)
    """
    unit = split_unit(objective)[1]
    if unit is not None:
        return _UNITS[unit][0] != "percent"
    return re.match("(latency|memory|energy|param|flops|macs)", objective.lower()) is not None


def split_unit(objective: str) -> tuple[str, str | None]:
    """``latency_ms`` as ``("latency", "ms")``; the unit is None if the last word is no unit.

    A last word ``b`` is no unit, but tells one of two heads from the other; ``bytes`` is one.

    >>> split_unit("dice_points"), split_unit("images_per_s"), split_unit("error_b")
    (('dice_points', None), ('images_per_s', None), ('error_b', None))
    """
    stem, _, word = objective.rpartition("_")
    unit = _SPELLINGS.get(word, word)
    known = stem and unit in _UNITS and word != "b" and not stem.endswith("_per")
    return (stem, unit) if known else (objective, None)


def _convert(number: float, written: str, objective: str) -> float:
    unit = split_unit(objective)[1]
    folded = _SPELLINGS.get(written.lower(), written.lower())
    if unit is not None and number < 0:
        raise ValueError(f"{objective} is never negative, got a limit of {number:g}{written}")
    if not folded or (unit is None and objective.lower().endswith(f"_{folded}")):
        return number
    if folded not in _UNITS:
        raise ValueError(
            f"unknown unit {written!r}; there are ns, us, ms, s, B, kB, MB, GB, KiB, MiB, GiB, "
            "uJ, mJ, J and %"
        )
    if unit is None or _UNITS[unit][0] != _UNITS[folded][0]:
        raise ValueError(f"{objective} is not measured in {written!r}, or its name does not say so")
    return number * _UNITS[folded][1] / _UNITS[unit][1]
