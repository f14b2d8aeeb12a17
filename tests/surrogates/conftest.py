"""A small space with a choice inside an option, and objectives that need no clock."""

import pytest
import torch
from torch import nn

from paretonas.nn import Depth, Linear, OneOf, Supernet, Width
from paretonas.objectives import Memory, Parameters


class Network(nn.Module):
    """24 architectures, 20 networks."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 8)
        self.stem = Linear(2, self.width)
        deep = Depth([Linear(self.width, self.width) for _ in range(2)], at_least=1)
        self.op = OneOf({"skip": nn.Identity(), "relu": nn.ReLU(), "deep": deep})
        self.late = Depth([Linear(self.width, self.width)], at_least=0)
        self.head = Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.late(self.op(self.stem(x))))


@pytest.fixture
def supernet():
    return Supernet(Network())


@pytest.fixture
def costs(supernet):
    example = torch.zeros(1, 2)
    return Parameters.of(supernet, example), Memory.of(supernet, example)
