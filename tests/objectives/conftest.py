"""Small spaces with everything in them that makes a part depend on choices elsewhere."""

import pytest
import torch
from torch import Tensor, nn

from paretonas.nn import BatchNorm2d, Conv2d, Depth, Linear, OneOf, Supernet, Width


class Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Nested(nn.Module):
    """A depth with choices in its blocks, inside of an option; a connection over all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 4)
        self.stem = Conv2d(1, self.width, 3, padding=1)

        def operation() -> OneOf:
            conv = nn.Sequential(Conv2d(self.width, self.width, 3, padding=1), nn.ReLU())
            return OneOf({"conv": conv, "skip": nn.Identity()})

        blocks = [Residual(operation()), Residual(operation())]
        self.op = OneOf({"skip": nn.Identity(), "deep": Depth(blocks, at_least=0)})
        norm = BatchNorm2d(self.width)
        self.late = Depth([nn.Sequential(norm, nn.ReLU()), nn.MaxPool2d(3, 1, 1)], at_least=0)
        self.head = Linear(self.width, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        y: Tensor = self.late(self.op(first)) + first
        return self.head(y.mean(dim=(2, 3)))


class Stage(nn.Module):
    """A connection around operations that may all be skipped: whether it costs depends on all."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)

        def operation() -> OneOf:
            conv, pool = nn.Conv2d(4, 4, 1), nn.MaxPool2d(3, 1, 1)
            return OneOf({"skip": nn.Identity(), "conv": conv, "pool": pool})

        operations = [operation() for _ in range(4)]
        self.body = Residual(nn.Sequential(*operations))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(self.stem(x))
        return y


@pytest.fixture(params=[Nested, Stage], ids=["nested", "stage"])
def supernet(request: pytest.FixtureRequest) -> Supernet:
    return Supernet(request.param())


@pytest.fixture
def example() -> Tensor:
    return torch.zeros(1, 1, 6, 6)
