"""The wiring of choices: routes from input to output, and canonical forms of architectures."""

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
    """A path from the input of a network to its output, through choices.

    Attributes:
        choices: the names of the choices on the path, in order.
        given: picks (choice, option) without which the route does not exist.
    """

    choices: tuple[str, ...]
    given: tuple[tuple[str, str], ...] = ()


@runtime_checkable
class Structure(Protocol):
    """The wiring of a space's choices; a space may have it as its attribute ``structure``.

    Attributes:
        routes: all paths from input to output.
        dead: the options that return zeros; a route with one of them carries nothing.
        identity: the options that return their input.
    """

    @property
    def routes(self) -> tuple[Route, ...]: ...
    @property
    def dead(self) -> frozenset[str]: ...
    @property
    def identity(self) -> frozenset[str]: ...

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """A text that is the same for equal functions; empty if nothing reaches the output."""
        ...


@dataclass(frozen=True)
class EdgeCell:
    """A cell whose choices are operations on the edges between its nodes; a `Structure`.

    Node 0 is the input, the last node is the output. Every node is the sum of its incoming edges.

    >>> cell = EdgeCell({"op_0_1": (0, 1), "op_0_2": (0, 2), "op_1_2": (1, 2)})
    >>> cell.canonical({"op_0_1": "skip", "op_0_2": "none", "op_1_2": "conv"})
    "'conv'(x)"
    >>> cell.canonical({"op_0_1": "none", "op_0_2": "conv", "op_1_2": "pool"})
    "'conv'(x)"

    Attributes:
        edges: for each choice the nodes (source, target) of its edge, source < target.
        dead: the options that return zeros.
        identity: the options that return their input.

    Raises:
        ValueError: there are fewer than two edges; an edge does not go forward; two edges join the
            same nodes; or an inner node has no incoming or no outgoing edge.
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
        """The cell of choices that are named by their edges, such as ``op_0_1``; else None.

        The options none, zero, zeroize and null are dead; skip, skip_connect, identity and id are
        identities. Upper or lower case does not matter.
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
        """All paths from node 0 to the last node."""
        ways: dict[int, list[tuple[str, ...]]] = {0: [()]}
        for target, incoming in self._incoming:
            ways[target] = [(*way, choice) for choice, source in incoming for way in ways[source]]
        return tuple(Route(way) for way in ways[self._output])

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """The cell as an expression of its input ``x``; empty if no path reaches the output.

        Dead edges and nodes without input are left out. An identity is replaced by its input. A
        node with one term is that term. The terms of a sum are sorted. Two cells have the same
        string if and only if these rules give the same expression: the 5,773 classes of
        NAS-Bench-201. This differs from equality of functions in two ways: a sum inside a sum is
        not merged, and one operation that is used twice equals two operations of the same kind.
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
        """The nodes, and the edges that are not dead, with ``choice`` and ``option``."""
        import networkx as nx

        graph: nx.DiGraph[int] = nx.DiGraph()
        graph.add_nodes_from([0, *(target for target, _ in self._incoming)])
        for choice, (source, target) in self.edges.items():
            if architecture[choice] not in self.dead:
                graph.add_edge(source, target, choice=choice, option=architecture[choice])
        return graph

    @cached_property
    def _incoming(self) -> list[tuple[int, list[tuple[str, int]]]]:
        """Each node except the first, with the choices and sources of its edges, in order."""
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
    """The rule for a cell that these edges break; empty if they break none."""
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
