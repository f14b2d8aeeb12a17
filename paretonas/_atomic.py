"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hand out a path to write to; what was written there becomes ``path`` when the block ends.

    If the block raises, ``path`` is as it was. A reader never sees half a file, and when the block
    has ended the file is on disk, under its name. Folders on the way to ``path`` are made. A link
    at ``path`` is replaced; what it leads to is not touched.

    Raises:
        ValueError: nothing can be written at ``path``.
        OSError: as on a full disk; the error names the file.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder")
    try:
        make_folder(target.parent)
        # A folder rather than a file: the name stays (some writers look at its suffix), and the
        # file gets the permissions that the user's umask says.
        room = tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}") from error
    try:
        draft = Path(room) / target.name
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        os.replace(draft, target)
        sync_folder(target.parent)
    except OSError as error:
        if error.filename is None and error.errno is not None:  # as on a full disk
            raise OSError(error.errno, error.strerror, str(target)) from error
        raise
    finally:
        shutil.rmtree(room, ignore_errors=True)


def is_draft(path: Path) -> bool:
    """Whether this is the room of a file that a killed process was about to write."""
    name = re.fullmatch(r"\.(.+)-[a-z0-9_]{8}", path.name)
    if name is None or path.is_symlink() or not path.is_dir():
        return False
    return all(file.name == name[1] and file.is_file() for file in path.iterdir())


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, unless they are there; their names are on disk then."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Put the names of the files in a folder on disk; Windows does so itself."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # a folder that may be written in and not be read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every file system can
            raise
    finally:
        os.close(descriptor)
