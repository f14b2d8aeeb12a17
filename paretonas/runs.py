"""A run on disk: what was asked, every measurement, the front, and where to go on after a stop."""

from __future__ import annotations

import csv
import json
import os
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from paretonas import _lines, _lock, journal
from paretonas._atomic import is_draft, replacing
from paretonas._json_file import check_format, read_json
from paretonas._spreadsheet import csv_line, plain
from paretonas._tensor_files import (
    is_whole,
    read_checkpoint,
    read_weights,
    write_checkpoint,
    write_weights,
)
from paretonas.constraint import split_unit
from paretonas.front import Front
from paretonas.nn import NetworkSpace
from paretonas.objectives.cost_table import CostTable
from paretonas.objectives.table_latency import TableLatency, kept_table
from paretonas.point import NAME, Cell, Failure, Outcome, Point, Stopped, is_name, number_or_word

__all__ = ["Run"]

ABOUT = "run.json"  # what was asked, in the folder of a run
FORMAT = 1  # of the folders of runs and comparisons, and all files in them


class Run:
    """The folder of a run; make one with `create` or `open`.

    A run may be killed at any moment: ``run.json``, the front, the checkpoints and the weights are
    whole or not there, and of the two files that grow by lines only the last line can be torn,
    which reading forgives. Checkpoints and weights have a checksum; the checkpoint before the last
    one is kept as well. Reading changes nothing, and runs no code from the folder. If the folder is
    removed while a run goes on, writing raises a ValueError, and makes no new folder.

    Attributes:
        folder: where the files are.
        about: the content of ``run.json``: settings, device, seed, versions, started.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.about = dict(about)
        self._begun_here = False
        self._made: tuple[Path, ...] = ()  # folders, the innermost first
        self._resumed: Mapping[str, Any] = {"state": None, "history": 0}  # the checkpoint
        self._ids: set[str] = set()  # of the points in the journal
        self._damaged = 0  # its damaged lines
        self._read = 0  # its bytes when that was so

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], settings: Mapping[str, Any], device: str, seed: int
    ) -> Run:
        """Begin a run in a new or empty folder; of several processes that try, one succeeds.

        Args:
            folder: made, with its parents, if it is not there.
            settings: plain values, by name; kept in ``run.json``.
            device: what the objectives are measured on.
            seed: what the random numbers start from.

        Raises:
            ValueError: the folder is not empty, in use or cannot be written; nothing was written
                then.
        """
        place = Path(folder)
        check_free(place, "a run")
        made = tuple(path for path in (place, *place.parents) if not path.exists())
        about = {
            "format": FORMAT,
            "settings": dict(settings),
            "device": device,
            "seed": seed,
            "versions": {name: version_of(name) for name in ("paretonas", "torch", "numpy")}
            | {"python": platform.python_version()},
            "machine": platform.platform(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(about, indent=1, allow_nan=False) + "\n"
        try:
            with _lock.held(place):
                check_free(place, "a run")  # another process may have begun one meanwhile
                check_inside(place, place / ABOUT)
                with replacing(place / ABOUT) as draft:
                    draft.write_text(text, encoding="utf-8")
        except BaseException:
            _remove_empty(made)
            raise
        run = cls(place, about)
        run._begun_here, run._made = True, made
        return run

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Open a run that `create` began.

        Raises:
            ValueError: this is not the folder of a run.
        """
        return cls(Path(folder), read_about(Path(folder) / ABOUT, "a run", {"settings"}))

    def discard(self) -> None:
        """Undo `create` if nothing came of the run; only what it made itself is removed."""
        ours = {ABOUT, self._history.name}
        if not self._begun_here or not self.folder.is_dir():
            return
        if self._history.exists() and self._history.stat().st_size:
            return
        with suppress(ValueError), _lock.held(self.folder):  # or somebody else has gone on with it
            if is_empty(self.folder, apart_from=ours):
                for name in ours:
                    (self.folder / name).unlink(missing_ok=True)
        _remove_empty(self._made)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was asked to do."""
        settings: Mapping[str, Any] = self.about["settings"]
        return settings

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint, from which `resume` goes on."""
        return any(path.exists() for path in self._checkpoints)

    def tell(self, **facts: Any) -> None:
        """Add plain values, by name, to ``run.json`` and `about`."""
        if all(self.about.get(name) == fact for name, fact in facts.items()):
            return
        self.about |= facts
        text = json.dumps(self.about, indent=1, allow_nan=False) + "\n"
        with self._replacing(self.folder / ABOUT) as draft:
            draft.write_text(text, encoding="utf-8")

    def record(self, outcome: Outcome, seconds: float | None = None) -> None:
        """Append a point or a failure to ``evaluations.jsonl``; it is on disk when this returns.

        Raises:
            ValueError: a value that is not finite.
        """
        line, before = journal.encode(outcome, seconds), self._written
        self._append(self._evaluations, line)
        if self._read == before:
            self._ids |= {outcome.id} if isinstance(outcome, Point) else set()
            self._read = before + len(line)

    def add(self, outcome: Outcome, seconds: float, network: nn.Module | None) -> Outcome:
        """Record an outcome of an evaluation; a point gets its id, and its weights are kept."""
        if isinstance(outcome, Point):
            outcome = replace(outcome, id=self.next_id())
            if network is not None:
                self.save_weights(outcome.id, network.state_dict())
        self.record(outcome, seconds)
        return outcome

    def evaluations(self) -> list[Point]:
        """Every point that was recorded, in order; none if there is no journal yet.

        A damaged line is left out and named in a warning, a torn last one in silence.
        """
        return [outcome for outcome in self.outcomes() if isinstance(outcome, Point)]

    def failures(self) -> list[Failure]:
        """What was set aside, in order: whole architectures, and single picks."""
        return [o for o in self.outcomes() if isinstance(o, Failure) and not isinstance(o, Stopped)]

    def stopped(self) -> list[Stopped]:
        """The architectures whose training was stopped early, in order."""
        return [outcome for outcome in self.outcomes() if isinstance(outcome, Stopped)]

    def outcomes(self) -> list[Outcome]:
        """Everything that was recorded, in order.

        A damaged line is left out and named in a warning, a torn last one in silence; so is all
        that points had when they were measured together, if one of these values cannot be.
        """
        found, damaged = _lines.read(self._evaluations, _outcome)
        _lines.warn_of(self._evaluations, damaged)
        later = self._together_again(
            {o.id: o for o in found if isinstance(o, Point)}, others=bool(damaged)
        )
        return [later.get(o.id, o) if isinstance(o, Point) else o for o in found]

    def keep_values(self, points: Iterable[Point]) -> None:
        """Keep what all points of the run were found to have when they were measured together.

        `evaluations` gives these values from then on. They are in ``together.json``; the journal
        keeps what was measured first.

        Raises:
            ValueError: a value that is not finite.
        """
        first, _ = _lines.read(self._evaluations, _outcome)
        before = {point.id: point for point in first if isinstance(point, Point)}
        changed = {
            point.id: {
                name: value
                for name, value in {**point.objectives, **point.reported}.items()
                if {**before[point.id].objectives, **before[point.id].reported}.get(name) != value
            }
            for point in points
            if point.id in before
        }
        with self._replacing(self._together) as draft:
            draft.write_text(json.dumps(changed, indent=1, allow_nan=False) + "\n")

    def _together_again(self, points: Mapping[str, Point], *, others: bool) -> dict[str, Point]:
        """The points with what `keep_values` has kept, by id; none if the file is damaged.

        Its values are those of one measurement, so one that cannot be sets all of them aside.

        Args:
            points: as they were recorded, by id.
            others: whether there were points that are lost.
        """
        if not self._together.exists():
            return {}
        try:
            held = read_json(self._together)
            if not isinstance(held, dict):
                raise ValueError(f"it must be an object, got {held!r:.80}")
            unknown = held.keys() - points.keys()
            if unknown and not others:
                raise ValueError(f"{min(unknown)!r} is no point of the run")
            return {name: _later(points[name], held[name]) for name in held.keys() - unknown}
        except (OSError, ValueError, TypeError) as error:
            told = str(error).removeprefix(f"{self._together}: ")
            why = " ".join(f"{self._together} is damaged and was left out: {told}".split())
            warnings.warn(why, _lines.DamagedLineWarning, stacklevel=3)
            return {}

    def next_id(self) -> str:
        """An id for the next point, one that no recorded point has, nor one in a damaged line."""
        if self._read != (written := self._written):  # or else nobody else has written
            found, damaged = _lines.read(self._evaluations, _outcome)
            self._ids = {outcome.id for outcome in found if isinstance(outcome, Point)}
            self._damaged, self._read = len(damaged), written
        number = len(self._ids) + self._damaged + 1
        while (name := f"a{number:02d}") in self._ids:
            number += 1
        return name

    def log(self, row: Mapping[str, Cell | None]) -> None:
        """Append a step to ``history.csv``; the first row names the columns.

        Raises:
            ValueError: a later row has a column that the first did not have, or a line break.
        """
        columns = self._columns() or list(row)
        unknown = [name for name in row if name not in columns]
        if unknown:
            raise ValueError(
                f"history.csv has no column {unknown[0]!r}; "
                f"its first row named {', '.join(columns)}"
            )
        lines = b"" if self._columns() else _csv(columns)
        cells = ["" if row.get(name) is None else row[name] for name in columns]
        self._append(self._history, lines + _csv(cells))

    def history(self) -> list[dict[str, Cell]]:
        """The logged steps, in order; a value that was not known has no key.

        A damaged line is left out and named in a warning, a torn last one in silence.
        """
        columns = self._columns()
        steps, damaged = [], []
        lines = _lines.whole_lines(self._history).split(b"\n")[:-1]
        for number, line in enumerate(lines, start=1):
            cells = _cells(line)
            if not columns or len(cells) != len(columns):
                damaged.append(number)
            elif number > 1:
                row = zip(columns, cells, strict=True)
                steps.append({name: number_or_word(plain(cell)) for name, cell in row if cell})
        _lines.warn_of(self._history, damaged)
        return steps

    def write_front(self, front: Front) -> None:
        """Replace ``front.json`` and ``front.csv``."""
        for name in ("front.json", "front.csv"):
            check_there(self.folder)
            front.write(self._file(name))

    def front(self) -> Front:
        """The front that was written last.

        Raises:
            ValueError: none was written yet, or it is no file, or malformed.
        """
        path = self._file("front.json")
        if not path.exists():
            raise ValueError(f"{self.folder} has no front yet: its search did not get that far")
        return Front.read(path)

    def save(self, state: object) -> None:
        """Replace the checkpoint, from which `resume` goes on.

        Args:
            state: tensors and plain values (numbers, strings, lists, tuples, dicts) of them; a file
                of these can be loaded without running code from it.

        Raises:
            ValueError: the state holds something else; the last checkpoint stays.
        """
        # How far the history had come: steps after the checkpoint will be made again.
        history = _lines.whole_lines(self._history)
        content = {"state": state, "history": len(history), "head": _head(history).decode()}
        last, before = self._checkpoints
        with self._replacing(last) as draft:
            write_checkpoint(draft, content)
            if last.exists() and is_whole(last):  # a damaged one must not replace a good one
                os.replace(last, before)

    def saved(self) -> Any:
        """The state of the last checkpoint, or None: begin anew. Nothing is changed.

        If the last checkpoint is damaged, a warning says so, and the one before it counts.

        Raises:
            ValueError: each checkpoint is damaged, or of something else.
        """
        there = [path for path in self._checkpoints if path.exists()]
        damaged: list[ValueError] = []
        self._resumed = {"state": None, "history": 0}
        for path in there:
            try:
                self._resumed = _load(path)
                break
            except ValueError as error:
                damaged.append(error)
        if damaged and len(damaged) == len(there):
            names = " and ".join(path.name for path in there)
            raise ValueError(
                f"{damaged[0]}; without {names} a search begins anew, and what was measured counts"
            ) from damaged[0]
        if damaged:
            said = f"{damaged[0]}; the search goes on from {there[-1].name}, the one before it"
            warnings.warn(said, _lines.DamagedLineWarning, stacklevel=2)
        return self._resumed["state"]

    def rewind(self) -> None:
        """Drop the steps from ``history.csv`` that came after the checkpoint that `saved` gave.

        They will be made again. The journal of measured points is never shortened.
        """
        kept = _lines.whole_lines(self._history)[: self._resumed["history"]]
        head = str(self._resumed.get("head", "")).encode()
        if head and kept:  # the names of the columns, without which no step could be logged
            kept = head + b"\n" + kept[len(head) + 1 :]
        if not self._history.exists() or kept != self._history.read_bytes():
            with self._replacing(self._history) as draft:
                draft.write_bytes(kept)

    def resume(self) -> Any:
        """`saved`, then `rewind`: the state to go on from, or None: begin anew.

        Raises:
            ValueError: each checkpoint is damaged, or of something else.
        """
        state = self.saved()
        self.rewind()
        return state

    def save_weights(self, name: str, state: Mapping[str, Tensor]) -> Path:
        """Write a state dict to ``weights/NAME.safetensors``, NAME being a point's id.

        Raises:
            ValueError: the name is none, or a link leads out of the folder.
        """
        path = self._weights(name)
        with self._replacing(path) as draft:
            write_weights(draft, state)
        return path

    def weights(self, name: str) -> dict[str, Tensor]:
        """Read a state dict back.

        Raises:
            ValueError: there are no weights of this name, they are damaged, or it is none.
        """
        path = self._weights(name)
        if not path.exists():
            found = sorted(file.stem for file in path.parent.glob("*.safetensors"))
            raise ValueError(
                f"{path} does not exist; there are weights of {', '.join(found) or 'none'}"
            )
        return read_weights(path)

    def network(self, space: NetworkSpace, point: Point) -> nn.Module:
        """The trained network of a point of this run, in evaluation mode.

        Raises:
            ValueError: no weights of the point are here, or it is a point of another space.
        """
        network = space.supernet().extract(point.architecture)
        try:
            network.load_state_dict(self.weights(point.id))
        except RuntimeError as error:
            raise ValueError(f"the weights of {point} do not fit its network: {error}") from error
        return network.eval()

    @property
    def _evaluations(self) -> Path:
        return self._file("evaluations.jsonl")

    @property
    def _written(self) -> int:
        """The bytes of the journal."""
        return self._evaluations.stat().st_size if self._evaluations.exists() else 0

    @property
    def _together(self) -> Path:
        return self._file("together.json")

    @property
    def _history(self) -> Path:
        return self._file("history.csv")

    @property
    def _checkpoints(self) -> tuple[Path, Path]:
        """The last one, and the one before it."""
        return self._file("checkpoint.pt"), self._file("checkpoint.previous.pt")

    def _file(self, name: str) -> Path:
        path = self.folder / name
        check_inside(self.folder, path)
        return path

    @contextmanager
    def _replacing(self, path: Path) -> Iterator[Path]:
        check_there(self.folder)
        with replacing(path) as draft:
            yield draft

    def _append(self, path: Path, line: bytes) -> None:
        check_there(self.folder)
        _lines.append(path, line)

    def _columns(self) -> list[str]:
        """The names in the first line of the history."""
        return [plain(cell) for cell in _cells(_head(_lines.whole_lines(self._history)))]

    def _weights(self, name: str) -> Path:
        if not is_name(name):
            raise ValueError(f"weights have the name of a point, {NAME}; got {name!r}")
        return self._file(f"weights/{name}.safetensors")


