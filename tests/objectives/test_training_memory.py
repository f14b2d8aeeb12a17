"""What a training step holds, by hand."""

from functools import partial

import pytest
import torch
from torch import nn

from paretonas.data import split
from paretonas.nn import NetworkSpace
from paretonas.objectives import MeasuredObjective, TrainingMemory
from paretonas.training import Recipe

EXAMPLES = 16


def space(optimizer=torch.optim.AdamW, build=None) -> NetworkSpace:
    inputs, labels = torch.randn(60, 2), torch.arange(60) % 3
    data = split(inputs, labels, valid=10, test=10)
    recipe = Recipe(1, batch_size=EXAMPLES, optimizer=optimizer)
    return NetworkSpace("small", build or perceptron, lambda: data, recipe)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))


def measured(network, space) -> dict:
    objective = TrainingMemory(space)
    assert isinstance(objective, MeasuredObjective)
    found = objective.measure(network, torch.zeros(1, 2))
    parts = ("weights", "gradients", "optimizer", "activations")
    bytes_of = {name: 1024 * found[f"training_memory_{name}_kib"] for name in parts}
    assert sum(bytes_of.values()) == pytest.approx(1024 * found["training_memory_kib"])
    return bytes_of


def test_a_perceptron_by_hand():
    found = measured(perceptron(), space())
    parameters = 4 * (2 * 8 + 8 + 8 * 3 + 3)
    assert found["weights"] == found["gradients"] == parameters
    assert found["optimizer"] == 2 * parameters + 4 * 4  # two moments, and a step for each tensor
    saved = 4 * EXAMPLES * (2 + 8 + 3) + 8 * EXAMPLES  # inputs, ReLU, log-softmax; and the labels
    assert found["activations"] == pytest.approx(saved, abs=8)  # and the total weight of the loss


@pytest.mark.parametrize(("momentum", "moments"), [(0.0, 0), (0.9, 1)])
def test_the_state_is_that_of_the_recipes_optimizer(momentum, moments):
    optimizer = partial(torch.optim.SGD, lr=0.1, momentum=momentum)
    found = measured(perceptron(), space(optimizer))
    assert found["optimizer"] == moments * found["weights"]


def test_frozen_weights_have_no_gradient():
    network = perceptron()
    network[0].requires_grad_(False)
    found = measured(network, space())
    assert found["gradients"] == 4 * (8 * 3 + 3)
    assert found["weights"] == 4 * (2 * 8 + 8 + 8 * 3 + 3)


def test_the_network_is_not_trained():
    network, small = perceptron().eval(), space()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    with torch.no_grad():
        measured(network, small)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert not network.training and all(p.grad is None for p in network.parameters())
    assert torch.equal(torch.get_rng_state(), state)
