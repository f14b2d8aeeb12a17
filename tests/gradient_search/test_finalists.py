"""Finalists: trained from fresh weights, the same whoever else trains, stopped when asked."""

import copy
import random
import threading

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas.finalists import train_finalists
from paretonas.forward import Generators, seeded
from paretonas.nn import Linear, NetworkSpace, OneOf, Supernet, Width
from paretonas.space import Architecture, decode, every
from paretonas.training import Recipe, evaluate, train

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
    task = space.load_task()
    before = torch.get_rng_state()
    found = trainer(supernet, task, RECIPE, architectures, seed=3, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)
    assert [f.architecture for f in found] == architectures
    for finalist in found:
        network = supernet.fresh(finalist.architecture, seed=3)
        list(train(network, task, RECIPE, seed=3))
        assert same(network, finalist.network)
        assert finalist.valid == evaluate(network, task, "valid")
        assert finalist.test == evaluate(network, task, "test")


def test_what_the_supernet_learned_does_not_matter(supernet, space, architectures, trainer):
    settings = {"seed": 0, "workers": 1}
    (one, *_) = trainer(supernet, space.load_task(), RECIPE, architectures[1:2], **settings)
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter += 1.0
    copies = [parameter.clone() for parameter in supernet.parameters()]
    (other, *_) = trainer(supernet, space.load_task(), RECIPE, architectures[1:2], **settings)
    assert same(one.network, other.network)
    pairs = zip(supernet.parameters(), copies, strict=True)
    assert all(torch.equal(parameter, copy) for parameter, copy in pairs)


def test_seeds_differ(supernet, space, architectures, trainer):
    one, other = (
        trainer(supernet, space.load_task(), RECIPE, architectures[1:2], seed=s, workers=1)[0]
        for s in (0, 1)
    )
    assert not same(one.network, other.network)