def is_empty(folder: Path, apart_from: Iterable[str] = ()) -> bool:
    """Whether a folder holds nothing; what a killed process has left does not count."""
    known = {_lock.NAME, *apart_from}
    return all(path.name in known or is_draft(path) for path in folder.iterdir())


def free_folder(name: str) -> Path:
    """The first of ``NAME-1``, ``NAME-2``, ... that does not exist in the current folder."""
    number = 1
    while (folder := Path(f"{name}-{number}")).exists():
        number += 1
    return folder


def check_inside(folder: Path, path: Path) -> None:
    """See that a file of a folder lies there, also if it is to be written; it may be missing.

    Raises:
        ValueError: a link leads elsewhere, or what is there is no file.
    """
    real, home = (Path(os.path.realpath(place)) for place in (path, folder))
    if not real.is_relative_to(home):
        raise ValueError(f"{path} is behind a link that leads out of {folder}")
    if real.exists() and not real.is_file():  # a pipe or a device may never end
        raise ValueError(f"cannot read {path}: it is {'a folder' if real.is_dir() else 'no file'}")


def check_there(folder: Path) -> None:
    """See that the folder of something at work still exists; nobody makes it again.

    Raises:
        ValueError: it is gone.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is gone: it was removed or renamed while it was in use")


def keep_tables(folder: Path, objectives: Iterable[object]) -> None:
    """Keep the latency tables of other devices in a folder, which then goes on without their files.

    Args:
        folder: of a run or a comparison.
        objectives: any; of them each `TableLatency` has a table.

    Raises:
        ValueError: the folder keeps another table of the same device, or a link leads out of it.
    """
    tables = {
        kept_table(one.name, folder): one.table
        for one in objectives
        if isinstance(one, TableLatency)
    }
    missing = {path: table for path, table in tables.items() if not path.exists()}
    for path in tables.keys() - missing.keys():
        if not tables[path].same(CostTable.read(path, tables[path].choices)):
            raise ValueError(
                f"{folder} was begun with another table of {path.stem}, which is kept in {path}: "
                "begin with this one in a new folder"
            )
    for path, table in missing.items():
        check_inside(folder, path)
        check_there(folder)
        table.write(path)


def read_about(path: Path, what: str, needed: set[str]) -> dict[str, Any]:
    """Read the JSON file that says what a folder is the folder of.

    Args:
        path: of the file.
        what: such as "a run".
        needed: names that it must have.

    Raises:
        ValueError: the file is not there, not whole, or lacks one of the names; or a newer version
            has written it.
    """
    check_inside(path.parent, path)
    try:
        about = read_json(path)
    except OSError as error:
        raise ValueError(
            f"{path.parent} is not the folder of {what}: no {path.name} ({error.strerror})"
        ) from error
    if not isinstance(about, dict) or not needed <= {*about}:
        raise ValueError(f"{path} does not describe {what}: it has no settings")
    for name in needed & {"settings", "asked"}:
        if not isinstance(about[name], dict):
            raise ValueError(f"{path} does not describe {what}: {name} is {about[name]!r:.80}")
    check_format(path, about, FORMAT)
    return about


def check_free(folder: Path, what: str) -> None:
    """Refuse a folder in which nothing can begin, before anything is made.

    Args:
        folder: a folder that is empty, or not there.
        what: begins in it, such as "a run".

    Raises:
        ValueError: it is a file, is not empty, or cannot be read or written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; {what} needs a new or empty folder")
    try:
        if folder.is_dir() and not is_empty(folder):
            raise ValueError(f"{folder} is not empty; {what} needs a new or empty folder")
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}") from error
    check_writable(folder)


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written, or made if it is not there.

    Raises:
        ValueError: it is not permitted.
    """
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: no permission to write in {nearest}")


def version_of(package: str) -> str:
    """The version that is installed; a source tree also works without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # something is in it
            folder.rmdir()


