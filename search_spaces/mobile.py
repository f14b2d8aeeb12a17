"""Mobile networks for images, as in MobileNetV3 and Once-for-all, small enough for a CPU.

It has three stages of inverted residuals. Each block has a choice of kernel, expansion and
squeeze-and-excitation; each stage has a choice of width and depth; the input has a choice of
resolution: 6,530,347,008 architectures.

The same class is MobileNetV3-Large if nothing is a choice, and the space of Once-for-all:

>>> large = MobileNet(LARGE)
>>> sum(parameter.numel() for parameter in large.parameters())
5483032
>>> from paretonas.nn import Supernet
>>> once_for_all = Supernet(MobileNet(ONCE_FOR_ALL, resolutions=tuple(range(128, 225, 4))))
>>> len(once_for_all.choices)  # 20 blocks with two choices, 5 stages, the resolution
46

References:
    Howard et al. 2019, "Searching for MobileNetV3" (arXiv 1905.02244).
    Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for Efficient Deployment"
    (arXiv 1908.09791). Here the convolution after the pooling has a bias, as in torchvision.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from paretonas.nn import (
    BatchNorm2d,
    Channels,
    Conv2d,
    Depth,
    Kernel,
    Linear,
    NetworkSpace,
    OneOf,
    Ratio,
    Resolution,
    Width,
    make_divisible,
)
from paretonas.training import Recipe

from .images import mnist_5k


@dataclass(frozen=True)
class Row:
    """A row in the table of a mobile network: one stage. Several numbers are a choice.

    Attributes:
        widths: the channels that the blocks give.
        expansions: the channels inside a block, by the channels that it gets; of each block.
        kernels: the size of the depthwise convolution; of each block.
        depth: the smallest and the largest number of blocks.
        squeezes: whether a block has squeeze-and-excitation; of each block.
        stride: of the first block.
        activation: the class of the activation function.
    """

    widths: int | tuple[int, ...]
    expansions: float | tuple[float, ...]
    kernels: int | tuple[int, ...] = 3
    depth: tuple[int, int] = (1, 1)
    squeezes: bool | tuple[bool, ...] = False
    stride: int = 1
    activation: Callable[[], nn.Module] = nn.Hardswish


def several(options: Any) -> tuple[Any, ...]:
    """The options, of which there may be only one."""
    return options if isinstance(options, tuple) else (options,)


class SqueezeExcite(nn.Module):
    """Scale each channel by a function of the means of all channels (arXiv 1709.01507)."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        squeezed = make_divisible(channels // 4, 8)
        self.reduce, self.expand = Conv2d(channels, squeezed, 1), Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.expand(functional.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * functional.hardsigmoid(scale)


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, squeeze and excite, project; added to the input if it fits."""

    def __init__(self, inputs: Channels, outputs: Channels, row: Row, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        self.kernel = Kernel(*several(row.kernels), transform=True)
        self.expansion = Ratio(*several(row.expansions))
        inner = make_divisible(inputs * self.expansion, 8)
        self.expand = nn.Sequential()
        if row.expansions != 1:
            self.expand = convolution(inputs, inner, 1, activation=row.activation)
        self.depthwise = convolution(
            inner, inner, self.kernel, stride=stride, groups=inner, activation=row.activation
        )
        options = {
            "on" if squeeze else "off": SqueezeExcite(inner) if squeeze else nn.Identity()
            for squeeze in several(row.squeezes)
        }
        self.squeeze = OneOf(options)
        self.project = convolution(inner, outputs, 1, activation=nn.Identity)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


def convolution(
    inputs: Channels,
    outputs: Channels,
    kernel: Any,
    *,
    stride: int = 1,
    groups: Channels = 1,
    activation: Callable[[], nn.Module] = nn.Hardswish,
) -> nn.Sequential:
    """Convolution, batch norm, activation."""
    return nn.Sequential(
        Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        BatchNorm2d(outputs),
        activation(),
    )


class Stage(nn.Module):
    """Blocks of one width; the first one may reduce the image."""

    def __init__(self, inputs: Channels, row: Row) -> None:
        super().__init__()
        # A plain number, if there is one only, so that it equals that of another stage.
        self.width: Channels = row.widths if isinstance(row.widths, int) else Width(*row.widths)
        least, most = row.depth
        blocks = [InvertedResidual(inputs, self.width, row, row.stride)]
        blocks += [InvertedResidual(self.width, self.width, row, 1) for _ in range(1, most)]
        self.depth = Depth(blocks, at_least=least)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.depth(x)
        return y


class MobileNet(nn.Module):
    """The network: a convolution with stride 2, stages, and a classifier with one hidden layer.

    Args:
        rows: the stages.
        stem: the channels of the first convolution.
        last: the channels of the last convolution, by those of the last stage.
        hidden: the features of the hidden layer.
        inputs: the channels of an image.
        classes: the number of classes.
        resolutions: sizes to which images are resized, a choice; None leaves them as they are.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        stem: int = 16,
        last: int = 6,
        hidden: int = 1280,
        inputs: int = 3,
        classes: int = 1000,
        resolutions: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        self.resolution = nn.Sequential() if resolutions is None else Resolution(*resolutions)
        self.stem = convolution(inputs, stem, 3, stride=2)
        self.stages = nn.Sequential()
        width: Channels = stem
        for row in rows:
            stage = Stage(width, row)
            self.stages.append(stage)
            width = stage.width
        self.last = convolution(width, width * last, 1)
        self.hidden = nn.Sequential(Linear(width * last, hidden), nn.Hardswish())
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.stages(self.stem(self.resolution(x))))
        y: Tensor = self.head(self.hidden(x.mean((2, 3))))
        return y


LARGE = (  # MobileNetV3-Large, table 1 of its paper
    Row(16, 1, activation=nn.ReLU),
    Row(24, 4, stride=2, activation=nn.ReLU),
    Row(24, 3, activation=nn.ReLU),
    Row(40, 3, 5, depth=(3, 3), squeezes=True, stride=2, activation=nn.ReLU),
    Row(80, 6, stride=2),
    Row(80, 2.5),
    Row(80, 2.3, depth=(2, 2)),
    Row(112, 6, depth=(2, 2), squeezes=True),
    Row(160, 6, 5, depth=(3, 3), squeezes=True, stride=2),
)

_elastic = partial(Row, expansions=(3, 4, 6), kernels=(3, 5, 7), depth=(2, 4))

ONCE_FOR_ALL = (
    Row(16, 1, activation=nn.ReLU),
    _elastic(24, stride=2, activation=nn.ReLU),
    _elastic(40, stride=2, squeezes=True, activation=nn.ReLU),
    _elastic(80, stride=2),
    _elastic(112, squeezes=True),
    _elastic(160, stride=2, squeezes=True),
)


def small() -> MobileNet:
    """The network of the space, for gray images of 28 x 28."""
    row = partial(_elastic, depth=(1, 2), squeezes=(False, True))
    rows = (row((8, 12), stride=2), row((16, 24), stride=2), row((24, 40)))
    resolutions = (20, 24, 28)
    return MobileNet(rows, stem=8, hidden=64, inputs=1, classes=10, resolutions=resolutions)


space = NetworkSpace("mobile", small, mnist_5k, Recipe(epochs=5, learning_rate=1e-2))
