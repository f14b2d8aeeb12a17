"""Cells of CSV files: a text that a spreadsheet would take for a formula gets an apostrophe.

A name in a table may come from somebody else, and a spreadsheet runs ``=...`` as soon as it opens
the file. With an apostrophe in front it shows the text. Reading takes the apostrophe away again.
See https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value")

# At the beginning of a cell; also in the wide forms, which some spreadsheets read as the others.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"'*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|'*[+-](inf|nan)", re.ASCII)


def escaped(cell: Value) -> Value | str:
    """A cell as it is written; numbers, and texts that are numbers, stay as they are.

    >>> escaped("=1+1"), escaped("-8"), escaped(-8.0), escaped("conv3")
    ("'=1+1", '-8', -8.0, 'conv3')
    """
    return f"'{cell}" if isinstance(cell, str) and _is_formula(cell) else cell


def plain(text: str) -> str:
    """A cell as it was before it was written.

    >>> plain("'=1+1"), plain("'=1+1'"), plain("'tis")
    ('=1+1', "=1+1'", "'tis")
    """
    return text[1:] if text.startswith("'") and _is_formula(text) else text


def csv_line(cells: Iterable[object]) -> str:
    """A line of a CSV file, with its end; its cells are escaped."""
    line = io.StringIO()
    # With this end of a line, the writer puts both kinds of line breaks between quotes.
    csv.writer(line, lineterminator="\r\n").writerow([escaped(cell) for cell in cells])
    return line.getvalue().removesuffix("\r\n") + "\n"


def escaped_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose names of columns and texts can be written."""
    safe = frame.set_axis([escaped(name) for name in frame.columns], axis=1)
    for place, kind in enumerate(frame.dtypes):  # by place: two columns may have one name
        if not getattr(kind, "_is_numeric", kind.kind in "biufc"):
            cells = [escaped(cell) for cell in frame.iloc[:, place]]
            safe.isetitem(place, np.array([*cells, None], dtype=object)[:-1])
    return safe


def _is_formula(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None
