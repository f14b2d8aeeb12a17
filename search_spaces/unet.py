"""A U-Net that labels each pixel of a digit: levels, widths and kernels; 1,548 networks.

Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image
segmentation" (arXiv 1505.04597). Each level works at half the resolution of the level above it, and
gives its result back to it, where both are concatenated. There are two to four levels, each with a
width and a kernel: 5,184 architectures. Some of them differ only in levels that do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from paretonas.data import Split
from paretonas.nn import (
    BatchNorm2d,
    Channels,
    Conv2d,
    ConvTranspose2d,
    Depth,
    Kernel,
    NetworkSpace,
    Width,
)
from paretonas.tasks import Segmentation
from paretonas.training import Recipe

from .images import DIGITS, mnist_5k


class UNet(nn.Module):
    """The network, for images whose height and width are multiples of ``2 ** (levels - 1)``.

    That of the paper, with padding and batch norms as usual today, is
    ``UNet([(64,), (128,), (256,), (512,), (1024,)], kernels=(3,), at_least=5, inputs=3)``.

    Args:
        widths: for each level, from the highest resolution to the lowest, the numbers of channels
            to choose from.
        kernels: the sizes of kernel to choose from, at each level.
        at_least: the smallest number of levels.
        inputs: the channels of the images.
        classes: the number of classes.
    """

    def __init__(
        self,
        widths: Sequence[Sequence[int]] = ((4, 8, 12), (8, 16, 24), (8, 16, 32), (16, 32, 48)),
        kernels: Sequence[int] = (3, 5),
        at_least: int = 2,
        inputs: int = 1,
        classes: int = 11,
    ) -> None:
        super().__init__()
        sizes = [
            (Width(*options, name=f"width_{level}"), Kernel(*kernels, name=f"kernel_{level}"))
            for level, options in enumerate(widths, start=1)
        ]
        self.first = block(inputs, *sizes[0])
        self.below = levels_from(2, sizes, at_least)
        self.head = Conv2d(sizes[0][0], classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.below(self.first(x)))
        return y


def levels_from(number: int, sizes: Sequence[tuple[Width, Kernel]], at_least: int) -> nn.Module:
    """A level and all those below it, or nothing; the shape stays."""
    if number > len(sizes):
        return nn.Identity()
    deeper = levels_from(number + 1, sizes, at_least)
    level = Level(sizes[number - 2], sizes[number - 1], deeper)
    return level if number <= at_least else Depth([level], at_least=0, name=f"level_{number}")


class Level(nn.Module):
    """Down to half the resolution, to what lies deeper, and up to the concatenation."""

    def __init__(
        self, above: tuple[Width, Kernel], here: tuple[Width, Kernel], deeper: nn.Module
    ) -> None:
        super().__init__()
        (outer, kernel), (width, _) = above, here
        self.down = nn.MaxPool2d(2)
        self.block = block(outer, *here)
        self.deeper = deeper
        self.up = ConvTranspose2d(width, outer, 2, stride=2)
        self.join = block(outer + outer, outer, kernel)

    def forward(self, x: Tensor) -> Tensor:
        y = self.up(self.deeper(self.block(self.down(x))))
        joined: Tensor = self.join(torch.cat([x, y], dim=1))
        return joined


def block(inputs: Channels, outputs: Width, kernel: Kernel) -> nn.Module:
    """Twice a convolution, batch norm and ReLU."""
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            Conv2d(channels, outputs, kernel, padding=kernel // 2, bias=False),
            BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


@cache
def digit_pixels() -> Segmentation:
    """Real digits of MNIST on 16 x 16 pixels; each pixel of ink has the label of its digit.

    Label 0 is the background. So a network must see a whole digit, and keep its outline.
    """
    data = mnist_5k()
    told = data.preprocessing
    assert told is not None
    background = float(told([[0]])[0, 0])

    def examples(split: Split) -> tuple[Tensor, Tensor]:
        small = functional.avg_pool2d(split.inputs, 2)
        images = functional.pad(small, (1, 1, 1, 1), value=background)
        ink = images[:, 0] > float(told([[63.9]])[0, 0])  # from 64 on, a quarter
        return images, ink * (split.labels[:, None, None] + 1)

    return Segmentation(
        *map(examples, (data.train, data.valid, data.test)),
        preprocessing=replace(
            told,
            raw="16 x 16 gray pixels from 0, background, to 255, ink: means of 2 x 2 pixels of "
            "MNIST, and one pixel of background around them",
            labels=("background", *DIGITS),
        ),
    )


space = NetworkSpace("unet", UNet, digit_pixels, Recipe(epochs=5, learning_rate=1e-2))
