"""What the cells of a column say: picks, truth, or numbers; refused by row where they do not."""

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
        ValueError: a row without a pick, the same pick in all rows, or truth told both in words and
            as 1 and 0, which may be one option or two.
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
        ValueError: a row that is neither true nor false.
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
    """The numbers of a column; NaN where a row that is not allowed holds none.

    Raises:
        ValueError: an allowed row whose cell is text, empty, NaN or infinite.
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
    """The distinct values of a column as text, and which of them each row has.

    Spellings of one value, such as 8, "8.0" and "8 ", are one; the shortest of them is its name.

    Raises:
        ValueError: a row without a value, or a list where one value belongs.
    """
    cells = column.astype(object)
    try:
        hash(tuple(cells))
    except TypeError as error:
        raise ValueError(f"column {name!r} must hold one value per row: {error}") from error
    tidied: dict[tuple[type, object], str] = {}
    for cell in cells:
        if (type(cell), cell) not in tidied:  # True is not 1 in here
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
    """The number that a cell holds or spells; NaN if there is none."""
    if isinstance(cell, bool | np.bool_):
        return math.nan
    if isinstance(cell, str):
        cell = tidy(cell)
        if "_" in cell:  # Python reads 1_000; no other program does
            return math.nan
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _rows(which: NDArray[np.bool_]) -> str:
    first, count = int(which.argmax()) + 1, int(which.sum())
    return f"row {first}" + (f" and {count - 1} more" if count > 1 else "")
