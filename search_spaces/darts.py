"""DARTS: normal and reduction cells of four nodes with seven operations, 10^18 architectures.

Liu, Simonyan and Yang 2019, "DARTS: differentiable architecture search" (arXiv 1806.09055). A cell
gets the outputs of the two cells before it. Each of its four nodes sums two operations on two of
the tensors before it; the output joins all four nodes. All normal cells share their picks and have
their own weights; so do all reduction cells, which halve the image and double the channels.

There are 34 choices: the operation on each of the 14 edges of a cell, and the two inputs of the
nodes 3 to 5 (node 2 takes both that there are). An operation on an edge that no node takes is idle:
180^2 x 7^16 = 1.08e18 networks are different.

`architecture` reads a published genotype, and `genotype` writes one:

>>> text = genotype(architecture(DARTS_V2))
>>> text[:79]
"Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0),"
>>> architecture(text) == architecture(DARTS_V2)
True
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretonas.nn import Connect, NetworkSpace, OneOf
from paretonas.space import Architecture, encode, nearest
from paretonas.training import Recipe

from .images import mnist_5k

OPERATIONS = (
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = (2, 3, 4, 5)  # 0 and 1 are the outputs of the two cells before
KINDS = ("normal", "reduce")

# The published cells: DARTS of first and second order, and PC-DARTS (Xu et al. 2020, arXiv
# 1907.05737) on CIFAR-10.
DARTS_V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('skip_connect', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
PC_DARTS = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), "
    "('dil_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), "
    "('dil_conv_3x3', 1)], normal_concat=range(2, 6), reduce=[('sep_conv_5x5', 1), "
    "('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], reduce_concat=range(2, 6))"
)


class Darts(nn.Module):
    """A stack of cells; the cells at one third and at two thirds of it are reduction cells.

    The network of the paper for CIFAR-10 is ``Darts(36, 20, Stem(3, 36))``, that for ImageNet
    ``Darts(48, 14, ImageNetStem(48), classes=1000)``. The auxiliary head and the dropped paths of
    their training are left out.

    Args:
        channels: the channels of each node in the first cells.
        layers: the number of cells.
        stem: what makes the two inputs of the first cell; by default a small one for gray images.
        classes: the number of classes.
    """

    def __init__(
        self,
        channels: int = 8,
        layers: int = 3,
        stem: Stem | ImageNetStem | None = None,
        classes: int = 10,
    ) -> None:
        super().__init__()
        self.stem = Stem(1, channels, stride=2) if stem is None else stem
        before, last, halved = self.stem.channels, self.stem.channels, self.stem.halves
        self.cells = nn.ModuleList()
        for layer in range(layers):
            reduces = layer in (layers // 3, 2 * layers // 3)
            channels *= 2 if reduces else 1
            self.cells.append(Cell(before, last, channels, reduces, halved))
            before, last, halved = last, len(NODES) * channels, reduces
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        before, last = self.stem(x)
        for cell in self.cells:
            before, last = last, cell(before, last)
        y: Tensor = self.head(last.mean(dim=(2, 3)))
        return y


class Stem(nn.Module):
    """A convolution; both inputs of the first cell are its output.

    Attributes:
        channels: of both inputs.
        halves: whether the last input is half as large as the one before it.
    """

    halves = False

    def __init__(self, inputs: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.channels = 3 * channels
        self.convolution = nn.Sequential(
            nn.Conv2d(inputs, self.channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(self.channels),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.convolution(x)
        return x, x


class ImageNetStem(nn.Module):
    """Three convolutions; the inputs of the first cell have a quarter and an eighth of the size.

    Attributes:
        channels: of both inputs.
        halves: whether the last input is half as large as the one before it.
    """

    halves = True

    def __init__(self, channels: int, inputs: int = 3) -> None:
        super().__init__()
        self.channels = channels
        self.first = nn.Sequential(
            nn.Conv2d(inputs, channels // 2, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.second = convolution(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return x, self.second(x)


class Cell(nn.Module):
    """A cell: two inputs, four nodes.

    Args:
        before: the channels of the output of the cell before the last one.
        last: the channels of the output of the last cell.
        channels: of each node.
        reduces: whether this is a reduction cell.
        halved: whether the last cell was one.
    """

    def __init__(self, before: int, last: int, channels: int, reduces: bool, halved: bool) -> None:
        super().__init__()
        first = FactorizedReduce if halved else partial(convolution, kernel=1)
        self.before = first(before, channels)
        self.last = convolution(last, channels, 1)
        self.nodes = nn.ModuleList()
        kind = KINDS[reduces]
        for node in NODES:
            edges = []
            for source in range(node):
                options = operations(channels, stride=2 if reduces and source < 2 else 1)
                edges.append(OneOf(options, name=f"{kind}_op_{source}_{node}"))
            self.nodes.append(Connect(edges, take=2, name=f"{kind}_inputs_{node}"))

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        tensors = [self.before(before), self.last(last)]
        for node in self.nodes:
            tensors.append(node(*tensors))
        return torch.cat(tensors[2:], dim=1)


def operations(channels: int, stride: int) -> dict[str, nn.Module]:
    """The operations on an edge.

    The supernet of the paper has one more, none, which its genotypes never hold. In its supernet,
    but not in its trained networks, a batch norm follows each pooling.
    """

    def separable(kernel: int) -> nn.Module:
        return nn.Sequential(
            depthwise(channels, kernel, stride=stride), depthwise(channels, kernel)
        )

    def dilated(kernel: int) -> nn.Module:
        return depthwise(channels, kernel, stride=stride, dilation=2)

    skips = stride == 1
    make: dict[str, Callable[[], nn.Module]] = {
        "max_pool_3x3": lambda: nn.MaxPool2d(3, stride, padding=1),
        "avg_pool_3x3": lambda: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
        "skip_connect": lambda: nn.Identity() if skips else FactorizedReduce(channels, channels),
        "sep_conv_3x3": lambda: separable(3),
        "sep_conv_5x5": lambda: separable(5),
        "dil_conv_3x3": lambda: dilated(3),
        "dil_conv_5x5": lambda: dilated(5),
    }
    return {name: make[name]() for name in OPERATIONS}


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    """ReLU, convolution, batch norm."""
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def depthwise(channels: int, kernel: int, stride: int = 1, dilation: int = 1) -> nn.Module:
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        ),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )


class FactorizedReduce(nn.Module):
    """ReLU, two pointwise convolutions of stride 2 that see different pixels, batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        height, width = x.shape[2:]
        if height % 2 or width % 2:  # the paper has even sizes only; here zeros make them even
            x = functional.pad(x, (0, width % 2, 0, height % 2))
        y: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], dim=1))
        return y


