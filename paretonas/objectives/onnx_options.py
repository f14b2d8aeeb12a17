"""Which options of a supernet ONNX cannot hold: found by the export of architectures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any

from ..devices.onnx_session import NotInOnnxError, exported
from ..nn import Supernet
from ..space import Architecture, decode, encode

DRAWS = 4  # random architectures, if there is none among the first that ONNX can hold
TRIES = 2  # exports that fail, before the network itself is to blame: each takes seconds
MOST = 2  # options that are named


@contextmanager
def naming_options(supernet: Supernet, example: Any) -> Iterator[None]:
    """Where an export fails in this context, the error names the options that alone are to blame.

    Raises:
        NotInOnnxError: ONNX cannot hold these options; or the network, if there are none.
    """
    try:
        yield
    except NotInOnnxError as error:
        found = _Options(supernet, example).to_blame()
        if not found:
            raise
        one = len(found) == 1
        names = ", ".join(map(str, list(found)[:MOST])) + (" and others" * (len(found) > MOST))
        what = f"the option{'s' * (not one)} {names}"
        instead = f"leave {'it' if one else 'them'} out, or {error.instead}"
        raise NotInOnnxError(what, next(iter(found.values())), instead) from error


def check_some(supernet: Supernet, example: Any, instead: str) -> None:
    """See that ONNX can hold some architecture of a supernet.

    Args:
        supernet: the network with choices.
        example: the inputs of one forward pass.
        instead: what to do if it cannot.

    Raises:
        NotInOnnxError: none of several was possible.
    """
    _Options(supernet, example).check(instead)


class _Options:
    """Tries exports of architectures, each once."""

    def __init__(self, supernet: Supernet, example: Any) -> None:
        self._supernet, self._example = supernet, example
        sizes, rng = [len(choice.options) for choice in supernet.choices], Random("onnx")
        # All first options, all second ones, and so on.
        self._alike = [[min(pick, n - 1) for n in sizes] for pick in range(max(sizes))]
        self._random = [[rng.randrange(n) for n in sizes] for _ in range(DRAWS)]
        self._tried: dict[Architecture, str] = {}

    def to_blame(self) -> dict[Architecture, str]:
        """The picks, each alone, that ONNX cannot hold where others of their choice work, and why.

        At most one more than `MOST`. It is empty if the first architectures all fail.
        What is inside an option that is to blame is not looked at.
        """
        found: dict[Architecture, str] = {}
        working = self._working()
        for index, choice in enumerate(self._supernet.choices):
            for pick in self._supernet.left(index):
                taken = {known: self._supernet.taken(known) for known in working}
                around = [known for known in working if index in dict(taken[known])]
                if not around or any((index, pick) in taken[known] for known in around):
                    continue
                changed = self._with(around[0], index, pick)
                works = next((each for each in changed if not self._why(each)), None)
                if works is not None:
                    working.append(works)
                    continue
                single = Architecture({choice.name: choice.options[pick]})
                found[single] = self._why(changed[0])
                if len(found) > MOST:
                    return found
        return found

    def check(self, instead: str) -> None:
        """Refuse a supernet if there seems to be no architecture that ONNX can hold.

        Raises:
            NotInOnnxError: there is none.
        """
        starts = [*map(self._decoded, [*self._alike, *self._random])]
        if all(map(self._why, starts)):
            raise NotInOnnxError("the network", self._why(starts[0]), instead)

    def _working(self) -> list[Architecture]:
        """Architectures that ONNX can hold; none if the first ones fail."""
        found: list[Architecture] = []
        for tried, picks in enumerate([*self._alike, *self._random]):
            if tried >= (len(self._alike) if found else TRIES):
                break
            if not self._why(self._decoded(picks)):
                found.append(self._decoded(picks))
        return found

    def _decoded(self, picks: Sequence[int]) -> Architecture:
        return self._supernet.canonical(decode(self._supernet.choices, picks))

    def _with(self, known: Architecture, index: int, pick: int) -> list[Architecture]:
        """An architecture with another pick, and with different picks inside that option."""
        choices, inside = self._supernet.choices, self._supernet.inside(index, pick)
        picks = encode(choices, {**known, choices[index].name: choices[index].options[pick]})
        return [
            self._decoded([own[i] if i in inside else p for i, p in enumerate(picks)])
            for own in ([*self._alike, *self._random] if inside else [picks])
        ]

    def _why(self, architecture: Architecture) -> str:
        """What the exporter says of an architecture; nothing if it works."""
        if architecture not in self._tried:
            try:
                exported(self._supernet.extract(architecture), self._example)
                self._tried[architecture] = ""
            except NotInOnnxError as error:
                self._tried[architecture] = error.reason
        return self._tried[architecture]
