"""A U-Net that labels each pixel of an image: levels, widths and kernels; 1,548 networks.

Ronneberger, Fischer and Brox 2015, "U-Net: convolutional networks for biomedical image
segmentation" (arXiv 1505.04597). Each level works at half the resolution of the level above it, and
gives its result back to it, where both are concatenated. There are two to four levels, each with a
width and a kernel: 5,184 architectures. Some of them differ only in levels that do not exist.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

from paretonas.data import Preprocessing
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
        classes: int = 3,
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
def shapes() -> Segmentation:
    """Generated 16 x 16 images: in noise a disk, label 1, and before it a cross, label 2."""
    told = Preprocessing(
        "gray pixels from 0 to 255",
        scale=1 / 255,
        mean=0.4,
        std=0.2,
        layout="batch, channel, height, width",
        labels=("background", "disk", "cross"),
    )
    splits = [drawn(count, seed) for seed, count in enumerate((960, 300, 300))]
    return Segmentation(
        *[(torch.from_numpy(told(pixels)), masks) for pixels, masks in splits],
        preprocessing=told,
    )


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Pixels (count, 1, 16, 16) and masks (count, 16, 16), integers."""
    draw, at = torch.Generator().manual_seed(seed), torch.arange(16.0)
    masks = torch.zeros(count, 16, 16, dtype=torch.long)
    for label in (1, 2):
        y, x = 3 + 10 * torch.rand(2, count, 1, 1, generator=draw)
        size = 2 + 3 * torch.rand(count, 1, 1, generator=draw)
        down, right = (at[:, None] - y).abs(), (at - x).abs()
        disk = down.square() + right.square() <= size.square()
        cross = (torch.maximum(down, right) <= size) & (torch.minimum(down, right) <= 1)
        masks[disk if label == 1 else cross] = label
    noise = torch.randn(count, 16, 16, generator=draw)
    pixels = (80 + 60 * (masks > 0) + 30 * noise).clamp(0, 255).byte()
    return pixels[:, None], masks


space = NetworkSpace("unet", UNet, shapes, Recipe(epochs=8, batch_size=32, learning_rate=1e-2))
