"""JSON files, which may come from anyone: what no reader expects is refused before it is read."""

from __future__ import annotations

import errno
import json
import math
from pathlib import Path
from typing import Any

_Where = tuple[str | int, ...]

DEEPEST = 64  # lists and objects inside each other
LARGEST = 2**1000  # beyond it, an integer is no floating-point number


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: the file cannot be read, is no whole JSON file, has lists or objects too deep in
            each other, or has a number that is not finite, or a text that is no Unicode.
        FileNotFoundError: there is no such file.
    """
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise OSError(errno.EINVAL, "it is no file")
        content = json.loads(path.read_bytes().decode("utf-8"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a whole JSON file: {error}") from error
    if fault := _fault(content):
        raise ValueError(f"{path}: {fault}")
    return content


def check_format(path: Path, content: Any, newest: int) -> None:
    """Refuse a file that a newer version of the package has written.

    Args:
        path: of the file, for the message.
        content: of the file; its ``format`` is an integer. A file that tells none is older.
        newest: the format that this version writes.

    Raises:
        ValueError: the format is newer, or is none.
    """
    told = content.get("format", newest) if isinstance(content, dict) else newest
    if type(told) is not int or told < 1:
        raise ValueError(f"{path}: the format must be an integer from 1, got {told!r:.80}")
    if told > newest:
        raise ValueError(
            f"{path} is of format {told}, which a newer version of paretonas has written; this "
            f"version reads up to {newest}: pip install --upgrade paretonas"
        )


def _fault(content: Any) -> str:
    """What no reader expects, and where it is; empty if there is nothing."""
    waiting: list[tuple[Any, _Where]] = [(content, ())]
    while waiting:
        value, where = waiting.pop()
        if isinstance(value, dict | list):
            if len(where) == DEEPEST:
                return f"it has lists or objects in each other, more than {DEEPEST} deep"
            inner = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(part, (*where, name)) for name, part in inner]
        elif isinstance(value, float) and not math.isfinite(value):
            return f"{_told(where)} must be finite, got {value}"
        elif type(value) is int and abs(value) > LARGEST:
            return f"{_told(where)} must be finite, got a number of {value.bit_length()} bits"
        if not all(map(_is_unicode, value if isinstance(value, dict) else [value])):
            return f"{_told(where)} has half a character, which no file of text can hold"
    return ""


def _is_unicode(value: Any) -> bool:
    """Whether a text can be written; JSON can escape half a surrogate pair."""
    if not isinstance(value, str) or value.isascii():
        return True
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def _told(where: _Where) -> str:
    return f"{'.'.join(map(str, where)) or 'the content'!s:.100}".encode(
        "utf-8", "replace"
    ).decode()
