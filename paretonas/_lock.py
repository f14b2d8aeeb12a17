"""A lock that lets one process at a time work in a folder; it ends with that process."""

from __future__ import annotations

import errno
import json
import os
import shlex
import socket
import stat
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from paretonas._atomic import make_folder

NAME = ".paretonas.lock"  # a file in the folder; it names the process that holds the lock


class NoLockWarning(UserWarning):
    """The file system has no locks."""


_open: set[int] = set()  # the lock files of this process


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder; the folder is made if it does not exist.

    The system releases the lock when the process ends in any way, so no stale lock is left. Reading
    the folder needs no lock.

    Raises:
        ValueError: another process works there, or another search of this process does; or the
            folder cannot be written.
    """
    path = folder / NAME
    try:
        make_folder(folder)
        file = _take(path)
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror}") from error
    if file is None:
        raise ValueError(f"{folder} is in use by {_holder(path)}; wait until that has ended")
    try:
        yield
    finally:
        if file in _open:  # a forked child has closed its copy: its parent keeps the lock
            with suppress(OSError):  # Windows does not delete a file that is open elsewhere
                if _is_at(path, file):  # else it was deleted, and the file belongs to another
                    path.unlink()
            _open.remove(file)
            os.close(file)


def _take(path: Path) -> int | None:
    """The open lock file, locked; None if another process holds it.

    Raises:
        OSError: it cannot be opened or written.
    """
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise OSError(errno.EINVAL, f"{path.name} is no plain file")
            if not _lock(file):
                os.close(file)
                return None
            if _is_at(path, file):
                about = {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.now(UTC).isoformat(timespec="seconds"),
                    "command": shlex.join(sys.argv),
                }
                os.ftruncate(file, 0)
                os.write(file, json.dumps(about).encode() + b"\n")
                _open.add(file)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its holder has just removed it: try again with a new file


def _is_at(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except FileNotFoundError:
        return False


def _holder(path: Path) -> str:
    """The process that holds a lock, as its file describes it."""
    try:
        about = json.loads(path.read_bytes())
        words = " ".join(str(about["command"]).split())
        shown = words if len(words) <= 200 else f"{words[:197]}..."
        whose = "this process" if _is_this_process(about) else f"process {about['pid']}"
        return f"{whose} on {about['host']} since {about['since']}: {shown}"
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        # The file is being written or removed.
        return "another process"


def _is_this_process(about: dict[str, object]) -> bool:
    return about["pid"] == os.getpid() and about["host"] == socket.gethostname()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> bool:
        # Lock a byte far behind the text: on Windows no other process can read a locked byte.
        os.lseek(file, 1 << 30, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        os.lseek(file, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(file: int) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS):
                raise
            warnings.warn(
                f"this file system has no locks ({error.strerror}): let no other process work in "
                "the same folder",
                NoLockWarning,
                stacklevel=2,
            )
        return True

    def _forget() -> None:
        for file in _open:
            os.close(file)
        _open.clear()

    # A forked child shares the lock, and would keep it after its parent is killed.
    os.register_at_fork(after_in_child=_forget)
