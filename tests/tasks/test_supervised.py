"""Inputs, batch sizes and the number of looks at the examples of a `Supervised` task."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    SequentialSampler,
    TensorDataset,
)

from paretonas.data import Preprocessing
from paretonas.nn import NetworkSpace, OneOf
from paretonas.tasks import Classification, Head, MultiTask, Regression, Supervised, metrics
from paretonas.tasks.task import OutputError
from paretonas.training import Recipe

X = torch.randint(256, (12, 1, 4, 4), dtype=torch.uint8)
Y = torch.arange(12) % 3
RULE = "the inputs are uint8, which the network does not take: give the task preprocessing="


def images(dtype=torch.uint8, **more) -> Classification:
    return Classification(*[(X.to(dtype), Y)] * 3, **more)


class Raw(nn.Module):
    """Takes bytes, as some networks do."""

    def __init__(self, scale=255.0) -> None:
        super().__init__()
        self.layer, self.scale = nn.Linear(16, 3), scale

    def forward(self, x):
        if x.dtype == torch.uint8:
            x = x / self.scale
        return self.layer(x.flatten(1))


class Broken(Raw):
    def forward(self, x):
        return super().forward(x[:, :, :3])


def linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3))


def test_bytes_that_a_network_does_not_take_are_refused_with_the_remedy():
    task, network = images(), linear()
    for attempt in (lambda: task.loss(network, (X, Y)), lambda: task.evaluate(network, "test")):
        with pytest.raises(OutputError, match=RULE):
            attempt()
    pixels = images(preprocessing=Preprocessing("pixels from 0 to 255", 1 / 255))
    assert pixels.loss(network, (X, Y)).isfinite()
    with pytest.raises(OutputError, match="the inputs are int64, which"):
        images(torch.long).loss(network, (X.long(), Y))


def test_the_heads_of_a_network_are_refused_bytes_as_well():
    heads = {
        "kind": Head(functional.cross_entropy, metrics.error()),
        "sum": Head(lambda out, y: out.square().mean(), metrics.mae()),
    }
    task = MultiTask(*[(X, {"kind": Y, "sum": Y.float()})] * 3, heads=heads)
    with pytest.raises(OutputError, match=RULE):
        task.losses(linear(), (X, {"kind": Y, "sum": Y.float()}))


def test_a_network_that_takes_bytes_gets_them_and_keeps_its_own_errors():
    assert images().loss(Raw(), (X, Y)).isfinite()
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        images().loss(Broken(), (X, Y))


def test_a_search_refuses_bytes_before_anything_is_trained():
    from paretonas import search

    def network():
        return nn.Sequential(nn.Flatten(), OneOf({"a": nn.Linear(16, 3), "b": nn.Linear(16, 3)}))

    space = NetworkSpace("bytes", network, images(), Recipe(1, 4))
    with pytest.raises(OutputError, match=RULE):
        list(search(space, budget="90steps", objectives="parameters"))


@pytest.mark.parametrize(
    ("size", "error", "message"),
    [
        (0, ValueError, "batch_size must be 1 or more, got 0"),
        (-3, ValueError, "batch_size must be 1 or more, got -3"),
        (2.5, TypeError, "batch_size must be a whole number, got 2.5"),
    ],
)
def test_a_batch_needs_an_example(size, error, message):
    with pytest.raises(error, match=message):
        images(batch_size=size)


def test_a_task_tells_how_many_examples_a_training_batch_has():
    pairs = TensorDataset(X, Y)
    loaders = {
        5: DataLoader(pairs, 5),
        3: DataLoader(pairs, batch_sampler=BatchSampler(SequentialSampler(pairs), 3, False)),
        None: DataLoader(pairs, batch_sampler=[[0, 1], [2]]),
    }
    for size, loader in loaders.items():
        task = Classification(loader, (X, Y), (X, Y), batch_size=7)
        assert task.sized(9).training_batch == size
    assert images().sized(9).training_batch == 9
    assert images(batch_size=7).sized(9).training_batch == 7


class Watched(Dataset):
    """Counts how often each example is fetched."""

    def __init__(self) -> None:
        self.fetched = [0] * 7

    def __len__(self) -> int:
        return 7

    def __getitem__(self, index):
        self.fetched[index] += 1
        return torch.full((2,), float(index)), float(index)


def test_evaluations_look_at_the_first_example_once_to_find_their_batch_size():
    valid = Watched()
    task = Regression(Watched(), valid, Watched())
    for _ in range(3):
        task.evaluate(nn.Linear(2, 1), "valid")
    assert valid.fetched == [4, 3, 3, 3, 3, 3, 3]
    assert task.sized(5).evaluate(nn.Linear(2, 1), "valid")
    assert valid.fetched == [5, 4, 4, 4, 4, 4, 4]


def test_a_loader_is_not_looked_at_for_a_batch_size():
    valid = Watched()
    loss, metric = functional.mse_loss, metrics.mae()
    task = Supervised(*[DataLoader(valid, 3)] * 3, loss=loss, metric=metric)
    assert len([*task.batches("valid")]) == 3
    assert valid.fetched == [1] * 7
