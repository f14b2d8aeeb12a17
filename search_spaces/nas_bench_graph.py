"""NAS-Bench-Graph: measured graph networks with four operations, 59,049 encodings, nine datasets.

Qin, Zhang, Wang, Zhang and Zhu 2022, "NAS-Bench-Graph: benchmarking graph neural architecture
search" (arXiv 2206.09166). Each dataset is a `Table`, read from the package nas-bench-graph at its
first use: `cora`, `citeseer`, `pubmed`, `cs`, `physics`, `photo`, `computers`, `arxiv` and
`proteins`, which has 5 of the 9 operations. The choice ``link`` gives the input of each of the four
operations; 0 is the input of the network. The output joins all results that no operation uses. Many
encodings are the same network: 26,206 networks were trained, 2,021 on proteins. Two encodings are
the same network if their trees without skips are equal. Four skips are not a network and not
allowed.

The objectives are the validation error in percent, the latency in ms and the parameters in
millions. The test error is only for reports: `reported_error_percent`. On proteins the error is 100
minus the ROC-AUC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from paretonas.cell import Route
from paretonas.space import Choice, every, nearest
from paretonas.table import Table

from .published import folder, measured, unpickled

DATASETS = (
    "cora",
    "citeseer",
    "pubmed",
    "cs",
    "physics",
    "photo",
    "computers",
    "arxiv",
    "proteins",
)
COLUMNS = ("valid_error_percent", "latency_ms", "parameters_M")

# The encoding of the files: a network's number has the digits template, operation, ..., operation.
TEMPLATES = ("0000", "0001", "0011", "0012", "0013", "0111", "0112", "0122", "0123")
OPERATIONS = ("gat", "gcn", "gin", "cheb", "sage", "arma", "graph", "fc", "skip")
ON_PROTEINS = ("gcn", "sage", "arma", "fc", "skip")
NODES = ("op_1", "op_2", "op_3", "op_4")


def load(dataset: str) -> Table:
    """The table of a dataset; every encoding has a row.

    Raises:
        ValueError: there is no such dataset.
        ImportError: the package nas-bench-graph is missing.
    """
    return _read(dataset)[0]


def reported_error_percent(dataset: str, architecture: Mapping[str, str]) -> float:
    """The test error of an architecture of a table; for reports, not for a search.

    Raises:
        ValueError: there is no such dataset or architecture, or it has no operation.
    """
    table, errors = _read(dataset)
    row = table.row(architecture)
    if not table.allowed[row]:
        raise ValueError(f"a network without an operation was not trained, got {architecture}")
    return errors[row]


@dataclass(frozen=True)
class Tree:
    """The wiring of the choices: a tree of operations; the output joins all leaves.

    >>> operations = {"op_1": "gcn", "op_2": "skip", "op_3": "fc", "op_4": "fc"}
    >>> Tree().canonical({"link": "0012", **operations})
    'fc gcn(fc)'

    Attributes:
        dead: empty, since no operation returns zeros.
        identity: the operations that return their input.
    """

    dead: frozenset[str] = frozenset()
    identity: frozenset[str] = frozenset({"skip"})

    @cached_property
    def routes(self) -> tuple[Route, ...]:
        """The paths from the input to each leaf, for each template."""
        routes = []
        for template in TEMPLATES:
            for leaf in sorted({1, 2, 3, 4} - set(map(int, template))):
                nodes = []
                node = leaf
                while node:
                    nodes.append(NODES[node - 1])
                    node = int(template[node - 1])
                routes.append(Route(tuple(reversed(nodes)), given=(("link", template),)))
        return tuple(routes)

    def canonical(self, architecture: Mapping[str, str]) -> str:
        """The tree of operations, sorted at each node; empty if there are only skips."""
        return _tree(architecture["link"], tuple(architecture[node] for node in NODES))


@cache  # the data sets have their networks in common
def _tree(template: str, operations: tuple[str, ...]) -> str:
    parent = [int(digit) for digit in template]
    takers: dict[int, list[int]] = {node: [] for node in range(5)}
    for node, operation in enumerate(operations, start=1):
        if operation == "skip" and node in parent:
            continue  # operations after the skip get their input from the node before it
        source = parent[node - 1]
        while source and operations[source - 1] == "skip":
            source = parent[source - 1]
        takers[source].append(node)

    def text(node: int) -> str:
        above = takers[node]
        # A skip that is a leaf adds its node to the output. If nothing else uses the node, it is
        # part of the output anyway. The input itself is never added.
        if not node or len(above) == 1:
            above = [taker for taker in above if operations[taker - 1] != "skip"]
        parts = []
        for taker in above:
            inner = text(taker)
            parts.append(f"{operations[taker - 1]}({inner})" if inner else operations[taker - 1])
        return " ".join(sorted(parts))

    return text(0)


@cache
def _read(dataset: str) -> tuple[Table, tuple[float, ...]]:
    """The table of a dataset, and the test error of each of its rows."""
    if dataset not in DATASETS:
        raise ValueError(f"no dataset is called {dataset!r}{nearest(dataset, DATASETS)}")
    path = _folder() / f"{dataset}.bench"
    networks: dict[str, list[float]] = {}
    try:
        for number, found in unpickled(path.read_bytes()).items():
            template, *picks = (int(digit) for digit in f"{number:05d}")
            networks[_tree(TEMPLATES[template], tuple(OPERATIONS[pick] for pick in picks))] = [
                100 * (1 - measured(found["valid_perf"])),
                1000 * measured(found["latency"]),
                measured(found["para"]),
                100 * (1 - measured(found["perf"])),
            ]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    operations = ON_PROTEINS if dataset == "proteins" else OPERATIONS
    choices = (Choice("link", TEMPLATES), *(Choice(node, operations) for node in NODES))
    architectures = tuple(every(choices))
    structure = Tree()
    nothing = [np.nan] * 4  # for four skips
    rows = np.array([networks.get(structure.canonical(a), nothing) for a in architectures])
    table = Table(
        f"nas_bench_graph_{dataset}",
        choices,
        COLUMNS,
        architectures,
        rows[:, :3],
        np.isfinite(rows[:, 0]),
        structure,
    )
    return table, tuple(rows[:, 3].tolist())


def _folder() -> Path:
    return folder("nas_bench_graph", "light", "this space is", "nas-bench-graph")


def __getattr__(name: str) -> Table:
    if name in DATASETS:
        return load(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *DATASETS]
