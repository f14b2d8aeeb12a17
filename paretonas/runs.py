"""A run on disk: what was asked, every measurement, the front, and where to go on after a stop."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from paretonas._atomic import replacing
from paretonas.front import Front
from paretonas.point import Cell, Failure, Point, number_or_word
from paretonas.space import Architecture

ABOUT = "run.json"  # what was asked, in the folder of a run


class Run:
    """The folder of a run; make one with `create` or `open`.

    A run may be killed at any moment: ``run.json``, the front, the checkpoint and the weights are
    whole or not there, and of the two files that grow by lines only the last line can be torn,
    which reading forgives.

    Attributes:
        folder: where the files are.
        about: the content of ``run.json``: settings, device, seed, versions, started.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.about = dict(about)

    @classmethod
    def create(
        cls, folder: str | os.PathLike[str], settings: Mapping[str, Any], device: str, seed: int
    ) -> Run:
        """Begin a run in a new or empty folder.

        Args:
            folder: made, with its parents, if it is not there.
            settings: plain values, by name; kept in ``run.json``.
            device: what the objectives are measured on.
            seed: what the random numbers start from.

        Raises:
            ValueError: the folder is not empty or cannot be written; nothing was written then.
        """
        place = Path(folder)
        _check_free(place)
        about = {
            "settings": dict(settings),
            "device": device,
            "seed": seed,
            "versions": {name: version_of(name) for name in ("paretonas", "torch", "numpy")}
            | {"python": platform.python_version()},
            "machine": platform.platform(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps(about, indent=1, allow_nan=False) + "\n"
        with replacing(place / ABOUT) as draft:
            draft.write_text(text, encoding="utf-8")
        return cls(place, about)

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> Run:
        """Open a run that `create` began.

        Raises:
            ValueError: this is not the folder of a run.
        """
        return cls(Path(folder), read_about(Path(folder) / ABOUT, "a run", {"settings"}))

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the run was asked to do."""
        settings: Mapping[str, Any] = self.about["settings"]
        return settings

    def record(self, point: Point | Failure) -> None:
        """Append a point or a failure to ``evaluations.jsonl``; it is on disk when this returns.

        Raises:
            ValueError: a value that is not finite.
        """
        if isinstance(point, Failure):
            failed = {"architecture": dict(point.architecture), "failure": point.reason}
            _append(self._evaluations, json.dumps(failed) + "\n")
            return
        entry = {
            "id": point.id,
            "architecture": dict(point.architecture),
            "objectives": dict(point.objectives),
            "reported": dict(point.reported),
        }
        try:
            line = json.dumps(entry, allow_nan=False)
        except ValueError as error:
            raise ValueError(f"{point} has a value that is not finite: {entry}") from error
        _append(self._evaluations, line + "\n")

    def evaluations(self) -> list[Point]:
        """Every point that was recorded, in order; none if there is no journal yet.

        Raises:
            ValueError: a malformed line other than a torn last one.
        """
        return [outcome for outcome in self.outcomes() if isinstance(outcome, Point)]

    def failures(self) -> list[Failure]:
        """What was set aside, in order: whole architectures, and single picks.

        Raises:
            ValueError: a malformed line other than a torn last one.
        """
        return [outcome for outcome in self.outcomes() if isinstance(outcome, Failure)]

    def outcomes(self) -> list[Point | Failure]:
        """Everything that was recorded, in order.

        Raises:
            ValueError: a malformed line other than a torn last one.
        """
        found: list[Point | Failure] = []
        for number, line in enumerate(_whole(self._evaluations).splitlines(), start=1):
            try:
                entry = json.loads(line)
                if "failure" in entry:
                    found.append(Failure(Architecture(entry["architecture"]), entry["failure"]))
                    continue
                found.append(
                    Point(
                        Architecture(entry["architecture"]),
                        entry["objectives"],
                        entry["reported"],
                        entry["id"],
                    )
                )
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{self._evaluations}, line {number}: not a measured point: {line[:80]!r}"
                ) from error
        return found

    def log(self, row: Mapping[str, Cell | None]) -> None:
        """Append a step to ``history.csv``; the first row names the columns.

        Raises:
            ValueError: a later row has a column that the first did not have.
        """
        before = _whole(self._history)
        columns = next(csv.reader([before.partition("\n")[0]]), []) if before else list(row)
        unknown = [name for name in row if name not in columns]
        if unknown:
            raise ValueError(
                f"history.csv has no column {unknown[0]!r}; "
                f"its first row named {', '.join(columns)}"
            )
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        if not before:
            writer.writerow(columns)
        writer.writerow(["" if row.get(name) is None else row[name] for name in columns])
        _append(self._history, lines.getvalue())

    def history(self) -> list[dict[str, Cell]]:
        """The logged steps, in order; a value that was not known has no key."""
        rows = csv.DictReader(io.StringIO(_whole(self._history)))
        return [{name: number_or_word(cell) for name, cell in row.items() if cell} for row in rows]

    def write_front(self, front: Front) -> None:
        """Replace ``front.json`` and ``front.csv``."""
        front.write(self.folder / "front.json")
        front.write(self.folder / "front.csv")

    def front(self) -> Front:
        """The front that was written last.

        Raises:
            ValueError: none was written yet, or the file is malformed.
        """
        path = self.folder / "front.json"
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
        content = {"state": state, "history": len(_whole(self._history).encode())}
        with replacing(self._checkpoint) as draft:
            torch.save(content, draft)
            try:
                torch.load(draft, weights_only=True, map_location="cpu")
            except pickle.UnpicklingError as error:
                raise ValueError(
                    f"a checkpoint holds tensors and plain values only: {error}"
                ) from error

    def resume(self) -> Any:
        """The state of the last checkpoint, or None: begin anew.

        Steps that were logged after the checkpoint are dropped from ``history.csv``, since they
        will be made again. The journal of measured points is never shortened.
        """
        content = {"state": None, "history": 0}
        if self._checkpoint.exists():
            content = torch.load(self._checkpoint, weights_only=True, map_location="cpu")
        kept = _whole(self._history).encode()[: content["history"]]
        with replacing(self._history) as draft:
            draft.write_bytes(kept)
        return content["state"]

    def save_weights(self, name: str, state: Mapping[str, Tensor]) -> Path:
        """Write a state dict to ``weights/NAME.safetensors``, NAME being a point's id."""
        path = self._weights(name)
        # Cloned, since the format refuses tensors that share memory.
        tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
        with replacing(path) as draft:
            safetensors.torch.save_file(tensors, draft)
        return path

    def weights(self, name: str) -> dict[str, Tensor]:
        """Read a state dict back.

        Raises:
            ValueError: there are no weights of this name.
        """
        path = self._weights(name)
        if not path.exists():
            found = sorted(file.stem for file in path.parent.glob("*.safetensors"))
            raise ValueError(
                f"{path} does not exist; there are weights of {', '.join(found) or 'none'}"
            )
        tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
        return tensors

    @property
    def _evaluations(self) -> Path:
        return self.folder / "evaluations.jsonl"

    @property
    def _history(self) -> Path:
        return self.folder / "history.csv"

    @property
    def _checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    def _weights(self, name: str) -> Path:
        return self.folder / "weights" / f"{name}.safetensors"


def read_about(path: Path, what: str, needed: set[str]) -> dict[str, Any]:
    """Read the JSON file that says what a folder is the folder of.

    Args:
        path: of the file.
        what: such as "a run".
        needed: names that it must have.

    Raises:
        ValueError: the file is not there, not whole, or lacks one of the names.
    """
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path.parent} is not the folder of {what}: no {path.name} ({error.strerror})"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} is not a whole JSON file: {error}") from error
    if not isinstance(about, dict) or not needed <= {*about}:
        raise ValueError(f"{path} does not describe {what}: it has no settings")
    return about


def _check_free(folder: Path) -> None:
    """Refuse a folder that a run cannot begin in, before anything is made."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; a run needs a new or empty folder")
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise ValueError(f"{folder} is not empty; a run needs a new or empty folder")
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}") from error
    nearest = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{folder} cannot be written: no permission to write in {nearest}")


def version_of(package: str) -> str:
    """The version that is installed; a source tree also works without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _whole(path: Path) -> str:
    """The lines of a growing file without a torn last one; empty if there is no file."""
    if not path.exists():
        return ""
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1].decode()


def _append(path: Path, lines: str) -> None:
    """Append whole lines, first cutting off one that a killed process left torn."""
    path.touch()
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_CUR)
            if file.read(1) != b"\n":
                file.truncate(len(_whole(path).encode()))
        file.seek(0, os.SEEK_END)
        file.write(lines.encode())
