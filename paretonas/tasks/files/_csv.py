"""A table in a text file."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from csv import reader
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...data import Preprocessing
from ._splits import Splits, cut, file_at, splits

CATEGORIES = 1000  # different texts in a column


def csv(
    path: str | Path,
    *,
    target: str | Sequence[str],
    columns: Sequence[str] | None = None,
    valid: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    shuffle: bool = True,
) -> Splits:
    """A table with a line of column names; commas, semicolons, tabs or bars between the columns.

    Inputs are (n, columns), float32. A column of texts becomes the place of each text among all
    texts of the column, in alphabetical order. All columns are normalized by the mean and standard
    deviation of the training rows. The splits are cut at random; or in the order of the rows, as
    time series need it: the first rows are for training, then come validation and test.

    Args:
        path: the file.
        target: the column to predict: texts become classes; whole numbers stay whole numbers, (n,),
            int64; others are (n,), float32. Several columns are (n, columns), float32.
        columns: the columns to predict it from; by default all others.
        valid: the share of the validation rows.
        test: the share of the test rows.
        seed: of the random cut.
        shuffle: whether the cut is random.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing or there twice, a value is missing or not finite, whole
            numbers do not fit into 64 bits, a column has more than 1000 different texts, or the
            file is not a table.
    """
    file = file_at(path, "a table with a line of column names")
    table = _table(file)
    wanted = [target] if isinstance(target, str) else list(target)
    given = [c for c in table if c not in wanted] if columns is None else list(columns)
    for column in [*wanted, *given]:
        if column not in table:
            raise ValueError(f"{file} has no column {column!r}; it has {', '.join(table)}")
    if not given or not wanted or set(given) & set(wanted):
        raise ValueError(f"inputs and targets must be different columns, got {given} and {wanted}")
    codes = {column: _numbers(file, column, table[column]) for column in [*given, *wanted]}
    inputs = np.stack([codes[column][0] for column in given], axis=1).astype(np.float64)
    numbers, names = codes[wanted[0]]
    if not isinstance(target, str):
        numbers = np.stack([codes[column][0] for column in wanted], axis=1).astype(np.float64)
        names = ()
    limit = float(np.sqrt(np.finfo(np.float32).max))  # its square is finite, too
    for column, large in ((c, np.abs(codes[c][0]).max()) for c in [*given, *wanted]):
        if codes[column][0].dtype != np.int64 and large > limit:
            raise ValueError(
                f"the column {column!r} of {file} must have numbers up to {limit:.2g}, got {large}"
            )
    targets = numbers if numbers.dtype == np.int64 else numbers.astype(np.float32)
    rows = cut(len(inputs), {"valid": valid, "test": test}, seed, file, shuffle)
    mean, std = (f(inputs[rows["train"]], axis=0) for f in (np.mean, np.std))
    told = [f"{c} ({_codes(codes[c][1])})" if codes[c][1] else c for c in given]
    preprocessing = Preprocessing(
        f"the columns {', '.join(told)}",
        mean=tuple(mean.tolist()),
        std=tuple(np.where(std > 0, std, 1.0).tolist()),  # a constant column has no spread
        layout="batch, column",
        labels=names,
    )
    prepared = preprocessing(inputs)
    whole = {split: (prepared[some], targets[some]) for split, some in rows.items()}
    return splits(whole, preprocessing)


def _table(file: Path) -> dict[str, Any]:
    """The columns of a table by name."""
    import pandas as pd  # late, since it takes a second to import

    try:
        with file.open(encoding="utf-8-sig") as opened:
            header = opened.readline()
        unquoted = re.sub(r'"(?:[^"]|"")*"', "", header)
        separator = max(",;\t|", key=unquoted.count)
        names = next(reader([header], delimiter=separator, skipinitialspace=True), [])
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # of rows that are too long
            frame = pd.read_csv(
                file,
                sep=separator,
                skipinitialspace=True,
                encoding="utf-8-sig",
                index_col=False,
                low_memory=False,
            )
    except (ValueError, pd.errors.ParserWarning) as error:
        what = " ".join(str(error).split())
        raise ValueError(f"{file} cannot be read as a table: {what}") from error
    for name, times in Counter(names).items():
        if name and times > 1:
            raise ValueError(f"{file} has {times} columns that are called {name!r}; rename them")
    if frame.empty:
        raise ValueError(f"{file} has no rows below its line of column names")
    if all(re.fullmatch(r"[-+.\deE]+", str(name)) for name in frame):
        raise ValueError(f"{file} needs a line of column names, begins with {header.strip()!r}")
    return {str(name): series for name, series in frame.items()}


def _numbers(file: Path, column: str, series: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """A column as numbers, and the texts that they stand for, if it has texts."""
    missing = np.flatnonzero(series.isna())
    where = f"the column {column!r} of {file}"
    if len(missing):
        raise ValueError(
            f"{where} has no value in {len(missing)} of {len(series)} rows, first in row "
            f"{missing[0] + 1} below the names: fill it in, or leave out the row or the column"
        )
    if (large := _too_large(series)) is not None:
        raise ValueError(
            f"{where} has whole numbers that do not fit into 64 bits, such as {large}: name the "
            "columns to use, without it, or write them with a decimal point"
        )
    if series.dtype.kind in "biu":
        return series.to_numpy(np.int64), ()
    if series.dtype.kind == "f":
        values = series.to_numpy(np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
            raise ValueError(f"{where} must be finite, found {values[row - 1]} in row {row}")
        return values, ()
    texts, codes = np.unique(series.astype(str).to_numpy(str), return_inverse=True)
    if len(texts) > CATEGORIES:
        raise ValueError(
            f"{where} has {len(texts)} different texts, such as {str(texts[0])!r}, more than "
            f"{CATEGORIES}: name the columns to use, without it"
        )
    return codes.astype(np.int64), tuple(texts.tolist())


def _too_large(series: Any) -> int | None:
    """A whole number that int64 cannot hold, in a column of whole numbers; None if there is none.

    pandas reads such a column as uint64, as Python's integers or as texts.
    """
    if series.dtype.kind in "bif":
        return None
    texts = series.astype(str)
    if series.dtype.kind != "u" and not texts.str.fullmatch(r"[-+]?\d+").all():
        return None
    return next((number for number in map(int, texts) if not -(2**63) <= number < 2**63), None)


def _codes(texts: Sequence[str]) -> str:
    return ", ".join(f"{text} = {code}" for code, text in enumerate(texts))