def test_the_number_of_threads_is_put_back(supernet, space, architectures, trainer):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        trainer(supernet, space.load_task(), RECIPE, architectures, seed=0, workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_training_that_fails_is_heard_of(supernet, space, architectures, trainer):
    wild = Recipe(epochs=3, batch_size=20, learning_rate=1e25)
    failed = trainer(supernet, space.load_task(), wild, architectures, seed=0, workers=2)
    assert [failure.architecture for failure in failed] == architectures
    assert all("training loss became" in failure.reason for failure in failed)
    assert trainer(supernet, space.load_task(), RECIPE, [], seed=0, workers=2) == []


def dropout(network, x):
    return functional.dropout(x, 0.3, network.training)


def dropout_in_evaluation_too(network, x):
    return functional.dropout(x, 0.3)


def drop_path(network, x):
    return x * (torch.rand(len(x), 1) < 0.7) if network.training else x


def python_random(network, x):
    return x * random.random()


def numpy_random(network, x):
    return x + float(np.random.randn())


def late(network, x):
    """Begins to draw when it has been trained for a while."""
    network.calls = getattr(network, "calls", 0) + 1
    return dropout(network, x) if network.calls > 5 else x


def attention(network, x):
    y: torch.Tensor = network.attention(x, x, x)[0]
    return y


MODULE_RNG = np.random.default_rng(0)


def own_generator(network, x):
    return x * torch.rand(x.shape, generator=network.generator)


def module_generator(network, x):
    return x + MODULE_RNG.normal()


def nothing(network, x):
    return x


class Drawing(nn.Module):
    def __init__(self, draw) -> None:
        super().__init__()
        self.width = Width(2, 6)
        self.stem = Linear(2, self.width)
        self.plain = nn.Linear(2, 4)
        self.attention = nn.MultiheadAttention(4, 2, dropout=0.3)
        self.op = OneOf({"drop": nn.Dropout(0.3), "relu": nn.ReLU()})
        self.head, self.out = Linear(self.width, 3), nn.Linear(4, 3)
        self.draw = draw
        self.generator = torch.Generator()

    def forward(self, x):
        return self.head(self.op(self.stem(x))) + self.out(self.draw(self, self.plain(x)))


DRAWS = [
    dropout,
    dropout_in_evaluation_too,
    drop_path,
    python_random,
    numpy_random,
    own_generator,
    module_generator,
    late,
    attention,
    nothing,
]


@pytest.mark.parametrize("draw", DRAWS)
def test_what_a_network_draws_is_the_same_each_time_and_leaves_no_trace(space, trainer, draw):
    drawing = NetworkSpace("drawing", lambda: Drawing(draw), space.task, RECIPE)
    supernet, architectures = drawing.supernet(), list(every(drawing.choices))
    found = []
    for workers in (1, 4, 3):
        for seeder in (torch.manual_seed, random.seed, np.random.seed):
            seeder(workers)
        MODULE_RNG.normal()
        before = Generators.now(supernet)
        order = architectures[:: 1 if workers < 4 else -1]
        trained = trainer(supernet, space.load_task(), RECIPE, order, seed=0, workers=workers)
        assert not before.moved()
        found.append({one.architecture: one for one in trained})
    for architecture in architectures:
        one, *others = (result[architecture] for result in found)
        for other in others:
            assert same(one.network, other.network)
            assert (one.valid, one.test) == (other.valid, other.test)


def test_networks_that_draw_nothing_are_trained_side_by_side(space, trainer):
    threads = set()

    def watched(network, x):
        threads.add(threading.get_ident())
        return x

    for draw, alone in ((watched, False), (lambda n, x: watched(n, dropout(n, x)), True)):
        drawing = NetworkSpace("drawing", lambda draw=draw: Drawing(draw), space.task, RECIPE)
        quiet = [a for a in every(drawing.choices) if a["op"] == "relu"]
        threads.clear()
        trainer(drawing.supernet(), space.load_task(), RECIPE, quiet, seed=0, workers=2)
        assert (threads == {threading.get_ident()}) is alone


class Given(nn.Module):
    """Weights of all kinds that a constructor may set, and a layer that it leaves to torch."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 6)
        self.backbone = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4))
        nn.init.constant_(self.backbone[0].weight, 0.5)
        nn.init.constant_(self.backbone[1].running_mean, 3.0)
        self.backbone.requires_grad_(False).eval()
        self.token = nn.Parameter(torch.zeros(1, 4))
        self.attention = nn.MultiheadAttention(4, 2)
        self.chance = nn.Parameter(torch.tensor([random.random(), np.random.rand()]))
        self.own, self.torchs = Linear(4, self.width), Linear(4, self.width)
        self.own.weight.data.normal_(mean=9.0)
        self.op = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})
        self.head = Linear(self.width, 3)

    def forward(self, x):
        x = self.backbone(x) + self.token + self.chance.sum()
        x = self.attention(x, x, x)[0]
        return self.head(self.op(self.own(x) + self.torchs(x)))


def constructor_of(kind):
    if kind == "new":
        return Given
    made = Given()
    return lambda: made


@pytest.mark.parametrize("kind", ["new", "the same"])
@pytest.mark.parametrize("workers", [1, 2])
def test_finalists_start_from_what_the_constructor_gives(space, trainer, kind, workers):
    constructor = constructor_of(kind)
    given = NetworkSpace("given", constructor, space.task)
    with seeded(5):
        expected = copy.deepcopy(constructor().state_dict())
    supernet = given.supernet()
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.fill_(123.0)
    still = Recipe(epochs=1, batch_size=20, learning_rate=1e-12, weight_decay=0)
    architectures = list(every(given.choices))
    trained = trainer(supernet, space.load_task(), still, architectures, seed=5, workers=workers)
    for finalist in trained:
        network = finalist.network
        for name, value in network.state_dict().items():
            if value.shape == expected[name].shape and not name.startswith("head.bias"):
                torch.testing.assert_close(value, expected[name])
        count = int(finalist.architecture["width"])
        torch.testing.assert_close(network.own.weight, expected["own.weight"][:count])
        assert 0.5 < network.torchs.weight.abs().max() / 4**-0.5 <= 1  # torch's bound
        assert not any(p.requires_grad for p in network.backbone.parameters())
        assert network.training
        assert not network.backbone.training


def test_a_layer_that_is_left_to_torch_is_drawn_for_its_own_size():
    """A slice of the largest would have the bound of 400 inputs."""

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.width = Width(4, 400)
            self.layer = Linear(self.width, 50)

        def forward(self, x):
            return self.layer(x)

    supernet = Supernet(Wide())
    layer = supernet.fresh({"width": "4"}, seed=0).layer
    for parameter in layer.parameters():
        assert 0.8 * 4**-0.5 < parameter.abs().max() <= 4**-0.5
    assert torch.equal(supernet.fresh({"width": "4"}, seed=0).layer.weight, layer.weight)
    assert not torch.equal(supernet.fresh({"width": "4"}, seed=1).layer.weight, layer.weight)
    inherited = supernet.extract({"width": "4"}).layer
    assert torch.equal(inherited.weight, supernet.network.layer.weight[:, :4])


def test_a_supernet_without_a_constructor_goes_back_to_its_network_as_it_was(space, trainer):
    network = Given()
    before = copy.deepcopy(network.state_dict())
    supernet = Supernet(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(123.0)
    fresh = supernet.fresh({"width": "6", "op": "tanh"}, seed=0)
    assert all(torch.equal(before[name], value) for name, value in fresh.state_dict().items())
    again = Supernet(network).fresh({"width": "2", "op": "tanh"}, seed=0)
    assert all((parameter == 123.0).all() for parameter in again.parameters())


def test_a_fresh_network_has_the_type_that_the_supernet_was_given():
    supernet = Supernet(Given()).double()
    fresh = supernet.fresh({"width": "2", "op": "tanh"}, seed=0)
    assert {t.dtype for t in fresh.parameters()} == {torch.float64}


def test_a_constructor_that_builds_another_network_is_refused():
    widths = iter([(2, 6), (2, 7)])

    def network():
        width = Width(*next(widths))
        return nn.ModuleDict({"width": width, "layer": Linear(2, width)})

    supernet = NetworkSpace("restless", network, dict).supernet()
    with pytest.raises(ValueError, match="must give the same choices each time"):
        supernet.fresh({"width": "2"}, seed=0)


class Caching(nn.Module):
    """Makes its mask when it first sees an input, as many networks do."""

    def __init__(self):
        super().__init__()
        self.op, self.head = OneOf({"a": nn.ReLU(), "b": nn.Tanh()}), nn.Linear(2, 3)
        self.register_buffer("mask", None)

    def forward(self, x):
        if self.mask is None:
            self.mask = torch.ones(2).to(x)
        return self.head(self.op(x * self.mask))


def test_a_buffer_that_is_made_in_a_forward_pass_costs_no_finalist(space):
    caching = NetworkSpace("caching", Caching, space.task, Recipe(epochs=1))
    supernet = caching.supernet()
    architectures = list(every(caching.choices))
    supernet(space.task().train.inputs, architectures[0])  # as training it does
    found = train_finalists(
        supernet, space.load_task(), caching.recipe, architectures, seed=0, workers=2
    )
    assert [finalist.network.mask.tolist() for finalist in found] == [[1, 1], [1, 1]]
