"""The rows of a front in a file: JSON, CSV or parquet, by the file's suffix."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretonas._atomic import replacing
from paretonas._json_file import check_format, read_json
from paretonas._spreadsheet import csv_line, plain
from paretonas.point import Cell, number_or_word

FORMAT = 1  # of JSON and parquet files; a CSV file has no place for it
USUAL_OBJECTIVES = ("error_percent", "latency_ms", "memory_kib")  # of `paretonas search`


@dataclass(frozen=True)
class FrontTable:
    """One row per point, and the names of the columns that are choices or objectives.

    Of the objectives in ``maximize`` larger values are better.

    A row holds ``"id"``, a pick for each choice, a number for each objective, and the reported
    values. A value that is not known has no key.
    """

    choices: tuple[str, ...]
    objectives: tuple[str, ...]
    rows: tuple[Mapping[str, Cell], ...]
    maximize: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The id, the choices, the objectives, then the reported names in order of appearance."""
        seen = dict.fromkeys(name for row in self.rows for name in row)
        return tuple(dict.fromkeys(("id", *self.choices, *self.objectives, *seen)))


def write_table(path: Path, table: FrontTable) -> None:
    """Write atomically, in the format of the suffix.

    Raises:
        ValueError: the suffix is another one, or parquet cannot store a column.
        ModuleNotFoundError: parquet is asked for and pyarrow is missing.
    """
    formats = {".json": _write_json, ".csv": _write_csv, ".parquet": _write_parquet}
    _check_suffix(path)
    with replacing(path) as draft:
        formats[path.suffix](draft, table)


def read_table(
    path: Path,
    objectives: Sequence[str] | None = None,
    choices: Sequence[str] | None = None,
    maximize: Sequence[str] | None = None,
) -> FrontTable:
    """Read a file of `write_table`, or any such file whose columns are named here.

    Raises:
        ValueError: the suffix is another one, the file is malformed, or it does not say which
            columns are objectives.
        FileNotFoundError: there is no such file.
    """
    formats = {".json": _read_json, ".csv": _read_csv, ".parquet": _read_parquet}
    _check_suffix(path)
    if path.exists() and not path.is_file():  # a device or a pipe may never end
        raise ValueError(f"cannot read {path}: it is {'a folder' if path.is_dir() else 'no file'}")
    raw = formats[path.suffix](path)
    objectives = objectives or raw.objectives or _usual_objectives(path, raw.columns)
    _check_columns(path, raw.columns, objectives)
    if choices is None:
        # The file does not name its choices: they are the columns from the id to the objectives.
        before = raw.columns[: min(raw.columns.index(name) for name in objectives)]
        choices = raw.choices or [name for name in before if name != "id"]
    _check_columns(path, raw.columns, choices)
    if maximize is None:
        maximize = [name for name in objectives if name in raw.maximize]
    words = {"id", *choices}  # picks are words, even if they read as numbers
    rows = []
    for cells in raw.rows:
        row = {}
        for name, cell in cells.items():
            if name in words or not raw.untyped:
                row[name] = cell
            elif cell != "":
                row[name] = number_or_word(cell)
        rows.append(row)
    return FrontTable(tuple(choices), tuple(objectives), tuple(rows), tuple(maximize))


@dataclass(frozen=True)
class _Raw:
    """The content of a file; ``choices`` and ``objectives`` are None if it does not name them."""

    columns: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    choices: Sequence[str] | None = None
    objectives: Sequence[str] | None = None
    maximize: Sequence[str] = field(default_factory=list)
    untyped: bool = False


