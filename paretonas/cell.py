"""What can be known of an architecture's function before it is trained: its routes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .space import Choice

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["EdgeCell"]

DEAD = frozenset({"none", "zero", "zeroize", "null"})
IDENTITY = frozenset({"skip", "skip_connect", "identity", "id"})


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


@dataclass(frozen=True)
class EdgeCell:
    """A cell whose choices are operations on the edges between its nodes; a `Structure`.

    Node 0 is the input and the last node the output; every node sums what its edges bring.

    >>> cell = EdgeCell({"op_0_1": (0, 1), "op_0_2": (0, 2), "op_1_2": (1, 2)})
    >>> cell.canonical({"op_0_1": "skip", "op_0_2": "none", "op_1_2": "conv"})
    "'conv'(x)"
    >>> cell.canonical({"op_0_1": "none", "op_0_2": "conv", "op_1_2": "pool"})
    "'conv'(x)"

    Attributes:
        edges: for each choice the nodes (source, target) of its edge, source < target.
        dead: the options that let nothing pass.
        identity: the options that pass what they get.

    Raises:
        ValueError: fewer than two edges, one that does not go forward, two between the same nodes,
            or a node besides the first and the last that has no edge in or none out.
    """

    edges: Mapping[str, tuple[int, int]] = field(hash=False)
    dead: frozenset[str] = DEAD
    identity: frozenset[str] = IDENTITY

    def __post_init__(self) -> None:
        object.__setattr__(self, "edges", dict(self.edges))
        object.__setattr__(self, "dead", frozenset(self.dead))
        object.__setattr__(self, "identity", frozenset(self.identity))
        problem = _problem(self.edges)
        if problem:
            raise ValueError(f"a cell {problem}")

    @classmethod
    def infer(cls, choices: Sequence[Choice]) -> EdgeCell | None:
        """The cell that choices named by their edges make up, such as ``op_0_1``, if they do.

        Options that are called none, zero, zeroize or null are dead; skip, skip_connect,
        identity or id pass what they get; upper or lower case.
        """
        edges: dict[str, tuple[int, int]] = {}
        stems = set()
        for choice in choices:
            found = re.fullmatch(r"(|.*\D)(\d+)_(\d+)", choice.name)
            if found is None:
                return None
            stems.add(found[1])
            edges[choice.name] = (int(found[2]), int(found[3]))
        if len(stems) != 1 or _problem(edges):
            return None
        options = {option for choice in choices for option in choice.options}
        return cls(
            edges,
            dead=frozenset(o for o in options if o.casefold() in DEAD),
            identity=frozenset(o for o in options if o.casefold() in IDENTITY),
        )

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """All ways from node 0 to the last node."""
        ways: dict[int, list[tuple[str, ...]]] = {0: [()]}
        for target, incoming in self._incoming:
            ways[target] = [(*way, choice) for choice, source in incoming for way in ways[source]]
        return tuple(Route(way) for way in ways[self._output])

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """The cell as an expression of its input ``x``; empty if nothing arrives.

        What comes through dead edges, or from nodes that nothing reaches, is left out; an identity
        is replaced by what it passes, a node with one term is that term, and the terms of a sum are
        in no order. Two cells have the same string if and only if they are the same expression up
        to this. These are the 5,773 classes of NAS-Bench-201, which departs from equality of
        functions twice: sums inside sums stay apart, and an operation that is used twice is not
        told from two of the same kind.
        """
        text: dict[int, str] = {0: "x"}
        for target, incoming in self._incoming:
            terms = []
            for choice, source in incoming:
                option = architecture[choice]
                if option in self.dead or not text[source]:
                    continue
                same = option in self.identity
                terms.append(text[source] if same else f"{option!r}{_bracketed(text[source])}")
            terms.sort()
            text[target] = f"({' + '.join(terms)})" if len(terms) > 1 else "".join(terms)
        return text[self._output]

    def graph(self, architecture: Mapping[str, str]) -> nx.DiGraph[int]:
        """The nodes, and the edges that let something pass, with ``choice`` and ``option``."""
        import networkx as nx

        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from([0, *(target for target, _ in self._incoming)])
        for choice, (source, target) in self.edges.items():
            if architecture[choice] not in self.dead:
                graph.add_edge(source, target, choice=choice, option=architecture[choice])
        return graph

    @cached_property
    def _incoming(self) -> list[tuple[int, list[tuple[str, int]]]]:
        """Each node but the first with the choices and sources of its edges, in order."""
        incoming: dict[int, list[tuple[str, int]]] = {}
        for choice, (source, target) in self.edges.items():
            incoming.setdefault(target, []).append((choice, source))
        return sorted(incoming.items())

    @property
    def _output(self) -> int:
        return self._incoming[-1][0]


def _bracketed(text: str) -> str:
    return text if text.startswith("(") else f"({text})"


def _problem(edges: Mapping[str, tuple[int, int]]) -> str:
    """What keeps these edges from being those of a cell; empty if nothing does."""
    if len(edges) < 2:
        return f"needs at least two edges, got {len(edges)}"
    for choice, (source, target) in edges.items():
        if not 0 <= source < target:
            return f"has edges from lower to higher nodes only, got {choice!r} {source} to {target}"
    if len(set(edges.values())) < len(edges):
        return f"has one choice an edge, got {len(edges)} for {len(set(edges.values()))} edges"
    sources = {source for source, _ in edges.values()}
    targets = {target for _, target in edges.values()}
    if sources - targets != {0}:
        return f"has its input at node 0 alone, got inputs {sorted(sources - targets)}"
    if len(targets - sources) != 1:
        return f"has one output, got {sorted(targets - sources)}"
    return ""
