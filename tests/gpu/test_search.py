"""A whole search on a GPU, and where it waits for it."""

import math

import pytest
import torch
from torch import nn

from paretonas import search
from paretonas.data import split
from paretonas.evaluation import Evaluation
from paretonas.gradient_search import settings
from paretonas.nn import Linear, NetworkSpace, OneOf, Width
from paretonas.nn.conversion import convert
from paretonas.objectives import Macs, Memory, Parameters, PeakMemory, TrainedMetric, trained_metric
from paretonas.space import every
from paretonas.training import Recipe

CUDA = torch.device("cuda")


class Small(nn.Module):
    """Two choices."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 8)
        self.stem, self.head = Linear(2, self.width), Linear(self.width, 3)
        self.op = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh(), "skip": nn.Identity()})

    def forward(self, x):
        return self.head(self.op(self.stem(x)))


@pytest.fixture
def space():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(240, 2, generator=generator)
    labels = torch.bucketize(inputs.norm(dim=1), torch.tensor([0.9, 1.5]))
    data = split(inputs, labels, valid=60, test=60)
    return NetworkSpace("small", Small, data, Recipe(2, batch_size=20, learning_rate=0.03))


@pytest.fixture
def found(monkeypatch):
    """The device is there."""
    for module in (settings, trained_metric):
        monkeypatch.setattr(module, "find_device", torch.device)


def test_a_search_ends_with_a_front_on_the_device(space, cuda, found, tmp_path):
    supernet, example = space.supernet(), space.load_task().example()
    costs = [Memory.of(supernet, example), Macs.of(supernet, example)]
    cuda.since()
    steps = list(
        search(space, objectives=costs, device="cuda", budget="60steps", rays=3, run=tmp_path / "r")
    )
    front = steps[-1].front
    assert len(front) and all(math.isfinite(p.objectives["error_percent"]) for p in front)
    crossed = cuda.since()
    loop = {what: n for what, n in crossed.items() if "updates.py" in what}
    weights = max(step.step for step in steps if step.phase == "weights")
    assert set(loop) == {"read: paretonas/training/updates.py check"}
    assert weights * 2 <= sum(loop.values())


def test_a_trained_metric_trains_where_it_is_told(space, cuda, found):
    objective = TrainedMetric(space, device="cuda")
    architecture = next(every(space.choices))
    (finalist,) = objective.train_networks([architecture])
    assert all(t.is_cuda for t in finalist.network.state_dict().values())
    assert not any(t.is_cuda for t in objective.example()[None])
    here = TrainedMetric(space).finalist(architecture)
    assert finalist.valid == pytest.approx(here.valid, rel=1e-4)


def test_measured_objectives_take_networks_that_are_there(space, cuda, found):
    supernet, example = space.supernet(), space.load_task().example()
    kinds = (Memory, Parameters, PeakMemory, Macs)
    here = [kind.of(supernet, example) for kind in kinds]
    there = [kind.of(space.supernet().to("cuda"), example) for kind in kinds]
    trained = TrainedMetric(space, device="cuda")
    architecture = list(every(space.choices))[-1]
    assert [o.exact(architecture) for o in there] == [o.exact(architecture) for o in here]
    (point,) = Evaluation([trained, *here])([architecture])
    for objective in here:
        assert point.objectives[objective.column] == pytest.approx(objective.exact(architecture))


def test_a_network_on_the_device_is_converted(cuda):
    network = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU()).to("cuda")
    example = torch.ones(1, 1, 12, 12)
    converted = convert(network, example, widths=(0.5, 1.0))
    assert {p.device.type for p in converted.parameters()} <= {"cuda", "cpu"}
