"""Read CSV and parquet files as data frames."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from paretonas._spreadsheet import plain

if TYPE_CHECKING:
    import pandas as pd


def read_frame(path: Path) -> pd.DataFrame:
    """All columns of a file; columns of a CSV file hold text, even if it reads as numbers.

    Raises:
        ValueError: the suffix is another one, there is no such file, or it cannot be read.
        ModuleNotFoundError: the file is parquet and pyarrow is missing.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise ValueError(f"a table is a .csv or .parquet file, got {path.name!r}")
    try:
        there = path.is_file()
    except OSError as error:  # its name is too long
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if not there:
        raise ValueError(f"no such file: {path}")
    return readers[suffix](path)


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:  # every cell stays text: "None" and "NA" are options like any other
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, skipinitialspace=True, strict=True)
            header, *rows = [[plain(cell) for cell in line] for line in lines if line] or [[]]
    except (OSError, UnicodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a whole CSV file: {error}") from error
    if not header:
        raise ValueError(f"{path} is empty")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"{path}, row {number}: {len(header)} columns, {len(row)} cells")
    return pd.DataFrame(rows, columns=pd.Index(header, dtype=object), dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "parquet needs pyarrow: pip install 'paretonas[parquet]'", name="pyarrow"
        ) from error
    try:
        frame = pd.read_parquet(path, engine="pyarrow")
        # The row index of pandas becomes ordinary columns.
        named = [name for name in frame.index.names if name is not None]
        return frame.reset_index(level=named) if named else frame
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is not a whole parquet file: {why}") from error
