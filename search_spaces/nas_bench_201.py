"""NAS-Bench-201: cells of six edges with five operations each, 15,625 architectures.

Dong and Yang 2020, "NAS-Bench-201: extending the scope of reproducible neural architecture search"
(arXiv 2001.00326). The same choices have two uses. `space` is a supernet for a search on real
images, small enough for a CPU: 8 channels and one cell per stage. `table` reads a file of measured
cells, to compare search methods; the user provides this file.

>>> cell = structure.canonical({
...     "op_0_1": "none", "op_0_2": "skip_connect", "op_1_2": "nor_conv_3x3",
...     "op_0_3": "none", "op_1_3": "avg_pool_3x3", "op_2_3": "nor_conv_1x1"})
>>> cell
"'nor_conv_1x1'(x)"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add
from pathlib import Path

from torch import Tensor, nn

from paretonas.cell import EdgeCell
from paretonas.nn import NetworkSpace, OneOf
from paretonas.space import Choice, nearest
from paretonas.table import Table
from paretonas.training import Recipe

from .images import mnist_5k

OPERATIONS = ("avg_pool_3x3", "none", "nor_conv_1x1", "nor_conv_3x3", "skip_connect")
structure = EdgeCell(
    {f"op_{source}_{target}": (source, target) for target in (1, 2, 3) for source in range(target)},
    dead=frozenset({"none"}),
    identity=frozenset({"skip_connect"}),
)


class Network(nn.Module):
    """Stages of equal cells with a residual reduction between them.

    The published skeleton is ``Network(channels=16, cells=5, stride=1, inputs=3)``.

    Departure from the paper's trained networks, but not from its weight-sharing searches: the batch
    norms inside a cell have no weights. So an operation maps zeros to zeros, as the canonical form
    assumes.

    Args:
        channels: the channels of the first stage; each further stage has twice as many.
        cells: the number of cells in each stage.
        stages: the number of stages.
        stride: the stride of the stem; 2 reduces the images to a quarter.
        inputs: the channels of the images.
        classes: the number of classes.
    """

    def __init__(
        self,
        channels: int = 8,
        cells: int = 1,
        stages: int = 3,
        stride: int = 2,
        inputs: int = 1,
        classes: int = 10,
    ) -> None:
        super().__init__()
        widths = [channels * 2**stage for stage in range(stages)]
        self.stem = nn.Sequential(
            nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        for choice in structure.edges:
            self.add_module(choice, edge([width for width in widths for _ in range(cells)]))
        self.reductions = nn.ModuleList(Reduction(width) for width in widths[:-1])
        self.last = nn.Sequential(nn.BatchNorm2d(widths[-1]), nn.ReLU())
        self.head = nn.Linear(widths[-1], classes)
        self.cells = cells

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in range(len(self.reductions) + 1):
            if stage:
                x = self.reductions[stage - 1](x)
            for cell in range(stage * self.cells, (stage + 1) * self.cells):
                x = self.cell(cell, x)
        y: Tensor = self.head(self.last(x).mean(dim=(2, 3)))
        return y

    def cell(self, cell: int, x: Tensor) -> Tensor:
        """The output of one of the cells: each node is the sum of its edges."""
        nodes = [x]
        for node in (1, 2, 3):
            arriving = [
                getattr(self, f"op_{source}_{node}")((cell, nodes[source]))
                for source in range(node)
            ]
            nodes.append(reduce(add, arriving))
        return nodes[-1]


def edge(widths: list[int]) -> OneOf:
    """One choice of operation for the same edge of all cells; `widths` are the cells' channels."""
    return OneOf(
        {
            "avg_pool_3x3": InEachCell(lambda _: average_pool(), widths),
            "none": Nothing(),
            "nor_conv_1x1": InEachCell(lambda width: convolution(width, width, 1), widths),
            "nor_conv_3x3": InEachCell(lambda width: convolution(width, width, 3), widths),
            "skip_connect": InEachCell(lambda _: nn.Identity(), widths),
        }
    )


class InEachCell(nn.Module):
    """An operation with separate weights in each cell; takes the cell's number and a tensor."""

    def __init__(self, make: Callable[[int], nn.Module], widths: list[int]) -> None:
        super().__init__()
        self.cells = nn.ModuleList(make(width) for width in widths)

    def forward(self, at: tuple[int, Tensor]) -> Tensor:
        cell, x = at
        y: Tensor = self.cells[cell](x)
        return y


class Nothing(nn.Module):
    """Zeros; the layers before it get a gradient of zeros."""

    def forward(self, at: tuple[int, Tensor]) -> Tensor:
        return at[1] * 0


def average_pool() -> nn.Module:
    """The mean of the neighborhood; padding is not counted."""
    return nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """ReLU, convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, affine=False),
    )


class Reduction(nn.Module):
    """A residual block that halves the size and doubles the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            convolution(width, 2 * width, 3, stride=2), convolution(2 * width, 2 * width, 3)
        )
        self.short = nn.Sequential(
            nn.AvgPool2d(2, ceil_mode=True), nn.Conv2d(width, 2 * width, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.short(x) + self.branch(x)
        return y


space = NetworkSpace(
    "nas_bench_201", Network, mnist_5k, Recipe(epochs=5, learning_rate=1e-2), structure
)


def table(
    path: str | Path,
    latency: str = "latency_edgegpu_ms",
    *,
    error: str = "cifar10_valid_error_200ep",
    where: str | None = "connected",
) -> Table:
    """Measured cells, from a CSV or parquet file with a column for each edge, ``op_0_1`` and so on.

    Args:
        path: the file; some cells may be missing.
        latency: the column of the cost.
        error: the column of the error, in percent.
        where: a column of true and false, false for cells that cannot work; None if there is none.

    Raises:
        ValueError: `Table.read` refuses the file, or an operation is not in the space.
    """
    names = tuple(structure.edges)
    measured = Table.read(path, names, (error, latency), where=where, name="nas_bench_201")
    for choice in measured.choices:
        for option in choice.options:
            if option not in OPERATIONS:
                raise ValueError(
                    f"{path}: {choice.name} has no option {option!r}{nearest(option, OPERATIONS)}"
                )
    choices = tuple(Choice(name, OPERATIONS) for name in names)
    return replace(measured, choices=choices, structure=structure)
