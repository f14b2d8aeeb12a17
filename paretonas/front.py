"""The Pareto front: the measured architectures that no other one dominates."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, overload

import moocore
import numpy as np

from paretonas import _front_figure
from paretonas._front_file import FrontTable, read_table, write_table
from paretonas._nondominated import Costs, nondominated
from paretonas.constraint import Constraint, is_resource, resolve
from paretonas.direction import check_maximize, turned
from paretonas.dominance import SURE, probability_less, probability_of_dominance
from paretonas.point import NAME, Cell, Point, is_name
from paretonas.space import Architecture

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

__all__ = ["Front", "Point", "merge", "quality", "roles"]

_NAMES = ("knee", "fastest", "most-accurate", "smallest")  # each selects a point


class Front:
    """The points that no other point dominates.

    Every objective is minimized, except those that `maximize` names. Values are the user's own.
    Iteration is in a fixed order: best first in the first objective, then in the next ones.

    - An architecture is on the front once. If it is added again with the same objectives, nothing
      changes. With other objectives it is refused; `replace` accepts the new measurement.
    - If architectures have equal objectives, the one that was added first stays.
    - Apart from such ties, the order of adding does not matter.

    >>> front = Front(["error_percent", "latency_ms"])
    >>> front.add(Point({"op": "conv3"}, {"error_percent": 2.0, "latency_ms": 3.0}))
    True
    >>> front.add(Point({"op": "pool"}, {"error_percent": 9.0, "latency_ms": 1.0}))
    True
    >>> front.add(Point({"op": "conv5"}, {"error_percent": 2.5, "latency_ms": 4.0}))
    False
    >>> str(front.pick("latency<=1500us")), front.hypervolume([10.0, 5.0])
    ('a02 (op=pool)', 18.0)
    >>> front[0]  # the first in this order; front[-1] is the last, front["a02"] has that id
    Point('a01', op=conv3: error_percent=2, latency_ms=3)
    >>> front = Front(["miou", "latency_ms"], maximize=["miou"])
    >>> front.add(Point({"op": "conv3"}, {"miou": 0.8, "latency_ms": 3.0}))
    True
    >>> front.hypervolume([0.5, 5.0]), front.pick("miou>=0.7").id
    (0.6000000000000001, 'a01')

    Args:
        objectives: the names of the objectives, in the order used for sorting the points.
        maximize: the names of those of which larger values are better.

    Raises:
        ValueError: no objective, one named twice, or `maximize` names another one.
        TypeError: a single text instead of a sequence of names.
    """

    def __init__(self, objectives: Sequence[str], maximize: Sequence[str] = ()) -> None:
        if isinstance(objectives, str):
            raise TypeError(f"objectives must be a sequence of names, got {objectives!r}")
        if not objectives or len(set(objectives)) != len(objectives):
            raise ValueError(
                f"a front needs at least one objective, each once, got {list(objectives)}"
            )
        self._objectives = tuple(objectives)
        self._maximize = check_maximize(maximize, self._objectives)
        self._upward = [(name, name in self._maximize) for name in self._objectives]
        self._nondominated = nondominated(len(self._objectives))
        self._by_costs: dict[Costs, Point] = {}
        self._by_architecture: dict[Architecture, Point] = {}
        self._by_id: dict[str, Point] = {}
        self._choices: dict[str, None] = {}  # of every point here, in order
        self._columns: frozenset[str] = frozenset()  # that every point here has
        self._named = 0  # how many ids this front has assigned

    @property
    def objectives(self) -> tuple[str, ...]:
        """The names of the objectives."""
        return self._objectives

    @property
    def maximize(self) -> tuple[str, ...]:
        """The names of the objectives of which larger values are better."""
        return self._maximize

    def add(self, point: Point) -> bool:
        """Put the point on the front if no point there dominates it or is equal to it.

        Points that it dominates are removed. A point without an id gets the next free one of a01,
        a02, ...

        Returns:
            Whether the point entered.

        Raises:
            ValueError: the objectives are not those of the front, or not finite; the choices are
                not those of the points on the front; the id is taken or is not a valid name; the
                architecture is on the front with other objective values.
        """
        self._check(point)
        known = self._by_architecture.get(point.architecture)
        if known is None:
            return self._enter(point)
        if known.objectives != point.objectives:
            raise ValueError(
                f"{known} is on the front with {dict(known.objectives)}, got "
                f"{dict(point.objectives)}; use replace() to keep the new measurement"
            )
        return False

    def replace(self, point: Point) -> bool:
        """Add a point and drop an older measurement of the same architecture, if there is one.

        The point takes the id of the old one unless it has its own. Points that the old measurement
        dominated do not come back.

        Returns:
            Whether the architecture is on the front now.

        Raises:
            ValueError: as `add`.
        """
        self._check(point)
        old = self._by_architecture.get(point.architecture)
        if old is not None:
            point = point if point.id else replace(point, id=old.id)
            costs = self._costs(old.objectives)
            self._nondominated.remove(costs)
            self._forget(costs)
        return self._enter(point)

    def hypervolume(self, reference: Mapping[str, float] | Sequence[float]) -> float:
        """The volume between the front and a reference point; larger is better.

        Points that are not better than the reference in every objective add nothing.

        Args:
            reference: the reference point: the worst value that counts for each objective, as a
                mapping by name or as a sequence in the order of `objectives`.

        Raises:
            ValueError: the reference does not have one finite value for each objective.
        """
        if isinstance(reference, Mapping):
            if set(reference) != set(self._objectives):
                raise ValueError(
                    f"the reference needs {', '.join(self._objectives)}, got {', '.join(reference)}"
                )
            reference = [reference[name] for name in self._objectives]
        corner = [float(value) for value in reference]
        if len(corner) != len(self._objectives) or not all(map(math.isfinite, corner)):
            raise ValueError(
                f"the reference needs a finite value for each of {', '.join(self._objectives)}, "
                f"got {corner}"
            )
        if not self._by_costs:
            return 0.0
        worst = self._costs(dict(zip(self._objectives, corner, strict=True)))
        return float(moocore.hypervolume(np.array(sorted(self._by_costs)), ref=list(worst)))

    def knee(self) -> Point:
        """The knee point: from here, a small gain in one objective costs much in another.

        Objectives are scaled so that the front spans [0, 1] in each. The knee is then the point
        farthest below the hyperplane through the unit points. For two objectives this hyperplane is
        the chord between the extreme points. Among points at equal distance (as for two points) it
        is the first in order.

        Raises:
            ValueError: the front is empty.

        References:
            Das, "On characterizing the 'knee' of the Pareto curve based on normal-boundary
            intersection", 1999. There the plane goes through the minimizers of the single
            objectives, which may coincide for three objectives or more; this one always exists.
        """
        self._check_not_empty()
        columns = zip(*self._by_costs, strict=True)
        ranges: list[tuple[float, float]] = [(min(column), max(column)) for column in columns]

        def scaled_sum(costs: Costs) -> float:
            return sum(
                (cost - low) / (high - low)
                for cost, (low, high) in zip(costs, ranges, strict=True)
                if high > low
            )

        return self._by_costs[min(sorted(self._by_costs), key=scaled_sum)]

    def pick(self, wish: str) -> Point:
        """The point that a name, an id or a constraint selects.

        Args:
            wish: ``knee``; ``fastest`` (the lowest latency), ``smallest`` (the lowest memory, or
                else parameters) or ``most-accurate`` (the best value of the `quality`); an id; or a
                constraint such as ``latency<=2ms,miou>=0.7`` (see `Constraint`), which selects,
                among the points that satisfy it, the best one in the first objective without a
                limit: ``miou>=0.7`` selects a fast network that is good enough.

        Raises:
            ValueError: there is no such point; the message says which points there are.
        """
        self._check_not_empty()
        wish = wish.strip()
        if wish == "knee":
            return self.knee()
        if wish in _NAMES:
            place = self._objectives.index(self._objective_called(wish))
            return min(self, key=lambda point: self._costs(point.objectives)[place])
        if wish in self:
            return self[wish]
        if not re.search("[<>=]", wish):
            raise ValueError(
                f"no point is called {wish!r}; there are {', '.join(_NAMES)}, "
                f"{', '.join(point.id for point in self)}, and constraints like latency<=2ms"
            )
        constraint = Constraint.parse(wish, self._objectives, self._maximize)
        enough = [point for point in self if constraint.satisfied(point.objectives)]
        if enough:
            free = [name for name in self._objectives if name not in constraint.limits]
            place = self._objectives.index((free or self._objectives)[0])
            return min(enough, key=lambda point: self._costs(point.objectives)[place])
        offers = []
        for name in constraint.limits:
            values = [point.objectives[name] for point in self]
            offers.append(f"{name} from {min(values):.6g} to {max(values):.6g}")
        raise ValueError(f"no point meets {constraint}; the front offers {', '.join(offers)}")

    def ties(self, wish: str) -> list[Point]:
        """The points that measurements cannot tell from the one that `pick` selects.

        These are ``fastest`` and ``smallest`` points: one that is better with a probability of at
        least 5 %, by the spreads that points report. Other wishes select by values as they are.

        >>> front = Front(["error_percent", "latency_ms"])
        >>> for name, error, latency in (("a", 3.0, 1.00), ("b", 2.0, 1.02), ("c", 1.0, 2.0)):
        ...     values = {"error_percent": error, "latency_ms": latency}
        ...     _ = front.add(Point({"op": name}, values, {"latency_spread_ms": 0.05}, name))
        >>> [point.id for point in front.ties("fastest")]
        ['b']
        """
        chosen = self.pick(wish)
        if wish.strip() not in ("fastest", "smallest"):
            return []
        objective = self._objective_called(wish.strip())
        return [
            point
            for point in self
            if point.architecture != chosen.architecture
            and probability_less(point, chosen, objective) > 1 - SURE
        ]

    def probability_of_dominance(self, one: Point, other: Point) -> float:
        """The probability that one point is better than another in all objectives of the front.

        See `paretonas.dominance.probability_of_dominance`; points report how far they can be
        trusted as ``latency_spread_ms``.
        """
        return probability_of_dominance(one, other, self._objectives, self._maximize)

    def to_pandas(self) -> pd.DataFrame:
        """A table with a row per point: id, picks, objectives, then the reported values."""
        import pandas as pd

        table = self._table()
        return pd.DataFrame([dict(row) for row in table.rows], columns=list(table.columns))

    def plot(self, measured: Sequence[Point] = ()) -> go.Figure:
        """A plotly figure: the first two objectives are the axes, and the third is the color.

        Args:
            measured: more points, such as those of `Run.evaluations`; each one that is not on the
                front becomes a gray dot.
        """
        return _front_figure.draw(
            self._objectives, self._maximize, list(self), roles(self), measured
        )

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a row per point to a .json, .csv or .parquet file, atomically and exactly.

        Picks are stored by name, so that options may be reordered or added later.

        Raises:
            ValueError: the suffix is another one, or the path cannot be written.
        """
        write_table(Path(path), self._table())

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        objectives: Sequence[str] | None = None,
        choices: Sequence[str] | None = None,
        maximize: Sequence[str] | None = None,
    ) -> Front:
        """Read a front from a file.

        JSON and parquet files name their objectives and choices, and which objectives are
        maximized. A CSV file does not. If they are not given here, its objectives are
        ``error_percent``, ``latency_ms`` and ``memory_kib``, as far as these columns exist, all of
        them minimized, and its choices are the columns between ``id`` and the objectives.

        Raises:
            ValueError: the file is malformed, `add` refuses a point, or a point is dominated.
            FileNotFoundError: there is no such file.
        """
        table = read_table(Path(path), objectives, choices, maximize)
        front = cls(table.objectives, table.maximize)
        points = []
        for number, row in enumerate(table.rows, start=1):
            try:
                points.append(_point(row, table))
                entered = front.add(points[-1])
            except (TypeError, ValueError) as error:
                raise ValueError(f"{path}, point {number}: {error}") from error
            if not entered:
                raise ValueError(f"{path}, point {number}: an earlier one is as good or better")
        for number, point in enumerate(points, start=1):
            if point.architecture not in front:
                raise ValueError(f"{path}, point {number}: a later one is better")
        return front

    def __copy__(self) -> Front:
        return deepcopy(self)  # else both would enter points into one structure

    def __iter__(self) -> Iterator[Point]:
        return iter([self._by_costs[costs] for costs in sorted(self._by_costs)])

    def __len__(self) -> int:
        return len(self._by_costs)

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return key in self._by_id
        return isinstance(key, Architecture) and key in self._by_architecture

    @overload
    def __getitem__(self, key: str | Architecture | int) -> Point: ...

    @overload
    def __getitem__(self, key: slice) -> list[Point]: ...

    def __getitem__(self, key: str | Architecture | int | slice) -> Point | list[Point]:
        """The point with this id, architecture or index; a list of points for a slice.

        Raises:
            KeyError: no point has this id or architecture.
            IndexError: the front has fewer points.
        """
        if isinstance(key, slice):
            return list(self)[key]
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"the front has {len(self)} points, none at place {key}")
            return list(self)[key]
        if isinstance(key, Architecture):
            return self._by_architecture[key]
        return self._by_id[key]

    def __repr__(self) -> str:
        names = (
            f"{name} maximized" if name in self._maximize else name for name in self._objectives
        )
        return f"Front({', '.join(names)}: {len(self)} points)"

    def _repr_html_(self) -> str:
        shown = self.to_pandas().to_html(
            index=False, border=0, float_format="{:.4g}".format, na_rep="", max_rows=60
        )
        return f"<p>{escape(repr(self))}</p>{shown}"

    def __array__(self, dtype: object = None, copy: object = None) -> NoReturn:
        # ``pandas.DataFrame(front)`` asks for an array, and would lose the names of the columns.
        raise TypeError("a front is no array, since its columns have names: use front.to_pandas()")

    def _enter(self, point: Point) -> bool:
        costs = self._costs(point.objectives)
        beaten = self._nondominated.enter(costs)
        if beaten is None:
            return False
        for other in beaten:
            self._forget(other)
        point = point if point.id else replace(point, id=self._next_id())
        if not self._by_costs:
            self._choices = dict.fromkeys(point.architecture)
            self._columns = frozenset(("id", *self._choices, *self._objectives))
        self._by_costs[costs] = point
        self._by_architecture[point.architecture] = point
        self._by_id[point.id] = point
        return True

    def _forget(self, costs: Costs) -> None:
        point = self._by_costs.pop(costs)
        del self._by_architecture[point.architecture], self._by_id[point.id]

    def _next_id(self) -> str:
        while True:
            self._named += 1
            name = f"a{self._named:02d}"
            if name not in self:
                return name

    def _check(self, point: Point) -> None:
        point.check_objectives(self._objectives)
        known = point.architecture.keys() == self._choices.keys()
        if not known or not self._columns.isdisjoint(point.reported):
            self._check_names(point)
        holder = self._by_id.get(point.id)
        if holder is not None and holder.architecture != point.architecture:
            raise ValueError(f"the id of {point} is taken by {holder}")
        # Ids are also names of files.
        if point.id and (point.id in _NAMES or not is_name(point.id)):
            raise ValueError(
                f"an id is {NAME}, and is none of {', '.join(_NAMES)}; got {point.id!r}"
            )

    def _check_names(self, point: Point) -> None:
        names = ["id", *point.architecture, *point.objectives, *point.reported]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"{point} has two values called {', '.join(sorted(twice))}")
        if self._by_costs and point.architecture.keys() != self._choices.keys():
            raise ValueError(
                f"{point} has other choices than the front's {', '.join(self._choices)}"
            )

    def _check_not_empty(self) -> None:
        if not self._by_costs:
            raise ValueError("the front is empty: there is no point to pick")

    def _objective_called(self, wish: str) -> str:
        wanted = {"fastest": ["latency"], "smallest": ["memory", "parameters"]}.get(wish)
        if wanted is None:
            name = quality(self._objectives, self._maximize)
        else:
            name = _first_called(wanted, self._objectives)
        if name is not None:
            return name
        needed = " or ".join(wanted or ["error", "accuracy", "another measure of quality"])
        raise ValueError(
            f"{wish!r} needs one objective called {needed}; "
            f"the front has {', '.join(self._objectives)}"
        )

    def _costs(self, values: Mapping[str, float]) -> Costs:
        """The costs of these values, in the order of the objectives."""
        return tuple(
            [turned(values[name], True) if up else values[name] for name, up in self._upward]
        )

    def _table(self) -> FrontTable:
        rows = tuple(
            {"id": point.id, **point.architecture, **point.objectives, **point.reported}
            for point in self
        )
        choices = tuple(next(iter(self)).architecture) if self._by_costs else ()
        return FrontTable(choices, self._objectives, rows, self._maximize)