def _outcome(entry: Mapping[str, Any]) -> Outcome:
    return journal.decode(entry)[0]


def _later(point: Point, found: object) -> Point:
    """A point with what it had when it was measured again.

    Raises:
        ValueError: this is no such measurement.
    """
    if not isinstance(found, dict):
        raise ValueError(f"the values of {point.id} must be an object, got {found!r:.80}")
    before = {**point.objectives, **point.reported}
    stems = tuple(f"{split_unit(column)[0]}_" for column in point.objectives)
    for column, value in found.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if column not in before and not column.startswith(stems):
            raise ValueError(f"{point.id} has no {column!r}")
        if not number and not isinstance(value, str):
            raise ValueError(
                f"{column} of {point.id} must be a number or a word, got {value!r:.80}"
            )
        if column in before and number == isinstance(before[column], str):
            raise ValueError(f"{column} of {point.id} was {before[column]!r}, got {value!r:.80}")
        if number and value < 0 and split_unit(column)[1] is not None:
            raise ValueError(f"{column} of {point.id} is never negative, got {value}")
    later = point.with_values(found)
    later.check_objectives(point.objectives)
    return later


def _csv(cells: Iterable[object]) -> bytes:
    text = csv_line(cells)
    if "\n" in text[:-1] or "\r" in text:
        raise ValueError(f"a step is one line of history.csv, got a line break in {text!r}")
    return text.encode()


def _cells(line: bytes) -> list[str]:
    """The cells of a line; none if it is damaged."""
    try:
        return next(csv.reader([line.decode()], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _head(lines: bytes) -> bytes:
    return lines.partition(b"\n")[0]


def _load(checkpoint: Path) -> dict[str, Any]:
    content = read_checkpoint(checkpoint)
    told: dict[str, Any] = content if isinstance(content, dict) else {}
    if "state" not in told or type(told.get("history")) is not int:
        raise ValueError(f"{checkpoint} is no checkpoint of a run")
    return told
