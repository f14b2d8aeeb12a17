"""Files that are either whole or not there."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Hand out a path to write to; what was written there becomes ``path`` when the block ends.

    If the block raises, ``path`` is as it was. A reader never sees half a file. Folders on the way
    to ``path`` are made.

    Raises:
        ValueError: nothing can be written at ``path``.
    """
    target = Path(path)
    if target.is_dir():
        raise ValueError(f"cannot write {target}: it is a folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A folder rather than a file: the name stays (some writers look at its suffix), and the
        # file gets the permissions that the user's umask says.
        room = tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent)
    except OSError as error:
        raise ValueError(f"cannot write {target}: {error.strerror}") from error
    try:
        draft = Path(room) / target.name
        yield draft
        os.replace(draft, target)
    finally:
        shutil.rmtree(room, ignore_errors=True)
