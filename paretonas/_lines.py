"""Append-only files of lines: a written line stays, and a damaged line damages no other."""

from __future__ import annotations

import gc
import json
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from paretonas._atomic import sync_folder

Parsed = TypeVar("Parsed")

_CHECKSUM = re.compile(rb', "(.{5})": "([0-9a-f]{8})"\}', re.DOTALL)  # its name may be damaged
# The byte after a checksum is a newline, or was one before it was damaged.
_LOST_NEWLINE = re.compile(rb'(?<="crc32": "[0-9a-f]{8}"\}).', re.DOTALL)


_TAIL = len(', "crc32": "01234567"}')
_BLOCK = 256  # the lines that are parsed at a time
_HALF = b"\\ud"  # half a surrogate pair, perhaps: JSON can escape it, and no file can hold it


class DamagedLineWarning(UserWarning):
    """A line of a file could not be read and was left out."""


def encode(entry: Mapping[str, Any]) -> bytes:
    r"""A line of JSON whose last key, ``crc32``, is the checksum of the text before it.

    >>> encode({"id": "a01"})
    b'{"id": "a01", "crc32": "90d3d61e"}\n'

    Raises:
        ValueError: the entry is empty, or a value is not finite.
    """
    if not entry:
        raise ValueError("an entry needs a key, got none")
    text = json.dumps(entry, allow_nan=False).encode()
    return b'%b, "crc32": "%08x"}\n' % (text[:-1], zlib.crc32(text))


def append(path: Path, line: bytes) -> None:
    """Append a whole line: it is on disk when this returns, and nothing is written if this raises.

    If a killed process left a torn last line, that line is removed. No other byte changes.

    Raises:
        ValueError: the path is a folder, or a link, whose target does not change; or it cannot be
            opened, as on a disk that is read-only.
        OSError: it cannot be written, as on a full disk; the error names the file.
    """
    if path.is_symlink():
        raise ValueError(f"{path} is a link; it must be a plain file")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")
    new = not path.exists()
    kind = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | kind, 0o666)
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}") from error
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
            if new:
                sync_folder(path.parent)
        except BaseException as error:
            with suppress(OSError):
                os.ftruncate(file, whole)
            if isinstance(error, OSError):
                raise OSError(error.errno, error.strerror, str(path)) from error
            raise
    finally:
        os.close(file)


def whole_lines(path: Path) -> bytes:
    """The content of a file without a torn last line; empty if there is no file.

    Raises:
        ValueError: it cannot be read.
    """
    content = _content(path)
    return content[: content.rfind(b"\n") + 1]


def read(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> tuple[list[Parsed], list[int]]:
    """Read lines of `encode` and `append`, and older lines, which have no checksum.

    A torn last line is left out silently. Any other line that is damaged, or that ``parse``
    refuses, is left out and its number is returned. The file is not changed.

    Args:
        path: the file; it may be missing.
        parse: converts an entry; it refuses one with a ValueError, TypeError, KeyError,
            AttributeError or OverflowError.

    Returns:
        The converted entries, in order, and the numbers of the damaged lines, from 1.

    Raises:
        ValueError: the file cannot be read.
    """
    with _no_collection():
        return _read(path, parse)


def _read(path: Path, parse: Callable[[dict[str, Any]], Parsed]) -> tuple[list[Parsed], list[int]]:
    found: list[Parsed] = []
    damaged: list[int] = []
    for number, (line, entry) in enumerate(_entries(_each(path)), start=1):
        read_all = entry is not None
        parts: Iterable[dict[str, Any] | None] = [entry]
        if not read_all:
            parts = (_entry(part, checked=True) for part in _LOST_NEWLINE.split(line))
        for part in parts:
            try:
                if part is not None:
                    found.append(parse(part))
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
                read_all = False
        if not read_all:
            damaged.append(number)
    return found, damaged


@contextmanager
def _no_collection() -> Iterator[None]:
    """Look for no garbage meanwhile.

    Entries hold no cycles, and to look for some among a hundred thousand of them, again and again
    while they become more, would take a third of the time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def warn_of(path: Path, damaged: Sequence[int]) -> None:
    """Issue one warning with the numbers of the damaged lines, if there are any."""
    shown = ", ".join(map(str, damaged[:10])) + (", ..." if len(damaged) > 10 else "")
    if len(damaged) == 1:
        what = f"line {shown} is damaged and was left out"
    else:
        what = f"{len(damaged)} lines are damaged and were left out: {shown}"
    if damaged:
        warnings.warn(f"{path}, {what}", DamagedLineWarning, stacklevel=3)


def _each(path: Path) -> Iterator[bytes]:
    """Each line without its newline, one after the other; the last only if it is not torn."""
    try:
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
                elif _entry(line[:-1], checked=True) is not None:  # only its newline is damaged
                    yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error


def _entries(lines: Iterator[bytes]) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Each line with its entry, which is None if the line is damaged.

    Lines that are as they were written are parsed many at a time: that takes half the time, and
    the names that they share are in memory once.
    """
    while block := list(islice(lines, _BLOCK)):
        yield from zip(block, _together(block) or map(_entry, block), strict=True)


def _together(lines: Sequence[bytes]) -> list[dict[str, Any]] | None:
    """The entries of lines of `encode`, of which none is damaged; None if one is."""
    texts = [line[:-_TAIL] + b"}" for line in lines]
    if any(_HALF in text for text in texts):
        return None
    for line, text in zip(lines, texts, strict=True):
        if line[-_TAIL:] != b', "crc32": "%08x"}' % zlib.crc32(text):
            return None
    try:
        entries = json.loads(b"[%b]" % b",".join(texts))
    except (ValueError, RecursionError):
        return None
    sound = len(entries) == len(lines) and all(map(_is_entry, entries))
    return entries if sound else None


def _entry(line: bytes, *, checked: bool = False) -> dict[str, Any] | None:
    """The entry of a line; None if it is damaged, or if ``checked`` and it has no checksum."""
    mark = _CHECKSUM.fullmatch(line, max(0, len(line) - _TAIL))
    text = line if mark is None else line[: mark.start()] + b"}"
    right = mark is not None and zlib.crc32(text) == int(mark[2], 16)
    named = mark is not None and mark[1] == b"crc32"
    if right != named or (checked and not right):
        return None
    try:
        entry = json.loads(text if right else line)
        if _HALF in line:
            json.dumps(entry, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return entry if _is_entry(entry) else None


def _is_entry(found: object) -> bool:
    return isinstance(found, dict) and "crc32" not in found


def _end(file: int) -> tuple[int, bytes]:
    """The length of the whole lines of an open file, and the bytes after them."""
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
