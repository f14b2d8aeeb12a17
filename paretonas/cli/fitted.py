"""A table for any width: what does not fit side by side is stacked, and no number is ever cut."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

_GAP = 2  # blanks between two columns
_NAME, _WORDS = 12, 24  # what names and a column of words get at least, if they need it
_PIECE = re.compile(r"[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?|\D")


@dataclass(frozen=True)
class FittedTable:
    """Rows of a name, numbers and perhaps words; the most important numbers come first.

    Where a line has no room for all columns, the rest follows in further tables below, with the
    names again. Names, words and titles are broken between two words, or in a long one, but in no
    number.

    Attributes:
        titles: of the columns, the name's first.
        rows: a cell for each title.
        words: whether the last column holds words rather than numbers.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        room, last = options.max_width, len(self.titles) - 1
        table = [*zip(self.titles, *self.rows, strict=True)]
        needed = [max(map(cell_len, column)) for column in table]
        least = min(needed[0], max(_NAME, _longest_piece(table[0])))
        for column, (title, *cells) in enumerate(table[1:], start=1):  # beside the names
            fits = max(1, room - _GAP - least)
            needed[column] = max(min(cell_len(title), fits), *map(cell_len, cells), 0)
        if self.words:
            needed[last] = min(needed[last], max(_WORDS, _longest_piece(table[last])))
        name = max(_NAME, _longest_piece(table[0]), room - _GAP - max(needed[1:]))
        needed[0] = min(needed[0], name)
        lines: list[list[int]] = [[]]
        left = room - needed[0]
        for column, width in enumerate(needed[1:], start=1):
            if lines[-1] and left < _GAP + width:
                lines.append([])
                left = room - needed[0]
            lines[-1].append(column)
            left -= _GAP + width
        for columns in lines:
            shown = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
            widths = {column: needed[column] for column in [0, *columns]}
            if self.words and columns[-1] == last:
                widths[last] += room - sum(widths.values()) - _GAP * len(columns)
            for column in widths:
                words = column == 0 or (self.words and column == last)
                title = Text(wrapped(self.titles[column], widths[column]))
                shown.add_column(title, justify="left" if words else "right", no_wrap=True)
            for row in self.rows:
                shown.add_row(*(Text(wrapped(row[at], width)) for at, width in widths.items()))
            yield shown


def wrapped(text: str, width: int) -> str:
    r"""Text in lines of at most this width, as far as its numbers allow: none of them is broken.

    >>> wrapped("op=conv3 width=128", 10)
    'op=conv3\nwidth=128'
    >>> wrapped("latency=128", 9)
    'latency=\n128'
    """
    if cell_len(text) <= width:
        return text
    lines = [""]
    for word in text.split(" "):
        glue = " " if lines[-1] else ""
        if cell_len(lines[-1] + glue + word) <= width:
            lines[-1] += glue + word
            continue
        if lines[-1]:
            lines.append("")
        for piece in _PIECE.findall(word):
            if lines[-1] and cell_len(lines[-1] + piece) > width:
                lines.append("")
            lines[-1] += piece
    return "\n".join(lines)


def _longest_piece(column: Sequence[str]) -> int:
    return max(cell_len(piece) for text in column for piece in _PIECE.findall(text))