def quality(objectives: Sequence[str], maximize: Sequence[str] = ()) -> str | None:
    """The objective that measures quality, if there is one.

    It is the objective called ``error``; else ``accuracy``; else the first that is maximized; else
    the first whose name has the word error or loss; else, beside objectives that are resources
    (time, size, energy, parameters), the first that is no resource.

    >>> quality(["latency_ms", "miou"], ["miou"]), quality(["rmse", "latency_ms"])
    ('miou', 'rmse')
    >>> quality(["latency_ms", "memory_kib"]) is None
    True
    """
    others = [name for name in objectives if not is_resource(name)]
    candidates = [
        _first_called(["error", "accuracy"], objectives),
        *(name for name in objectives if name in maximize),
        *(name for name in objectives if re.search("error|loss", name.lower())),
        *(others if len(others) < len(objectives) else []),
    ]
    return next((name for name in candidates if name is not None), None)


def roles(front: Front) -> dict[str, list[str]]:
    """For the id of each point, the other names that `Front.pick` accepts for it."""
    found: dict[str, list[str]] = {}
    for wish in _NAMES:
        try:
            found.setdefault(front.pick(wish).id, []).append(wish)
        except ValueError:  # the front has no such objective, or no point
            continue
    return found


def merge(*fronts: Front) -> Front:
    """Merge several fronts into one; the later measurement of an architecture replaces the earlier.

    A point keeps its id if that id is still free.

    Raises:
        ValueError: there is no front, or one has other objectives or choices than the first, or
            maximizes others.
    """
    if not fronts:
        raise ValueError("merge needs at least one front")
    points: dict[Architecture, Point] = {}
    for front in fronts:
        points |= {point.architecture: point for point in front}
    for front in fronts:
        if set(front.maximize) != set(fronts[0].maximize):
            raise ValueError(
                f"merge needs fronts of one direction, got {fronts[0]!r} and {front!r}"
            )
    merged = Front(fronts[0].objectives, fronts[0].maximize)
    for point in points.values():
        merged.add(replace(point, id="") if point.id in merged else point)
    return merged


def _point(row: Mapping[str, Cell], table: FrontTable) -> Point:
    missing = [name for name in (*table.choices, *table.objectives) if name not in row]
    if missing:
        raise ValueError(f"no value for {missing[0]}")
    picks = {name: row[name] for name in table.choices}
    for name, pick in picks.items():
        if not isinstance(pick, str):
            raise TypeError(f"the pick for {name} must be an option's name, got {pick!r}")
    return Point(
        architecture=Architecture({name: str(pick) for name, pick in picks.items()}),
        objectives={name: row[name] for name in table.objectives},  # type: ignore[misc]
        reported={
            name: value
            for name, value in row.items()
            if name not in ("id", *table.choices, *table.objectives)
        },
        id=str(row.get("id", "")),
    )


def _first_called(stems: Iterable[str], objectives: Sequence[str]) -> str | None:
    """The objective with the first of these names that one objective has, its unit left out."""
    for stem in stems:
        try:
            return resolve(stem, objectives)
        except ValueError:
            continue
    return None
