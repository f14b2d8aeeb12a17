"""A 1-D convolutional network for MNIST-1D signals, where the architecture matters most.

It has a stem, four layers with a choice of operation, and a choice of width: 4^4 x 2 = 512
architectures. They are few and cheap enough to train all of them.
"""

from __future__ import annotations

from torch import Tensor, nn

from paretonas.nn import BatchNorm1d, Channels, Conv1d, Linear, NetworkSpace, OneOf, Width
from paretonas.training import Recipe

from .images import mnist1d


def operations(width: Width) -> OneOf:
    """A choice among operations that keep the shape."""
    return OneOf(
        {
            "skip": nn.Identity(),
            "pool3": nn.MaxPool1d(3, stride=1, padding=1),
            "sep5": Residual(
                Conv1d(width, width, 5, padding=2, groups=width, bias=False),
                convolution(width, width, kernel=1),
            ),
            "conv5": Residual(convolution(width, width, kernel=5)),
        }
    )


class Residual(nn.Sequential):
    """The input plus the output of the layers."""

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for layer in self:
            y = layer(y)
        return x + y


def convolution(inputs: Channels, outputs: Channels, kernel: int, stride: int = 1) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        Conv1d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        BatchNorm1d(outputs),
        nn.ReLU(),
    )


class Signals(nn.Module):
    """The network: two layers at length 20, two at length 10."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(6, 16)
        self.stem = convolution(1, self.width, kernel=5, stride=2)
        self.early = nn.Sequential(operations(self.width), operations(self.width))
        self.reduce = nn.MaxPool1d(2)
        self.late = nn.Sequential(operations(self.width), operations(self.width))
        self.head = Linear(self.width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.late(self.reduce(self.early(self.stem(x))))
        y: Tensor = self.head(x.mean(dim=2))
        return y


space = NetworkSpace("signals", Signals, mnist1d, Recipe(epochs=6, learning_rate=1e-2))