def architecture(genotype: str) -> Architecture:
    """The architecture of a genotype, as the authors' code prints it; it is read, not run.

    Operations on edges that no node takes are the first one. The order of the two operations of a
    node means nothing.

    Args:
        genotype: such as ``"Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6),
            reduce=[...], reduce_concat=range(2, 6))"``. A name and ``=`` may stand before it.

    Raises:
        ValueError: the text is no genotype, or one of another space.
    """
    fields = _fields(genotype)
    picks = {}
    for kind in KINDS:
        if sorted(fields[f"{kind}_concat"]) != [*NODES]:
            raise ValueError(
                f"a cell of this space joins its nodes 2, 3, 4 and 5, got {kind}_concat = "
                f"{fields[f'{kind}_concat']}"
            )
        pairs = fields[kind]
        if len(pairs) != 2 * len(NODES):
            raise ValueError(f"{kind} must have 8 pairs, two for each node, got {len(pairs)}")
        for index, node in enumerate(NODES):
            taken = dict(_pair(pair, kind, node) for pair in pairs[2 * index : 2 * index + 2])
            if len(taken) < 2:
                raise ValueError(f"node {node} of {kind} must have two different inputs")
            if node > 2:
                picks[f"{kind}_inputs_{node}"] = "+".join(map(str, sorted(taken)))
            for source in range(node):
                picks[f"{kind}_op_{source}_{node}"] = taken.get(source, OPERATIONS[0])
    return Architecture({choice.name: picks[choice.name] for choice in space.choices})


def genotype(architecture: Mapping[str, str]) -> str:
    """The genotype of an architecture, in the form of the authors' code.

    Raises:
        ValueError: it is not an architecture of this space.
    """
    encode(space.choices, architecture)
    cells = []
    for kind in KINDS:
        pairs = []
        for node in NODES:
            inputs = architecture[f"{kind}_inputs_{node}"] if node > 2 else "0+1"
            for source in map(int, inputs.split("+")):
                pairs.append((architecture[f"{kind}_op_{source}_{node}"], source))
        cells.append(f"{kind}={pairs}, {kind}_concat=range(2, 6)")
    return f"Genotype({', '.join(cells)})"


def _fields(text: str) -> dict[str, list[Any]]:
    """The four fields of a genotype. Python's parser reads the text, and nothing runs it."""
    if not isinstance(text, str):
        raise TypeError(f"a genotype is a text, such as str(genotype), got {type(text).__name__}")
    names = [f"{kind}{suffix}" for kind in KINDS for suffix in ("", "_concat")]
    rule = f"a genotype is the text Genotype({'=..., '.join(names)}=...)"
    if len(text) > _LONGEST:
        raise ValueError(f"{rule} of at most {_LONGEST} characters, got {len(text)}")
    try:
        (statement,) = ast.parse(text.strip()).body
        call = getattr(statement, "value", None)  # of an expression or an assignment
        if not isinstance(call, ast.Call) or getattr(call.func, "id", "") != "Genotype":
            raise ValueError
        fields = dict(zip(names, map(_list, call.args), strict=False))
        fields |= {word.arg or "": _list(word.value) for word in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{rule}, got {' '.join(text.split())[:80]}") from None
    if sorted(fields) != sorted(names):
        raise ValueError(f"{rule}, got the fields {', '.join(fields) or 'none'}")
    return fields


_LONGEST = 10_000  # characters


def _list(node: ast.expr) -> list[Any]:
    """A list or a range of numbers.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range":
        bounds = [ast.literal_eval(bound) for bound in node.args]
        if not all(isinstance(bound, int) and abs(bound) < 100 for bound in bounds):
            raise ValueError
        return list(range(*bounds))
    found = ast.literal_eval(node)
    if not isinstance(found, list | tuple):
        raise ValueError
    return list(found)


def _pair(pair: Any, kind: str, node: int) -> tuple[int, str]:
    """The input of a pair and its operation.

    Raises:
        ValueError: it is not a pair, or the input comes after the node, or the operation is of
            another space.
    """
    if not isinstance(pair, tuple | list) or [*map(type, pair)] != [str, int]:
        raise ValueError(f"{kind} must have pairs such as ('sep_conv_3x3', 0), got {pair!r}")
    operation, source = pair
    if operation not in OPERATIONS:
        raise ValueError(f"{kind} has no operation {operation!r}{nearest(operation, OPERATIONS)}")
    if not 0 <= source < node:
        raise ValueError(f"an input of node {node} of {kind} is 0 to {node - 1}, got {source}")
    return source, operation


space = NetworkSpace("darts", Darts, mnist_5k, Recipe(epochs=5, learning_rate=1e-2))
