"""Files that grow by lines: a line that was written stays, and a damaged one costs itself alone."""

from __future__ import annotations

import json
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from paretonas._atomic import sync_folder

Parsed = TypeVar("Parsed")

_CHECKSUM = re.compile(rb', "(.{5})": "([0-9a-f]{8})"\}', re.DOTALL)  # its name may be damaged
# The byte after a checksum is a newline, or was one before it was damaged.
_LOST_NEWLINE = re.compile(rb'(?<="crc32": "[0-9a-f]{8}"\}).', re.DOTALL)


class DamagedLineWarning(UserWarning):
    """A line of a file could not be read and was left out."""


def encode(entry: Mapping[str, Any]) -> bytes:
    r"""A line of JSON whose last key, ``crc32``, is the checksum of what stands before it.

    >>> encode({"id": "a01"})
    b'{"id": "a01", "crc32": "90d3d61e"}\n'

    Raises:
        ValueError: an entry that is empty, or a value that is not finite.
    """
    if not entry:
        raise ValueError("an entry needs a key, got none")
    text = json.dumps(entry, allow_nan=False).encode()
    return b'%b, "crc32": "%08x"}\n' % (text[:-1], zlib.crc32(text))


def append(path: Path, line: bytes) -> None:
    """Append a whole line; it is on disk when this returns, and nothing of it if this raises.

    What a killed process left of a torn last line is cut off. No other byte changes.

    Raises:
        ValueError: the path is a folder, or a link; what it leads to is not touched.
        OSError: it cannot be written, as on a full disk; the error names the file.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a link; a file that grows must lie in its folder itself")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")
    new = not path.exists()
    kind = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | kind, 0o666)
    try:
        whole, torn = _end(file)
        if _entry(torn[:-1], checked=True) is not None:  # only its newline is damaged
            whole, line = whole + len(torn), b"\n" + line
        elif torn:
            os.ftruncate(file, whole)
        try:
            left = line
            while left:
                left = left[os.write(file, left) :]
            os.fsync(file)
        except BaseException as error:
            with suppress(OSError):
                os.ftruncate(file, whole)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
    finally:
        os.close(file)
    if new:
        sync_folder(path.parent)


def whole_lines(path: Path) -> bytes:
    """A growing file without a torn last line; nothing if there is no file.

    Raises:
        ValueError: it cannot be read.
    """
    content = _content(path)
    return content[: content.rfind(b"\n") + 1]


def read(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> tuple[list[Parsed], list[int]]:
    """Read what `encode` and `append` wrote, and lines without a checksum, as they were once.

    A torn last line is left out in silence. Any other line that is damaged, or that ``parse``
    refuses, is left out and named. The file is not changed.

    Args:
        path: of the file; there may be none.
        parse: makes of an entry what is wanted; a ValueError, TypeError, KeyError or AttributeError
            refuses it.

    Returns:
        What the whole lines hold, in order, and the numbers of the damaged lines, from 1.

    Raises:
        ValueError: the file cannot be read.
    """
    content = _content(path)
    *lines, torn = content.split(b"\n")
    if _entry(torn[:-1], checked=True) is not None:
        lines.append(torn)
    found: list[Parsed] = []
    damaged: list[int] = []
    for number, line in enumerate(lines, start=1):
        entry = _entry(line)
        read_all = entry is not None
        parts: Iterable[dict[str, Any] | None] = [entry]
        if not read_all:
            parts = (_entry(part, checked=True) for part in _LOST_NEWLINE.split(line))
        for part in parts:
            try:
                if part is not None:
                    found.append(parse(part))
            except (ValueError, TypeError, KeyError, AttributeError):
                read_all = False
        if not read_all:
            damaged.append(number)
    return found, damaged


def warn_of(path: Path, damaged: Sequence[int]) -> None:
    """Name the damaged lines of a file, if there are any, in one warning."""
    shown = ", ".join(map(str, damaged[:10])) + (", ..." if len(damaged) > 10 else "")
    if len(damaged) == 1:
        what = f"line {shown} is damaged and was left out"
    else:
        what = f"{len(damaged)} lines are damaged and were left out: {shown}"
    if damaged:
        warnings.warn(f"{path}, {what}", DamagedLineWarning, stacklevel=3)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _entry(line: bytes, *, checked: bool = False) -> dict[str, Any] | None:
    """What a line holds; None if it is damaged, or, where a checksum must be there, has none."""
    mark = _CHECKSUM.fullmatch(line, max(0, len(line) - 22))
    text = line if mark is None else line[: mark.start()] + b"}"
    right = mark is not None and zlib.crc32(text) == int(mark[2], 16)
    named = mark is not None and mark[1] == b"crc32"
    if right != named or (checked and not right):
        return None
    if right:
        line = text
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or "crc32" in entry:
        return None
    return entry


def _end(file: int) -> tuple[int, bytes]:
    """How long the whole lines of an open file are, and what stands after them."""
    end = os.lseek(file, 0, os.SEEK_END)
    torn = b""
    while end:
        start = max(0, end - 65536)
        os.lseek(file, start, os.SEEK_SET)
        block = os.read(file, end - start)
        newline = block.rfind(b"\n")
        if newline >= 0:
            return start + newline + 1, block[newline + 1 :] + torn
        end, torn = start, block + torn
    return 0, torn
