"""The smallest space: three choices, 18 architectures, real 8 x 8 digits, one second per training.

Everything about it can be computed, so the tests use it as an oracle, and the documents as an
example. Read `Toy` from top to bottom: any network becomes a search space in this way.
"""

from __future__ import annotations

from torch import Tensor, nn

from paretonas.nn import BatchNorm2d, Conv2d, Depth, Linear, NetworkSpace, OneOf, Width
from paretonas.training import Recipe

from .images import digits_8x8


class Toy(nn.Module):
    """A convolutional network with one choice of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(4, 16)  # the number of channels, in all layers
        self.stem = nn.Sequential(Conv2d(1, self.width, 3, padding=1), nn.ReLU())
        self.mix = OneOf(  # one of three modules
            {
                "skip": nn.Identity(),
                "pool": nn.MaxPool2d(3, stride=1, padding=1),
                "conv5": block(self.width, kernel=5),
            }
        )
        self.deep = Depth(  # none, one or two of these
            [block(self.width, kernel=3), block(self.width, kernel=3)], at_least=0
        )
        self.shrink = nn.MaxPool2d(4)
        self.head = Linear(self.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(self.deep(self.mix(self.stem(x))))
        y: Tensor = self.head(x.mean(dim=(2, 3)))
        return y


def block(width: Width, kernel: int) -> nn.Module:
    """Convolution, batch norm, ReLU; the shape stays."""
    return nn.Sequential(
        Conv2d(width, width, kernel, padding=kernel // 2, bias=False), BatchNorm2d(width), nn.ReLU()
    )


space = NetworkSpace("toy", Toy, digits_8x8, Recipe(epochs=8, learning_rate=1e-2))
