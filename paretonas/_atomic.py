"""Atomic writes: a file is complete, or it does not change."""

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
    """Give the block a draft path to write to; the draft replaces ``path`` when the block ends.

    If the block raises, ``path`` does not change. A reader never sees half a file. After the block
    the file is on disk under its name. Missing folders above ``path`` are made. A link at ``path``
    is replaced; its target does not change.

    Raises:
        ValueError: ``path`` cannot be written.
        OSError: as on a full disk; the error names the file.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder")
    try:
        make_folder(target.parent)
        # A folder, not a file: the draft keeps the name (some writers check its suffix), and gets
        # the permissions of the user's umask.
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
    """Whether this is the draft folder that a killed process left behind."""
    name = re.fullmatch(r"\.(.+)-[a-z0-9_]{8}", path.name)
    if name is None or path.is_symlink() or not path.is_dir():
        return False
    return all(file.name == name[1] and file.is_file() for file in path.iterdir())


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents; afterwards their names are on disk."""
    for path in [path for path in (folder, *folder.parents) if not path.exists()][::-1]:
        path.mkdir(exist_ok=True)  # one by one: what is removed meanwhile is not made again
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Write the names of the files in a folder to disk; Windows does this itself."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:  # the folder can be written but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems cannot do this
            raise
    finally:
        os.close(descriptor)
