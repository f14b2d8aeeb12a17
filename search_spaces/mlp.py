"""A multilayer perceptron for a table: depth, widths and activation; 20,480 architectures.

Each block is a hidden layer with a residual connection around it, as in the ResNet for tables of
Gorishniy et al. 2021, "Revisiting deep learning models for tabular data" (arXiv 2106.11959). There
are up to four blocks, each with a width of its own, between layers of one width. All activations
are one choice. The table has 64 columns: the pixels of scikit-learn's small digits.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from paretonas.nn import BatchNorm1d, Depth, Linear, NetworkSpace, OneOf, Width
from paretonas.training import Recipe

from .images import digits_8x8


class Perceptron(nn.Module):
    """The network.

    Args:
        columns: the number of inputs.
        outputs: the number of outputs.
        widths: the numbers of features to choose from, between the blocks.
        hidden: the numbers of features to choose from, in each block.
        depth: the largest number of blocks; the smallest is 0.
    """

    def __init__(
        self,
        columns: int = 64,
        outputs: int = 10,
        widths: Sequence[int] = (8, 16, 32, 64),
        hidden: Sequence[int] = (8, 16, 32, 64),
        depth: int = 4,
    ) -> None:
        super().__init__()
        self.width = Width(*widths)
        self.first = Linear(columns, self.width)
        self.blocks = Depth([Block(self.width, hidden) for _ in range(depth)], at_least=0)
        self.norm = BatchNorm1d(self.width)
        self.activation = activation()
        self.head = Linear(self.width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.first(x.flatten(1)))
        y: Tensor = self.head(self.activation(self.norm(x)))
        return y


class Block(nn.Module):
    """The input plus what a hidden layer adds to it."""

    def __init__(self, width: Width, hidden: Sequence[int]) -> None:
        super().__init__()
        self.hidden = Width(*hidden)
        self.branch = nn.Sequential(
            BatchNorm1d(width),
            Linear(width, self.hidden),
            activation(),
            Linear(self.hidden, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.branch(x)
        return x + y


def activation() -> OneOf:
    """The choice of activation, the same one everywhere."""
    options = {"relu": nn.ReLU(), "gelu": nn.GELU(), "silu": nn.SiLU(), "tanh": nn.Tanh()}
    return OneOf(options, name="activation")


space = NetworkSpace("mlp", Perceptron, digits_8x8, Recipe(epochs=8, learning_rate=1e-2))
