"""What every space of the house promises."""

from random import Random

import pytest
import torch

from paretonas.space import Architecture, draw, every, size
from paretonas.training import Recipe, evaluate, train
from search_spaces import digits, signals, toy

SPACES = {
    "digits": digits.space,
    "digits_small": digits.small,
    "signals": signals.space,
    "toy": toy.space,
}


@pytest.fixture(params=SPACES.values(), ids=SPACES, scope="module")
def space(request):
    return request.param


@pytest.mark.parametrize("module", [digits, signals, toy])
def test_a_space_is_as_large_as_its_page_says(module):
    assert f" {size(module.space.choices):,} architectures" in " ".join(module.__doc__.split())


def test_every_option_runs_and_learns_something(space):
    """Each option once: one path that takes the first options, then one per other option."""
    supernet = space.supernet()
    data = space.data()
    inputs, labels = data.train.inputs[:16], data.train.labels[:16]
    first = {choice.name: choice.options[0] for choice in space.choices}
    for choice in space.choices:
        for option in choice.options:
            network = supernet.extract(Architecture(first | {choice.name: option}))
            logits = network.train()(inputs)
            assert logits.shape == (16, data.classes)
            torch.nn.functional.cross_entropy(logits, labels).backward()
            assert all(p.grad is not None for p in network.parameters())


def test_an_extracted_network_takes_batches_of_any_size(space):
    network = space.supernet().extract(draw(space.choices, Random(0))).eval()
    inputs = space.data().test.inputs
    assert [len(network(inputs[:n])) for n in (1, 2, 7)] == [1, 2, 7]


def test_the_splits_share_no_example(space):
    data = space.data()
    rows = [
        {x.numpy().tobytes() for x in part.inputs} for part in (data.train, data.valid, data.test)
    ]
    shared = (rows[0] & rows[1]) | (rows[0] & rows[2]) | (rows[1] & rows[2])
    assert len(shared) <= 3  # signals or digits that happen to be equal


def test_the_tradeoffs_of_the_toy_are_real():
    """The costliest architecture learns in a few seconds what the cheapest cannot."""
    data = toy.space.data()
    errors = []
    for architecture in (min, max):
        picks = {c.name: architecture(c.options, key=c.options.index) for c in toy.space.choices}
        network = toy.space.supernet().fresh(picks, seed=0)
        for _ in train(network, data.train, Recipe(epochs=3, learning_rate=1e-2)):
            pass
        errors.append(evaluate(network, data.valid).error_percent)
    assert errors[1] < 0.3 * errors[0]


def test_the_toy_is_enumerable_and_every_network_of_it_is_another():
    supernet = toy.space.supernet()
    architectures = list(every(toy.space.choices))
    assert len(architectures) <= 24
    assert len({supernet.canonical(a) for a in architectures}) == len(architectures)
    described = {str(supernet.extract(a)) for a in architectures}
    assert len(described) == len(architectures)
