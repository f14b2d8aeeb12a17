"""Read the cells of a column: picks, true and false, or numbers; errors name the row."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from paretonas.space import Choice

from .spelling import meaning, name_of, tidy

if TYPE_CHECKING:
    import pandas as pd

_TRUTH = {"true": True, Decimal(1): True, "false": False, Decimal(0): False}


def choice(column: pd.Series[Any], name: str) -> tuple[Choice, list[str]]:
    """The choice that a column holds, and the pick in each row.

    Raises:
        ValueError: a row has no pick, all rows have the same pick, or the column has both true and
            false and 1 and 0, which may be the same options or different ones.
    """
    options, codes = groups(column, name)
    meant = {meaning(option): option for option in options}
    words, bits = meant.keys() & {"true", "false"}, meant.keys() & {Decimal(1), Decimal(0)}
    if words and bits:
        one, other = (min(meant[key] for key in kind) for kind in (words, bits))
        raise ValueError(
            f"choice {name!r} must spell true and false in one way, found {one!r} and {other!r}"
        )
    if len(options) < 2:
        raise ValueError(
            f"choice {name!r} needs at least two options, every row has {options[0]!r}"
        )
    values = [number(option) for option in options]
    if all(math.isfinite(value) for value in values):
        ordered = [option for _, option in sorted(zip(values, options, strict=True))]
    else:
        ordered = sorted(options)
    return Choice(name, tuple(ordered)), [options[code] for code in codes]


def truth(column: pd.Series[Any], name: str) -> NDArray[np.bool_]:
    """Which rows are true.

    Raises:
        ValueError: a row is neither true nor false.
    """
    values, codes = groups(column, name)
    for code, value in enumerate(values):
        if meaning(value) not in _TRUTH:
            raise ValueError(
                f"column {name!r} says which rows are allowed, by true and false or 1 and 0; "
                f"found {value!r} in {_rows(codes == code)}"
            )
    return np.array([_TRUTH[meaning(value)] for value in values])[codes]


def numbers(column: pd.Series[Any], name: str, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The numbers of a column; NaN if a row that is not allowed has none.

    Raises:
        ValueError: the cell of an allowed row is text, empty, NaN or infinite.
    """
    cells = column.astype(object).to_numpy()
    values = np.array([number(cell) for cell in cells])
    bad = allowed & ~np.isfinite(values)
    if bad.any():
        found = cells[int(bad.argmax())]
        what = "nothing" if found is None or str(found) in ("", "<NA>") else repr(found)
        raise ValueError(
            f"objective {name!r} must be a finite number in every allowed row, found {what} in "
            f"{_rows(bad)}"
        )
    return values


def groups(column: pd.Series[Any], name: str) -> tuple[list[str], NDArray[np.intp]]:
    """The distinct values of a column as text, and the index of each row's value.

    Different spellings of a value, such as 8, "8.0" and "8 ", count as one; the shortest spelling
    is its name.

    Raises:
        ValueError: a row has no value, or a list instead of one value.
    """
    cells = column.astype(object)
    try:
        hash(tuple(cells))
    except TypeError as error:
        raise ValueError(f"column {name!r} must hold one value per row: {error}") from error
    tidied: dict[tuple[type, object], str] = {}
    for cell in cells:
        if (type(cell), cell) not in tidied:  # here True differs from 1
            tidied[type(cell), cell] = tidy(str(cell))
    texts = [tidied[type(cell), cell] for cell in cells]
    missing = cells.isna().to_numpy() | np.array([text == "" for text in texts], dtype=bool)
    if missing.any():
        raise ValueError(f"column {name!r} has no value in {_rows(missing)}")
    key = {text: meaning(text) for text in dict.fromkeys(texts)}
    spellings: dict[str | Decimal, list[str]] = {}
    for text, meant in key.items():
        spellings.setdefault(meant, []).append(text)
    place = {meant: index for index, meant in enumerate(spellings)}
    codes = np.array([place[key[text]] for text in texts], dtype=np.intp)
    return [name_of(found) for found in spellings.values()], codes


def number(cell: object) -> float:
    """The number in a cell, also if it is text; NaN if there is none."""
    if isinstance(cell, bool | np.bool_):
        return math.nan
    if isinstance(cell, str):
        cell = tidy(cell)
        if "_" in cell:  # only Python reads 1_000 as a number
            return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _rows(which: NDArray[np.bool_]) -> str:
    first, count = int(which.argmax()) + 1, int(which.sum())
    return f"row {first}" + (f" and {count - 1} more" if count > 1 else "")
