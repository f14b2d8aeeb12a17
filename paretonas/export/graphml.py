"""Write a graph of operations as GraphML, for Gephi, yEd, networkx and other programs."""

from __future__ import annotations

from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING

from paretonas._atomic import replacing
from paretonas.export.exported import Exported

if TYPE_CHECKING:
    import networkx as nx


def write_graphml(graph: nx.DiGraph[str], path: Path) -> Exported:
    """Write nodes, edges and attributes; shapes become text such as ``8x14x14``, None is left out.

    Raises:
        RuntimeError: reading the file does not give back every node and edge.
    """
    import networkx as nx

    plain: nx.DiGraph[str] = nx.DiGraph(**_plain(graph.graph))
    for node, attributes in graph.nodes(data=True):
        plain.add_node(str(node), **_plain(attributes))
    for start, end, attributes in graph.edges(data=True):
        plain.add_edge(str(start), str(end), **_plain(attributes))
    with replacing(path) as draft:
        nx.write_graphml(plain, draft)
        back = nx.read_graphml(draft)
        if set(back.nodes) != set(plain.nodes) or set(back.edges) != set(plain.edges):
            raise RuntimeError(f"{path} does not bring back every node and edge")
    return Exported(path, path.stat().st_size)


def _plain(attributes: dict[str, object]) -> dict[str, str | bool | int | float]:
    return {str(name): _as_plain(value) for name, value in attributes.items() if value is not None}


def _as_plain(value: object) -> str | bool | int | float:
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (tuple, list)):
        return "x".join(map(str, value))
    return str(value)
