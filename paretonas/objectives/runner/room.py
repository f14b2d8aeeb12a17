"""The files of a runner, written into their folder as a whole, or not at all.

``networks.json`` says what the other files are: ONNX files, their inputs, and the script that times
them on another machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ..._atomic import make_folder

FORMAT = 1
ABOUT, INPUTS, SCRIPT, TIMES = "networks.json", "inputs.npz", "measure.py", "times.json"


class Room:
    """The files of a runner, before they come into its folder.

    Args:
        folder: where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._networks: list[dict[str, Any]] = []
        self._arrays: dict[str, Any] = {}

    def add(
        self, name: str, model: bytes, inputs: Mapping[str, Any], nodes: bool, **told: Any
    ) -> None:
        """Write the file of a network.

        Args:
            name: of the network, and of its file.
            model: an ONNX model.
            inputs: its inputs by name; all networks have the same.
            nodes: whether its nodes are timed as well.
            told: what else the list says of it.
        """
        path = self.folder / f"{name}.onnx"
        path.write_bytes(model)
        self._arrays |= inputs
        self._networks.append({"name": name, **file_of(path), "nodes": nodes, **told})

    def describe(self, **about: Any) -> None:
        """Write the list of the networks, what else there is to tell, their inputs, the script."""
        _write_arrays(self.folder / INPUTS, self._arrays)
        content = {
            "format": FORMAT,
            **about,
            "inputs": file_of(self.folder / INPUTS),
            "networks": self._networks,
        }
        (self.folder / ABOUT).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        script = files(__package__).joinpath(SCRIPT).read_text(encoding="utf-8")
        (self.folder / SCRIPT).write_text(script, encoding="utf-8")


@contextmanager
def as_a_whole(place: Path) -> Iterator[Room]:
    """A room for the files of a runner; they come into their folder at the end, or not at all.

    What a process that was killed has left of a draft is removed then.

    Raises:
        ValueError: the folder is not empty, or cannot be written.
    """
    check_free(place)
    made = [path for path in (place, *place.parents) if not path.exists()]
    try:
        make_folder(place)
        with tempfile.TemporaryDirectory(
            prefix=".draft-", dir=place, ignore_cleanup_errors=True
        ) as draft:
            room = Path(draft)
            yield Room(room)
            check_free(place, room)  # others may have written meanwhile
            _move_all(room, place)
            for left in [path for path in place.iterdir() if _is_draft(path) and path != room]:
                shutil.rmtree(left, ignore_errors=True)
    except OSError as error:
        raise ValueError(f"cannot write {place}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # all is in it
            for path in made:
                path.rmdir()


def _write_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """As `numpy.savez` does, which takes no array that is called ``file``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _move_all(room: Path, place: Path) -> None:
    """Move all files from one folder to another, or none."""
    moved: list[Path] = []
    try:
        # The one that tells of the others comes last: without it the folder is no runner.
        for path in sorted(room.iterdir(), key=lambda path: path.name == ABOUT):
            moved.append(place / path.name)
            os.replace(path, moved[-1])
    except BaseException:
        for path in moved:
            path.unlink(missing_ok=True)
        raise


def check_free(folder: Path, own: Path | None = None) -> None:
    """Refuse a folder that holds something beside what is our own, and drafts."""
    try:
        if not folder.exists():
            return
        others = (path for path in folder.iterdir() if path != own and not _is_draft(path))
        held = next(others, None)
    except OSError as error:
        raise ValueError(f"cannot read {folder}: {error.strerror}") from error
    if held is not None:
        raise ValueError(
            f"{folder} is not empty; a runner needs a new or empty folder, this has {held.name!r}"
        )


def _is_draft(path: Path) -> bool:
    """Whether this is a draft of a runner, such as a killed process leaves behind."""
    named = re.fullmatch(r"\.draft-[a-z0-9_]{8}", path.name) is not None
    return named and path.is_dir() and not path.is_symlink()


def has_front(content: bytes) -> bool:
    """Whether a list of networks is of those of a front, and not of a space; it may be damaged."""
    try:
        about = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return isinstance(about, dict) and "front" in about


def file_of(path: Path) -> dict[str, str]:
    """The name of a file, and what tells whether it is still the same."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def content_of(path: Path) -> bytes:
    """What is in a file.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
