"""A table of architectures whose objectives are known: a search space with exact objectives."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from paretonas.cell import EdgeCell, Structure
from paretonas.space import Architecture, Choice, encode, size

from .cells import choice, groups, numbers, truth
from .file import read_frame
from .rows import MINUS, average_groups, check_names, distinct, tidy_names
from .spelling import tidy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Architectures and their costs, read from any CSV or parquet file; a search space.

    A row is an architecture: a column per choice holds its picks, a column per objective what it
    costs. A row may be known and yet not allowed, such as a network that computes nothing: it can
    be asked for, and there is no cost to find.

    >>> import pandas as pd
    >>> rows = {"op": ["a", "b", "c"], "width": [8, 8, 16], "ms": [1, 2, 3], "accuracy": [7, 9, 9]}
    >>> table = Table.from_pandas(pd.DataFrame(rows), ["op", "width"], ["ms"], ["accuracy"])
    >>> table.columns, table.choices[1], table.complete
    (('ms', 'minus_accuracy'), Choice(name='width', options=('8', '16')), False)
    >>> [cost.exact({"op": "b", "width": "8"}) for cost in table.objectives]
    [2.0, -9.0]

    Attributes:
        name: what files and other tables call it.
        choices: a choice per column of picks. Options are text, in alphabetical order, or by value
            where all are numbers.
        columns: the costs; what is to be maximized, such as ``accuracy``, is the cost
            ``minus_accuracy``, its sign turned here and nowhere else.
        architectures: one per row, each once.
        costs: (k, m), a row per architecture; perhaps NaN where a row is not allowed.
        allowed: (k,), which rows count.
        structure: how the choices are wired, where their names tell.
        gains: which columns were to be maximized, by the user's names.
    """

    name: str
    choices: tuple[Choice, ...]
    columns: tuple[str, ...]
    architectures: tuple[Architecture, ...]
    costs: Float[NDArray[np.float64], "k m"]
    allowed: Bool[NDArray[np.bool_], " k"]
    structure: Structure | None = None
    gains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("costs", "allowed"):
            values = np.array(getattr(self, name))
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    def __repr__(self) -> str:
        rows = f"{len(self.architectures)} of {size(self.choices)} architectures"
        return f"Table({self.name!r}: {', '.join(self.columns)} of {rows})"

    @classmethod
    def read(
        cls,
        path: str | os.PathLike[str],
        choices: Sequence[str],
        minimize: Sequence[str],
        maximize: Sequence[str] = (),
        where: str | None = None,
        name: str | None = None,
        average: str | None = None,
    ) -> Table:
        """Read a .csv or .parquet file; columns that are not named here are left alone.

        Args:
            path: the file.
            choices: the columns of picks: words, numbers, or true and false.
            minimize: the columns of costs.
            maximize: the columns of gains.
            where: a column of true and false, or 1 and 0; only rows where it is true are allowed.
            name: of the table; the file's name without its suffix unless given.
            average: a column; allowed rows that share its value get the mean of their objectives.
                For cells that compute the same function, whose measurements differ by chance.

        Raises:
            ValueError: no such file, one that cannot be read, or columns that do not fit: see
                `from_pandas`.
            TypeError: one name where a sequence of names belongs.
            ModuleNotFoundError: parquet without pyarrow.
        """
        path = Path(path)
        frame = read_frame(path)
        try:
            return cls.from_pandas(
                frame, choices, minimize, maximize, where, name or path.stem, average
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_pandas(
        cls,
        frame: pd.DataFrame,
        choices: Sequence[str],
        minimize: Sequence[str],
        maximize: Sequence[str] = (),
        where: str | None = None,
        name: str = "table",
        average: str | None = None,
    ) -> Table:
        """Take a table from memory; the arguments are those of `read`.

        Spellings that mean the same are one option, whose name is the shortest of them: numbers
        that are equal (8, "8.0", "08"), truth ("True", "true"), and words that differ only in
        blanks or in how their accents are encoded. The same holds for names of columns.

        Raises:
            ValueError: a column that is missing, there twice, named twice, or called ``id``; fewer
                than two objectives; a choice with one option, or without a pick somewhere, or with
                both "True" and "1" (one option or two?); text,
                NaN or infinity as an objective of an allowed row; rows of one architecture that
                disagree; no row that is allowed. Rows are counted from 1, the header not included.
            TypeError: one name where a sequence of names belongs.
        """
        choices = tidy_names("choices", choices)
        minimize, maximize = tidy_names("minimize", minimize), tidy_names("maximize", maximize)
        where, average = (None if name is None else tidy(name) for name in (where, average))
        spelled = [str(column) for column in frame.columns]
        check_names(spelled, choices, minimize, maximize, [where, average])
        frame = frame.set_axis([tidy(column) for column in spelled], axis=1)
        if not len(frame):
            raise ValueError("there are no rows")
        picked = [choice(frame[column], column) for column in choices]
        allowed = np.ones(len(frame), bool) if where is None else truth(frame[where], where)
        if not allowed.any():
            raise ValueError(f"no row is allowed: {where!r} is false in all {len(frame)}")
        named = (*minimize, *maximize)
        values = np.stack([numbers(frame[column], column, allowed) for column in named], axis=1)
        if average is not None:
            average_groups(values, groups(frame[average], average)[1], allowed)
        architectures = [
            Architecture(dict(zip(choices, picks, strict=True)))
            for picks in zip(*(picks for _, picks in picked), strict=True)
        ]
        cells = [frame[column].to_list() for column in choices]
        rows = distinct(architectures, named, values, allowed, cells)
        first = np.array(list(rows.values()))
        costs = values[first]
        costs[:, len(minimize) :] = 0.0 - costs[:, len(minimize) :]  # (0 stays 0, not -0)
        columns = (*minimize, *(MINUS + column for column in maximize))
        decisions = tuple(decision for decision, _ in picked)
        structure = EdgeCell.infer(decisions)
        return cls(
            name, decisions, columns, tuple(rows), costs, allowed[first], structure, tuple(maximize)
        )

    @property
    def objectives(self) -> tuple[Column, ...]:
        """The costs one by one, as samplers want them."""
        return tuple(Column(self, index) for index in range(len(self.columns)))

    @property
    def complete(self) -> bool:
        """Whether every architecture that the choices make has a row."""
        return len(self.architectures) == size(self.choices)

    def row(self, architecture: Mapping[str, str]) -> int:
        """Which row of `costs` is this architecture's.

        Raises:
            ValueError: it has none, or is no architecture of these choices.
        """
        if not isinstance(architecture, Architecture):
            architecture = Architecture(architecture)
        row = self._rows.get(architecture)
        if row is None:
            encode(self.choices, architecture)
            raise ValueError(f"the table has no row for {architecture}")
        return row

    @cached_property
    def _rows(self) -> dict[Architecture, int]:
        return {architecture: row for row, architecture in enumerate(self.architectures)}


@dataclass(frozen=True, eq=False, repr=False)
class Column:
    """One cost of a table, looked up.

    Attributes:
        table: where.
        index: its place among the table's columns.
    """

    table: Table
    index: int

    def __repr__(self) -> str:
        return f"Column({self.column!r} of {self.table.name!r})"

    @property
    def column(self) -> str:
        """Its name."""
        return self.table.columns[self.index]

    @property
    def gain(self) -> str | None:
        """What this is the negative of, where the user maximizes it; None for a cost."""
        name = self.column.removeprefix(MINUS)
        return name if name != self.column and name in self.table.gains else None

    def exact(self, architecture: Mapping[str, str]) -> float:
        """What the table says of one architecture.

        Raises:
            ValueError: it has no row, or one that is not allowed.
        """
        row = self.table.row(architecture)
        if not self.table.allowed[row]:
            raise ValueError(f"the row of {self.table.architectures[row]} is not an allowed one")
        return float(self.table.costs[row, self.index])