def _write_json(path: Path, table: FrontTable) -> None:
    content = _roles(table) | {
        "points": [
            {name: row[name] for name in table.columns if name in row} for row in table.rows
        ],
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> _Raw:
    content = read_json(path)
    match content:
        case {"objectives": [*objectives], "choices": [*choices], "points": [*rows]} if all(
            isinstance(row, dict) for row in rows
        ):
            check_format(path, content, FORMAT)
            _check_roles(path, content)
            names = dict.fromkeys(name for row in rows for name in row)
            columns = list(dict.fromkeys(("id", *choices, *objectives, *names)))
            return _Raw(columns, rows, choices, objectives, content.get("maximize", []))
    raise ValueError(f"{path} is not a front: it needs lists of objectives, choices and points")


def _write_csv(path: Path, table: FrontTable) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(csv_line(table.columns))
        for row in table.rows:
            file.write(csv_line(row.get(name, "") for name in table.columns))


def _read_csv(path: Path) -> _Raw:
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            columns = [plain(name) for name in next(lines, [])]
            for cells in lines:
                if len(cells) != len(columns):
                    raise ValueError(
                        f"{path}, line {lines.line_num}: {len(columns)} columns, "
                        f"got {len(cells)} cells"
                    )
                rows.append(dict(zip(columns, map(plain, cells), strict=True)))
    except (UnicodeError, csv.Error) as error:
        raise ValueError(f"{path} is not a whole CSV file: {error}") from error
    if len(set(columns)) != len(columns):
        raise ValueError(f"{path} has two columns of one name: {', '.join(columns)}")
    return _Raw(columns, rows, untyped=True)


def _write_parquet(path: Path, table: FrontTable) -> None:
    arrow = _pyarrow()
    arrays = []
    for name in table.columns:
        cells = [row.get(name) for row in table.rows]
        if len({isinstance(cell, str) for cell in cells if cell is not None}) > 1:
            raise ValueError(f"parquet holds words or numbers in {name!r}, not both; write .json")
        arrays.append(arrow.array(cells))
    roles = json.dumps(_roles(table))
    content = arrow.table(arrays, names=list(table.columns))
    arrow.parquet.write_table(content.replace_schema_metadata({"paretonas": roles}), path)


def _read_parquet(path: Path) -> _Raw:
    arrow = _pyarrow()
    try:
        # From memory: a file that is read may be replaced meanwhile, and mapped pages would change.
        content = arrow.parquet.read_table(arrow.BufferReader(path.read_bytes()))
        roles = json.loads((content.schema.metadata or {}).get(b"paretonas", b"{}"))
        if not isinstance(roles, dict):
            raise ValueError("its roles are no mapping")
        rows = [
            {name: cell for name, cell in row.items() if cell is not None}
            for row in content.to_pylist()
        ]
    except FileNotFoundError:
        raise
    except (arrow.ArrowException, OSError, ValueError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{path} is not a whole parquet file: {why}") from error
    check_format(path, roles, FORMAT)
    _check_roles(path, roles)
    return _Raw(
        content.column_names,
        rows,
        roles.get("choices"),
        roles.get("objectives"),
        roles.get("maximize", []),
    )


def _roles(table: FrontTable) -> dict[str, Any]:
    """What the columns are; a file without maximized objectives is as older versions wrote it."""
    maximize = {"maximize": table.maximize} if table.maximize else {}
    return {
        "format": FORMAT,
        "objectives": table.objectives,
        **maximize,
        "choices": table.choices,
    }


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "parquet needs pyarrow: pip install 'paretonas[parquet]'", name="pyarrow"
        ) from error
    return pyarrow


def _check_suffix(path: Path) -> None:
    if path.suffix not in (".json", ".csv", ".parquet"):
        raise ValueError(f"a front is kept as .json, .csv or .parquet, got {path.name!r}")


def _check_roles(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse a file that does not tell names as the roles of its columns."""
    for role in ("choices", "objectives", "maximize"):
        names = content.get(role, [])
        fine = isinstance(names, list) and all(isinstance(name, str) for name in names)
        if not fine or len(set(names)) < len(names):
            raise ValueError(f"{path}: {role} must be a list of names, each once: {names!r:.200}")


def _usual_objectives(path: Path, columns: Sequence[str]) -> Sequence[str]:
    usual = [name for name in USUAL_OBJECTIVES if name in columns]
    if not usual:
        raise ValueError(
            f"{path} does not say which columns are objectives; name them, "
            f"Front.read(path, objectives=[...]), from {', '.join(columns)}"
        )
    return usual


def _check_columns(path: Path, columns: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in columns]
    if missing:
        raise ValueError(f"{path} has no column {missing[0]!r}; it has {', '.join(columns)}")
