"""The roles of columns, and rows that belong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from paretonas.space import Architecture, nearest

from .spelling import tidy


def check_names(
    columns: Sequence[str],
    choices: Sequence[str],
    minimize: Sequence[str],
    maximize: Sequence[str],
    others: Sequence[str | None],
) -> None:
    """Refuse columns that are missing or have two roles.

    Args:
        columns: the names in the file.
        choices: the names of choices; these and the following names are tidy.
        minimize: the names of objectives of which smaller values are better.
        maximize: the names of objectives of which larger values are better.
        others: further names.

    Raises:
        ValueError: a column is missing, occurs twice or is named twice; there are too few columns;
            or points already use the name.
    """
    parts = {"choices": choices, "minimize": minimize, "maximize": maximize}
    role: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in role:
                raise ValueError(f"column {name!r} is named twice, in {role[name]} and in {part}")
            role[name] = part
    if not choices:
        raise ValueError("a table needs at least one column of choices, got none")
    if len(minimize) + len(maximize) < 2:
        got = ", ".join([*minimize, *maximize]) or "none"
        raise ValueError(f"a table needs at least two objectives, got {got}")
    if "id" in role:
        raise ValueError("'id' cannot be a choice or an objective: points have their own ids")
    known = [tidy(column) for column in columns]
    for name in (*role, *(other for other in others if other is not None)):
        if name not in known:
            raise ValueError(f"there is no column {name!r}{nearest(name, known)}")
        if known.count(name) > 1:
            spelled = {column for column in columns if tidy(column) == name}
            how = f", spelled {' and '.join(map(repr, sorted(spelled)))}"
            raise ValueError(
                f"there are {known.count(name)} columns called {name!r}"
                f"{how if len(spelled) > 1 else ''}"
            )


def tidy_names(part: str, names: Sequence[str]) -> list[str]:
    """The names without invisible blanks.

    Raises:
        TypeError: it is not a sequence of names.
    """
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{part} must be a sequence of column names, got {names!r}")
    return [tidy(name) for name in names]


def average_groups(
    values: NDArray[np.float64], group: NDArray[np.intp], allowed: NDArray[np.bool_]
) -> None:
    """Replace the values of the allowed rows of each group by their mean, in place."""
    rows = group[allowed]
    counts = np.maximum(np.bincount(rows), 1)
    for index in range(values.shape[1]):
        column = values[allowed, index]
        # Differences to one value of the group: the mean of equal values is exactly that value.
        base = np.zeros(len(counts))
        base[rows] = column
        means = base + np.bincount(rows, weights=column - base[rows]) / counts
        values[allowed, index] = means[rows]


def distinct(
    architectures: Sequence[Architecture],
    columns: Sequence[str],
    values: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    cells: Sequence[Sequence[object]],
) -> dict[Architecture, int]:
    """The first row of each architecture.

    Args:
        architectures: the architecture of each row.
        columns: the names of the objectives.
        values: (rows, m), the values of the objectives.
        allowed: (rows,), which rows are allowed.
        cells: a column per choice, with the picks as spelled in the file.

    Raises:
        ValueError: two rows of one architecture disagree.
    """
    rows: dict[Architecture, int] = {}
    for row, architecture in enumerate(architectures):
        first = rows.setdefault(architecture, row)
        if first == row:
            continue
        pairs = [(str(column[first]), str(column[row])) for column in cells]
        spelled = [f"{one!r} and {other!r} are one" for one, other in pairs if one != other]
        names = f" ({', '.join(spelled)})" if spelled else ""
        found = f"rows {first + 1} and {row + 1} are both {architecture}{names}, but"
        if allowed[first] != allowed[row]:
            raise ValueError(f"{found} only one of them is allowed")
        for column, one, other in zip(columns, values[first], values[row], strict=True):
            if allowed[row] and one != other:
                raise ValueError(f"{found} {column} is {one:.17g} and {other:.17g}")
    return rows
