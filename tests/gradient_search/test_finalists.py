"""Finalists: trained from fresh weights, the same whoever else trains, stopped when asked."""

import pytest
import torch
from torch import nn

from paretonas.data import Data
from paretonas.nn import Linear, OneOf, Supernet, Width
from paretonas.space import Architecture, decode
from paretonas.training import Recipe, evaluate, reset, train

RECIPE = Recipe(epochs=2, batch_size=20, learning_rate=0.03)


@pytest.fixture
def architectures(supernet) -> list[Architecture]:
    return [decode(supernet.choices, picks) for picks in ([0, 0, 0, 0], [1, 2, 1, 1], [1, 1, 0, 0])]


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_result_is_that_of_training_each_alone(
    supernet, space, architectures, trainer, workers
):
    data = space.data()
    before = torch.get_rng_state()
    found = trainer(supernet, data, RECIPE, architectures, seed=3, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)
    assert [f.architecture for f in found] == architectures
    for finalist in found:
        network = supernet.extract(finalist.architecture)
        reset(network, seed=3)
        list(train(network, data.train, RECIPE, seed=3))
        assert same(network, finalist.network)
        assert finalist.valid == evaluate(network, data.valid)
        assert finalist.test == evaluate(network, data.test)


def test_what_the_supernet_learned_does_not_matter(supernet, space, architectures, trainer):
    settings = {"seed": 0, "workers": 1}
    (one, *_) = trainer(supernet, space.data(), RECIPE, architectures[1:2], **settings)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter += 1.0
    copies = [parameter.clone() for parameter in supernet.parameters()]
    (other, *_) = trainer(supernet, space.data(), RECIPE, architectures[1:2], **settings)
    assert same(one.network, other.network)
    pairs = zip(supernet.parameters(), copies, strict=True)
    assert all(torch.equal(parameter, copy) for parameter, copy in pairs)


def test_seeds_differ(supernet, space, architectures, trainer):
    one, other = (
        trainer(supernet, space.data(), RECIPE, architectures[1:2], seed=s, workers=1)[0]
        for s in (0, 1)
    )
    assert not same(one.network, other.network)


def test_the_number_of_threads_is_put_back(supernet, space, architectures, trainer):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        trainer(supernet, space.data(), RECIPE, architectures, seed=0, workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_training_that_fails_is_heard_of(supernet, space, architectures, trainer):
    wild = Recipe(epochs=3, batch_size=20, learning_rate=1e25)
    failed = trainer(supernet, space.data(), wild, architectures, seed=0, workers=2)
    assert [failure.architecture for failure in failed] == architectures
    assert all("training loss became" in failure.reason for failure in failed)
    assert trainer(supernet, space.data(), RECIPE, [], seed=0, workers=2) == []


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 6)
        self.stem = Linear(2, self.width)
        self.op = OneOf({"drop": nn.Dropout(0.3), "relu": nn.ReLU()})
        self.head = Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.op(self.stem(x)))


def test_dropout_repeats_too(space, trainer):
    supernet = Supernet(Dropping())
    wide = [Architecture({"width": w, "op": op}) for w in ("6", "2") for op in ("drop", "relu")]
    data: Data = space.data()
    before = torch.get_rng_state()
    one = trainer(supernet, data, RECIPE, wide, seed=0, workers=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(123)
    other = trainer(supernet, data, RECIPE, wide[::-1], seed=0, workers=2)
    for a, b in zip(one, other[::-1], strict=True):
        assert same(a.network, b.network)
