"""A space that trains in milliseconds: two rings and a disk, told apart by a few neurons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from paretonas.data import Data, split
from paretonas.nn import Depth, Linear, NetworkSpace, OneOf, Supernet, Width
from paretonas.objectives import CostTable, DifferentiableObjective, Memory, Parameters, Slot
from paretonas.training import Recipe


class Tiny(nn.Module):
    """One choice of each kind, and one inside an option: 24 architectures, 20 networks."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 8)
        self.stem = Linear(2, self.width)
        layers = [nn.Sequential(Linear(self.width, self.width), nn.ReLU()) for _ in range(3)]
        self.op = OneOf(
            {
                "skip": nn.Identity(),
                "relu": nn.ReLU(),
                "deep": Depth(layers[:2], at_least=1),
            }
        )
        self.late = Depth([layers[2]], at_least=0)
        self.head = Linear(self.width, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.late(self.op(self.stem(x))))
        return y


def rings() -> Data:
    """Three classes by distance from the origin; a network of skips alone cannot tell them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(240, 2, generator=generator)
    labels = torch.bucketize(inputs.norm(dim=1), torch.tensor([0.9, 1.5]))
    return split(inputs, labels, valid=60, test=60)


@dataclass(frozen=True)
class Table(DifferentiableObjective):
    """A cost that is looked up and never measured."""

    table: CostTable
    name: str = "latency"
    unit: str = "ms"

    def relaxed(self, probabilities: Tensor) -> Tensor:
        return self.table.total(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        return self.table.total_at(architecture)


@pytest.fixture(scope="package")
def space() -> NetworkSpace:
    data = rings()
    return NetworkSpace("tiny", Tiny, lambda: data, Recipe(4, batch_size=20, learning_rate=0.03))


@pytest.fixture
def supernet(space) -> Supernet:
    return space.supernet()


@pytest.fixture(scope="package")
def latency_table(space) -> CostTable:
    """Milliseconds that somebody else measured."""
    one = {"skip": 0.0, "relu": 0.1, "deep": 0.0}
    ops = tuple((name,) for name in one)
    widths, late, deep = (("2",), ("8",)), (("0",), ("1",)), (("1",), ("2",))
    inner = torch.zeros(3, 2, 2)
    inner[2] = torch.tensor([[0.3, 0.5], [0.6, 1.0]])  # only where "deep" is taken
    slots = [
        Slot("stem", {"width": widths}, torch.tensor([0.2, 0.5])),
        Slot("op", {"op": ops}, torch.tensor(list(one.values()))),
        Slot("inner", {"op": ops, "width": widths, "op.options.deep": deep}, inner),
        Slot("late", {"late": late, "width": widths}, torch.tensor([[0.0, 0.0], [0.3, 0.5]])),
    ]
    return CostTable(space.choices, slots, unit="ms")


@pytest.fixture(scope="package")
def costs(space, latency_table) -> tuple[DifferentiableObjective, ...]:
    """Objectives that need no clock: a search with them repeats bit for bit."""
    return Table(latency_table), Memory.of(space.supernet(), space.load_task().example())


@pytest.fixture(scope="package")
def parameters(space) -> DifferentiableObjective:
    return Parameters.of(space.supernet(), space.load_task().example())


@pytest.fixture(scope="package")
def trainer():
    """How the search trains finalists."""
    from paretonas.finalists import train_finalists

    return train_finalists


@pytest.fixture(scope="package", autouse=True)
def short_drives():
    """A quarter of the steps of alpha: the laws are the same, and the tests take seconds."""
    from paretonas.gradient_search import model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "ALPHA_STEPS", 20)
        yield
