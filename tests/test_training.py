"""What training and scoring promise."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas.data import Data, Split
from paretonas.forward import Generators
from paretonas.tasks import Classification
from paretonas.training import Recipe, evaluate, train, warmup_cosine
from search_spaces import toy

ARCHITECTURE = {"width": "4", "mix": "pool", "deep": "1"}


def trained(seed: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    network = toy.space.supernet().extract(ARCHITECTURE)
    losses = list(train(network, toy.space.load_task(), Recipe(epochs=2), seed=seed))
    return network.state_dict(), losses


def blobs(n: int = 64) -> Classification:
    """Two classes that one line separates; the three splits are the same."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    inputs = torch.randn(n, 2, generator=generator) + 6.0 * labels[:, None]
    return task_of(inputs, labels)


def task_of(inputs: torch.Tensor, labels: torch.Tensor) -> Classification:
    split = Split(inputs, labels)
    return Classification.of(Data(split, split, split))


def whole(task: Classification) -> tuple[torch.Tensor, torch.Tensor]:
    """The inputs and the labels of the validation split."""
    inputs, labels = zip(*task.batches("valid"), strict=True)
    return torch.cat(inputs), torch.cat(labels)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not():
    (one, losses), (same, same_losses), (other, _) = trained(0), trained(0), trained(1)
    assert losses == same_losses
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["head.weight"], other["head.weight"])


def test_training_changes_no_global_state():
    before = torch.get_rng_state()
    trained(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_training_learns_what_a_line_can_tell():
    network = nn.Linear(2, 2)
    losses = list(train(network, blobs(), Recipe(epochs=30, batch_size=16, learning_rate=0.1)))
    assert len(losses) == 30
    assert losses[-1] < 0.1 * losses[0]
    assert evaluate(network, blobs(), "valid")["error_percent"] < 2


@pytest.mark.parametrize("batch_size", [7, 10, 50])
def test_the_loss_of_an_epoch_is_the_mean_over_batches(batch_size):
    """With a learning rate of almost 0, each is the loss of the untouched network."""
    network, task = nn.Linear(2, 2), blobs(50)  # 50 = 7 * 7 + 1
    with torch.no_grad():
        expected = [
            functional.cross_entropy(network(inputs), labels).item()
            for inputs, labels in task.sized(batch_size).batches("train", seed=3, epoch=0)
        ]
    recipe = Recipe(epochs=1, batch_size=batch_size, learning_rate=1e-12, weight_decay=0)
    (loss,) = train(network, task, recipe, seed=3)
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)
    of_all = functional.cross_entropy(network(whole(task)[0]), whole(task)[1]).item()
    assert loss == pytest.approx(of_all, rel=0.1 if batch_size == 7 else 1e-5)


def test_a_loss_that_is_not_finite_stops_the_training():
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="training loss became nan"):
        list(train(network, blobs(), Recipe(epochs=1)))


def test_a_pass_sees_each_example_once_in_a_fresh_order():
    task = task_of(torch.arange(10.0)[:, None], torch.arange(10)).sized(4)
    one, again, other, seeded = (
        list(task.batches("train", seed=seed, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert [len(labels) for _, labels in one] == [4, 4, 2]
    orders = [
        torch.cat([labels for _, labels in batch]).tolist() for batch in (one, again, other, seeded)
    ]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert orders[0] == orders[1]
    assert orders[0] not in orders[2:]
    assert all(torch.equal(inputs[:, 0], labels.float()) for inputs, labels in one)


def test_no_batch_of_one_where_there_are_more():
    """The last one begins an example earlier, so that a batch norm can take it."""
    task = task_of(torch.arange(9.0)[:, None], torch.arange(9)).sized(4)
    first, second, last = (labels.tolist() for _, labels in task.batches("train"))
    assert (len(first), len(second), len(last)) == (4, 4, 2)
    assert sorted([*first, *second, last[1]]) == list(range(9))
    assert last[0] == second[-1]
    alone = task_of(torch.zeros(1, 1), torch.tensor([0])).sized(4)
    assert [len(labels) for _, labels in alone.batches("train")] == [1]


def test_the_learning_rate_warms_up_and_falls_to_zero():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = warmup_cosine(optimizer, 100)
    rates = []
    for _ in range(100):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == pytest.approx(2.0) == rates[10]
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert schedule.get_last_lr()[0] == pytest.approx(0.0, abs=1e-12)


def test_a_score_is_the_mean_over_all_examples_whatever_the_batch(monkeypatch):
    network, task = nn.Linear(2, 2), blobs(37)
    inputs, labels = whole(task)
    logits = network(inputs)
    at_once = evaluate(network, task, "valid")
    monkeypatch.setattr("paretonas.tasks.supervised.LARGEST", 5)
    assert len(list(task.batches("valid"))) == 8
    cut = evaluate(network, task, "valid")
    assert at_once["loss"] == pytest.approx(functional.cross_entropy(logits, labels).item())
    assert cut["loss"] == pytest.approx(at_once["loss"])
    wrong = (logits.argmax(1) != labels).double().mean().item()
    assert at_once["error_percent"] == cut["error_percent"] == pytest.approx(100 * wrong)


class Drawing(nn.Linear):
    """Draws in its forward pass, from all generators there are, in training and in evaluation."""

    def forward(self, x):
        noise = torch.rand(2) + random.random() + float(np.random.rand())
        return super().forward(functional.dropout(x + noise))


def test_a_network_that_draws_is_trained_and_scored_the_same_each_time():
    found = []
    for state in (1, 2):
        for seeder in (torch.manual_seed, random.seed, np.random.seed):
            seeder(state)
        network = Drawing(2, 2)
        nn.init.constant_(network.weight, 0.1)
        nn.init.zeros_(network.bias)
        before = Generators.now()
        losses = list(train(network, blobs(), Recipe(epochs=3), seed=4))
        found.append((losses, evaluate(network, blobs(), "valid")))
        assert not before.moved()
    assert found[0] == found[1]
    assert len(set(found[0][0])) == 3


def test_parts_that_rest_in_evaluation_mode_are_trained_in_it():
    frozen = nn.BatchNorm1d(2).eval()
    network = nn.Sequential(frozen, nn.Linear(2, 2))
    list(train(network, blobs(), Recipe(epochs=2)))
    evaluate(network, blobs(), "valid")
    assert [module.training for module in network.modules()] == [True, False, True]
    assert frozen.num_batches_tracked == 0
    list(train(network.eval(), blobs(), Recipe(epochs=1)))
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("training", [True, False])
def test_scoring_is_in_evaluation_mode_and_leaves_the_network_as_it_was(training):
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2))
    network.train(training)
    before = copy.deepcopy(network.state_dict())
    assert evaluate(network, blobs(), "valid") == evaluate(network, blobs(), "valid")
    assert network.training is training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epochs": 0}, "epochs must be positive, got 0"),
        ({"batch_size": -1}, "batch_size must be positive, got -1"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": math.nan}, "learning_rate must be positive, got nan"),
        ({"weight_decay": -0.1}, "weight_decay must be 0 or more, got -0.1"),
        ({"weight_decay": math.nan}, "weight_decay must be 0 or more, got nan"),
    ],
)
def test_a_recipe_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**wrong)
