"""What can be known of an architecture's function before it is trained: its routes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Route:
    """A way from the input of a network to its output, through choices.

    Attributes:
        choices: the names of the choices that it passes, in order.
        given: picks (choice, option) without which the route does not exist.
    """

    choices: tuple[str, ...]
    given: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class Structure(Protocol):
    """How the choices of a space are wired; a space that knows it has it as ``structure``.

    Attributes:
        routes: all ways from input to output.
        dead: the options that let nothing pass; a route with one of them carries nothing.
        identity: the options that pass what they get.
    """

    @property
    def routes(self) -> tuple[Route, ...]: ...
    @property
    def dead(self) -> frozenset[str]: ...
    @property
    def identity(self) -> frozenset[str]: ...

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """Equal for architectures that compute the same function; empty if nothing arrives."""
        ...
