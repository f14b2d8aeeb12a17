"""A table of architectures with known objectives: a search space with exact objectives."""

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
from paretonas.direction import turned
from paretonas.space import Architecture, Choice, encode, size

from .cells import choice, groups, numbers, truth
from .file import read_frame
from .rows import average_groups, check_names, distinct, tidy_names
from .spelling import tidy

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Architectures and their objectives, read from any CSV or parquet file; a search space.

    A row is an architecture: there is a column per choice with its picks, and a column per
    objective with its values. A row may exist and not be allowed, such as a network that computes
    nothing. A method may evaluate it, but the evaluation fails.

    >>> import pandas as pd
    >>> rows = {"op": ["a", "b", "c"], "width": [8, 8, 16], "ms": [1, 2, 3], "accuracy": [7, 9, 9]}
    >>> table = Table.from_pandas(pd.DataFrame(rows), ["op", "width"], ["ms"], ["accuracy"])
    >>> table.columns, table.choices[1], table.complete
    (('ms', 'accuracy'), Choice(name='width', options=('8', '16')), False)
    >>> table.maximize, [cost.exact({"op": "b", "width": "8"}) for cost in table.objectives]
    (('accuracy',), [2.0, -9.0])

    Attributes:
        name: the name of the table in files and other tables.
        choices: a choice per column of picks. Options are text, in alphabetical order, or in
            numerical order if all are numbers.
        columns: the names of the objectives.
        architectures: one per row, each once.
        costs: (k, m), a row per architecture: the values of objectives that are minimized, and the
            negated values of those that are maximized; may be NaN if a row is not allowed.
        allowed: (k,), which rows are allowed.
        structure: the wiring of the choices, if their names show it.
        maximize: the names of the objectives of which larger values are better.
    """

    name: str
    choices: tuple[Choice, ...]
    columns: tuple[str, ...]
    architectures: tuple[Architecture, ...]
    costs: Float[NDArray[np.float64], "k m"]
    allowed: Bool[NDArray[np.bool_], " k"]
    structure: Structure | None = None
    maximize: tuple[str, ...] = ()

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
        """Read a .csv or .parquet file; columns that are not named here are ignored.

        Args:
            path: the file.
            choices: the columns of picks: words, numbers, or true and false.
            minimize: the objectives of which smaller values are better.
            maximize: the objectives of which larger values are better.
            where: a column of true and false, or 1 and 0; only rows where it is true are allowed.
            name: the name of the table; by default the name of the file without its suffix.
            average: a column; allowed rows with the same value in it get the mean of their
                objectives. Use it for cells that compute the same function, whose measurements
                differ by chance.

        Raises:
            ValueError: there is no such file, it cannot be read, or its columns do not fit: see
                `from_pandas`.
            TypeError: an argument is one name instead of a sequence of names.
            ModuleNotFoundError: the file is parquet and pyarrow is missing.
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
        """Make a table from a data frame; the arguments are those of `read`.

        Different spellings with the same meaning are one option, named by the shortest spelling:
        equal numbers (8, "8.0", "08"), true and false ("True", "true"), and words that differ only
        in blanks or in the encoding of accents. The same holds for names of columns.

        Raises:
            ValueError: a column is missing, occurs twice, is named twice, or is called ``id``;
                there are fewer than two objectives; a choice has one option, or a row without a
                pick, or both "True" and "1" (one option or two?); an objective of an allowed row is
                text, NaN or infinite; rows of one architecture disagree; no row is allowed. Rows
                are counted from 1, without the header.
            TypeError: an argument is one name instead of a sequence of names.
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
        costs[:, len(minimize) :] = turned(costs[:, len(minimize) :], True)
        decisions = tuple(decision for decision, _ in picked)
        structure = EdgeCell.infer(decisions)
        return cls(
            name, decisions, named, tuple(rows), costs, allowed[first], structure, tuple(maximize)
        )

    @property
    def objectives(self) -> tuple[Column, ...]:
        """The objectives of the table, one per name in `columns`."""
        return tuple(Column(self, index) for index in range(len(self.columns)))

    @property
    def complete(self) -> bool:
        """Whether every combination of options has a row."""
        return len(self.architectures) == size(self.choices)

    def row(self, architecture: Mapping[str, str]) -> int:
        """The index of this architecture's row in `costs`.

        Raises:
            ValueError: there is no such row, or it is not an architecture of these choices.
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
    """One objective of a table; its cost is looked up.

    Attributes:
        table: the table.
        index: the index of its column among the table's `columns`.
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
    def maximize(self) -> bool:
        """Whether larger values are better."""
        return self.column in self.table.maximize

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture in the table.

        Raises:
            ValueError: the architecture has no row, or its row is not allowed.
        """
        row = self.table.row(architecture)
        if not self.table.allowed[row]:
            raise ValueError(f"the row of {self.table.architectures[row]} is not allowed")
        return float(self.table.costs[row, self.index])
