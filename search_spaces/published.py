"""Files of other packages that hold published measurements: where they are, and how to read them.

The files are pickles. Python's own reader of pickles imports and calls what a file names, and a
forged number of NumPy can crash it. So `unpickled` reads the files itself, and plain data only.
"""

from __future__ import annotations

import importlib.util
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from pickletools import genops
from typing import Any

LARGEST = 1e15  # of a measurement


def folder(module: str, inside: str, what: str, package: str) -> Path:
    """The folder of a package's files.

    Args:
        module: the module of the package.
        inside: the folder, from that of the module.
        what: what is in it, for the message.
        package: the name of the package at PyPI.

    Raises:
        ImportError: the package is not installed.
    """
    found = importlib.util.find_spec(module)
    place = Path(found.origin or "").parent / inside if found else None
    if place is None or not place.is_dir():
        raise ImportError(f"{what} in the package {package}: pip install 'paretonas[bench]'")
    return place


def measured(value: Any) -> float:
    """A measurement in a file, checked.

    Raises:
        ValueError: it is no number, or not finite.
    """
    if type(value) in (int, float) and abs(value) <= LARGEST:
        return float(value)
    told = f"{value}" if isinstance(value, float) else f"of type {type(value).__name__}"
    raise ValueError(f"a measurement must be a finite number, got one that is {told}")


def unpickled(data: bytes) -> Any:
    """The content of a pickled file of dicts, lists, tuples, texts and numbers, NumPy's included.

    Nothing is imported or called, whatever the file says.

    Raises:
        ValueError: the file needs something else, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts that are refused anyway
            return _Machine().run(data)
    except (IndexError, KeyError, TypeError, struct.error) as error:
        raise ValueError(f"the file is damaged: {type(error).__name__}") from error


@dataclass(frozen=True)
class _Name:
    """What a file wants to have imported; it is only compared."""

    name: str


@dataclass(frozen=True)
class _Kind:
    """A type of numbers of NumPy, as `struct` calls it."""

    format: str


_DTYPE = _Name("numpy dtype")
_SCALARS = (_Name("numpy.core.multiarray scalar"), _Name("numpy._core.multiarray scalar"))
_KINDS = {"f8": _Kind("<d"), "f4": _Kind("<f")}
_STATE = (3, "<", None, None, None, -1, -1, 0)  # of each of these types
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = {  # the instructions that push their argument
    "BININT",
    "BININT1",
    "BININT2",
    "LONG1",
    "BINFLOAT",
    "SHORT_BINUNICODE",
    "BINUNICODE",
    "SHORT_BINBYTES",
    "BINBYTES",
}


class _Machine:
    """The stack machine that a pickle is a program of; with the instructions of plain data."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the open marks
        self.memo: dict[int, Any] = {}
        self.steps: dict[str, Callable[[Any], None]] = {
            "BINGET": self.recall,
            "LONG_BINGET": self.recall,
            "BINPUT": self.remember,
            "LONG_BINPUT": self.remember,
            "MEMOIZE": lambda _: self.remember(len(self.memo)),
            "MARK": self.mark,
            "EMPTY_DICT": lambda _: self.push({}),
            "EMPTY_LIST": lambda _: self.push([]),
            "EMPTY_TUPLE": lambda _: self.push(()),
            "TUPLE": lambda _: self.push(tuple(self.since_mark())),
            "TUPLE1": lambda _: self.push(tuple(self.last(1))),
            "TUPLE2": lambda _: self.push(tuple(self.last(2))),
            "TUPLE3": lambda _: self.push(tuple(self.last(3))),
            "APPEND": lambda _: self.append(self.last(1)),
            "APPENDS": lambda _: self.append(self.since_mark()),
            "SETITEM": lambda _: self.set_items(self.last(2)),
            "SETITEMS": lambda _: self.set_items(self.since_mark()),
            "GLOBAL": lambda name: self.push(_known(name)),
            "STACK_GLOBAL": lambda _: self.push(_known("{} {}".format(*self.last(2)))),
            "REDUCE": lambda _: self.push(_made(*self.last(2))),
            "BUILD": self.build,
        }

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def run(self, data: bytes) -> Any:
        for instruction, argument, _ in genops(data):
            name = instruction.name
            if name in _ARGUMENTS:
                self.stack.append(argument)
            elif name in self.steps:
                self.steps[name](argument)
            elif name in _CONSTANTS:
                self.stack.append(_CONSTANTS[name])
            elif name not in ("PROTO", "FRAME", "STOP"):
                raise _too_much(f"the instruction {name}")
        (content,) = self.last(1)
        if self.stack or self.below:
            raise ValueError("the file is damaged: it ends too early")
        return content

    def last(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("the file is damaged: something is missing")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def mark(self, _: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    def recall(self, place: int) -> None:
        self.stack.append(self.memo[place])

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError("the file is damaged: it appends to what is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not dict:
            raise ValueError("the file is damaged: it has items of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _too_much("keys that are no texts and no whole numbers")
            self.stack[-1][key] = value

    def build(self, _: Any) -> None:
        kind, state = self.last(2)
        if not isinstance(kind, _Kind) or state != _STATE:
            raise _too_much("an object with a state")
        self.stack.append(kind)


def _known(name: str) -> _Name:
    found = _Name(name)
    if found != _DTYPE and found not in _SCALARS:
        raise _too_much(name.replace(" ", "."))
    return found


def _made(called: Any, arguments: Any) -> Any:
    """A type of numbers, or a number of it."""
    match called, arguments:
        case _Name(), (str(code), False, True) if called == _DTYPE and code in _KINDS:
            return _KINDS[code]
        case _Name(), (_Kind(format), bytes(data)) if called in _SCALARS:
            return struct.unpack(format, data)[0]
    raise _too_much("other objects of NumPy")


def _too_much(what: str) -> ValueError:
    return ValueError(
        "these files may contain only dicts, lists, texts and numbers, but this one needs "
        f"{what!s:.80}"
    )
