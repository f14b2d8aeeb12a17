"""Objectives without gradients that one function measures together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import SupportsFloat

from paretonas.direction import check_maximize, turned
from paretonas.space import Architecture, nearest

Found = Mapping[str, SupportsFloat] | Iterable[SupportsFloat]


def measured(
    function: Callable[[Architecture], Found],
    columns: Sequence[str],
    maximize: Sequence[str] = (),
) -> tuple[Measured, ...]:
    """Objectives from a function that measures an architecture, for example on a device.

    The function is called once per architecture for all columns, if all objectives of an
    architecture are read before those of the next one, as `paretonas.sample` does. An exception of
    the function is not caught; `sample` turns it into a failure. A failed call is not remembered.

    >>> def run(architecture):
    ...     width = int(architecture["width"])
    ...     return {"error_percent": 40 / width, "latency_ms": 0.25 * width, "note": "on the rack"}
    >>> error, latency = measured(run, ["error_percent", "latency_ms"])
    >>> error.exact({"width": "8"}), latency.exact({"width": "8"})
    (5.0, 2.0)

    Args:
        function: gets an `Architecture`. It returns a mapping from columns to values, which may
            hold more entries, or the values in the order of the columns.
        columns: names with units, such as ``latency_ms``.
        maximize: the columns of which larger values are better, such as ``accuracy``; the others
            are minimized.

    Returns:
        An objective for each column.

    Raises:
        ValueError: there is no column, one is named twice, or `maximize` names another one.
        TypeError: `columns` or `maximize` is a single text, or `function` is not callable.
    """
    if isinstance(columns, str):
        raise TypeError(f"columns must be a sequence of names, got {columns!r}")
    if not callable(function):
        raise TypeError(f"the first argument must be a function, got {function!r}")
    if not columns or len(set(columns)) != len(columns):
        raise ValueError(f"measured needs at least one column, each once, got {list(columns)}")
    upward = check_maximize(maximize, columns)
    measurement = _Measurement(function, tuple(columns))
    return tuple(Measured(column, measurement, column in upward) for column in measurement.columns)


@dataclass(frozen=True, eq=False, repr=False)
class Measured:
    """One objective of a measuring function; made by `measured`."""

    column: str
    measurement: _Measurement
    maximize: bool = False

    def __repr__(self) -> str:
        return f"Measured({self.column!r})"

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture: the value that the function returns, negated if maximized.

        Raises:
            ValueError: the function leaves out a column, or returns too many or too few values.
            TypeError: it returns something else.
        """
        return turned(self.measurement(architecture)[self.column], self.maximize)


class _Measurement:
    """Calls the function; remembers the last architecture and its values."""

    def __init__(self, function: Callable[[Architecture], Found], columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._function = function
        self._last: Architecture | None = None
        self._values: dict[str, float] = {}

    def __call__(self, architecture: Mapping[str, str]) -> dict[str, float]:
        if not isinstance(architecture, Architecture):
            architecture = Architecture(architecture)
        if architecture != self._last:
            self._values = self._by_column(self._function(architecture))
            self._last = architecture
        return self._values

    def _by_column(self, found: object) -> dict[str, float]:
        if isinstance(found, Mapping):
            for column in self.columns:
                if column not in found:
                    known = [str(name) for name in found]
                    raise ValueError(f"the function found no {column!r}{nearest(column, known)}")
            return {column: float(found[column]) for column in self.columns}
        if isinstance(found, str | set) or not isinstance(found, Iterable):
            raise TypeError(
                f"the function must return {', '.join(self.columns)} by name or in this order, "
                f"got {found!r}"
            )
        values = [float(value) for value in found]
        if len(values) != len(self.columns):
            raise ValueError(
                f"the function must return one value each for {', '.join(self.columns)}, "
                f"got {len(values)}"
            )
        return dict(zip(self.columns, values, strict=True))
