"""The default space: a small residual network for 28 x 28 images, with a choice in each layer.

It has a stem, five layers at 14 x 14 and 7 x 7 with a choice of operation, and two choices of
width: 6^5 x 3 x 3 = 69,984 architectures. Every operation keeps the shape of its input, so that a
layer can be skipped.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from paretonas.nn import BatchNorm2d, Channels, Conv2d, Linear, NetworkSpace, OneOf, Width
from paretonas.training import Recipe

from .images import mnist_5k


def operations(width: Width, names: tuple[str, ...]) -> OneOf:
    """A choice among operations that keep the shape."""
    make: dict[str, Callable[[], nn.Module]] = {
        "skip": nn.Identity,
        "pool3": lambda: nn.MaxPool2d(3, stride=1, padding=1),
        "sep3": lambda: Residual(separable(width, kernel=3)),
        "dil3": lambda: Residual(separable(width, kernel=3, dilation=2)),
        "conv3": lambda: Residual(convolution(width, width, kernel=3)),
        "conv5": lambda: Residual(convolution(width, width, kernel=5)),
    }
    return OneOf({name: make[name]() for name in names})


class Residual(nn.Module):
    """The input plus the output of the branch."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        return x + y


def convolution(inputs: Channels, outputs: Channels, kernel: int, stride: int = 1) -> nn.Module:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        BatchNorm2d(outputs),
        nn.ReLU(),
    )


def separable(width: Width, kernel: int, dilation: int = 1) -> nn.Module:
    """Depthwise convolution, pointwise convolution, batch norm, ReLU."""
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        Conv2d(width, width, kernel, padding=padding, dilation=dilation, groups=width, bias=False),
        Conv2d(width, width, 1, bias=False),
        BatchNorm2d(width),
        nn.ReLU(),
    )


class Digits(nn.Module):
    """The network; `early` layers run at 14 x 14, `late` ones at 7 x 7."""

    def __init__(
        self,
        names: tuple[str, ...] = ("skip", "pool3", "sep3", "dil3", "conv3", "conv5"),
        early: int = 2,
        late: int = 3,
        widths: tuple[tuple[int, ...], tuple[int, ...]] = ((4, 8, 16), (8, 16, 32)),
    ) -> None:
        super().__init__()
        self.width1, self.width2 = Width(*widths[0]), Width(*widths[1])
        self.stem = convolution(1, self.width1, kernel=3, stride=2)
        self.early = nn.Sequential(*(operations(self.width1, names) for _ in range(early)))
        self.reduce = convolution(self.width1, self.width2, kernel=3, stride=2)
        self.late = nn.Sequential(*(operations(self.width2, names) for _ in range(late)))
        self.gather = nn.Sequential(  # a weighted sum over the positions of each channel
            Conv2d(self.width2, self.width2, 7, groups=self.width2, bias=False),
            BatchNorm2d(self.width2),
        )
        self.head = Linear(self.width2, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.gather(self.late(self.reduce(self.early(self.stem(x)))))
        y: Tensor = self.head(x.flatten(1))
        return y


space = NetworkSpace("digits", Digits, mnist_5k, Recipe(epochs=5, learning_rate=1e-2))


def _small() -> Digits:
    return Digits(("skip", "sep3", "conv3", "conv5"), 1, 2, ((4, 8), (8, 16)))


# With 256 architectures every one can be trained: the ground truth of search quality.
small = NetworkSpace("digits_small", _small, mnist_5k, Recipe(epochs=5, learning_rate=1e-2))
