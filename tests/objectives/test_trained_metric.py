"""Spaces of networks: an evaluation is a training, the same whoever asks."""

import pickle
from dataclasses import replace

import pytest

from paretonas.objectives import Memory, TrainedMetric, default_objectives
from paretonas.space import every
from paretonas.training import Recipe, evaluate, train
from search_spaces import toy


@pytest.fixture(scope="module")
def space():
    return replace(toy.space, recipe=Recipe(epochs=1, learning_rate=1e-2))


def test_the_error_is_that_of_the_spaces_own_recipe(space):
    supernet, task = space.supernet(), space.load_task()
    architecture = next(every(supernet.choices))
    network = supernet.fresh(architecture, seed=0)
    for _ in train(network, task, space.recipe, seed=0):
        pass
    expected = evaluate(network, task, "valid")["error_percent"]
    error = TrainedMetric(space)
    assert error.exact(architecture) == expected
    assert error.exact(architecture) == expected  # the second training starts anew
    assert pickle.loads(pickle.dumps(error)).exact(architecture) == expected


@pytest.mark.parametrize("trained", [None, []])
def test_a_trainer_that_returns_too_few_is_refused_by_name(space, trained):
    error = TrainedMetric(space, trainer=lambda *_, **__: trained)
    with pytest.raises(TypeError, match="the trainer must return a finalist or a failure for each"):
        error.exact(next(every(space.choices)))


def test_a_space_of_networks_has_three_objectives(space):
    error, latency, memory = default_objectives(space)
    columns = [objective.column for objective in (error, latency, memory)]
    assert columns == ["error_percent", "latency_ms", "memory_kib"]
    architecture = next(every(space.choices))
    expected = Memory.of(space.supernet(), space.load_task().example())
    assert memory.exact(architecture) == expected.exact(architecture)
    assert 0 < latency.exact(architecture) < 1000
