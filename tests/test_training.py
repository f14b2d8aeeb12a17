"""What training and scoring promise."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas.data import Split
from paretonas.forward import Generators
from paretonas.training import Recipe, batches, evaluate, train, warmup_cosine
from search_spaces import toy

ARCHITECTURE = {"width": "4", "mix": "pool", "deep": "1"}


def trained(seed: int) -> tuple[dict[str, torch.Tensor], list[float]]:
    network = toy.space.supernet().extract(ARCHITECTURE)
    losses = list(train(network, toy.space.task().train, Recipe(epochs=2), seed=seed))
    return network.state_dict(), losses


def blobs(n: int = 64) -> Split:
    """Two classes that one line separates."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 2
    inputs = torch.randn(n, 2, generator=generator) + 6.0 * labels[:, None]
    return Split(inputs, labels)


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
    assert evaluate(network, blobs()).error_percent < 2


def test_the_loss_of_an_epoch_is_the_mean_over_examples():
    """With a learning rate of almost 0, it is the loss of the untouched network."""
    network = nn.Linear(2, 2)
    expected = functional.cross_entropy(network(blobs(50).inputs), blobs(50).labels).item()
    recipe = Recipe(epochs=1, batch_size=7, learning_rate=1e-12, weight_decay=0)
    (loss,) = train(network, blobs(50), recipe)  # 50 = 7 * 7 + 1, the last batch is left out
    assert loss == pytest.approx(expected, rel=0.1)


def test_a_loss_that_is_not_finite_stops_the_training():
    network = nn.Linear(2, 2)
    with torch.no_grad():
        network.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="training loss became nan"):
        list(train(network, blobs(), Recipe(epochs=1)))


def test_a_pass_sees_each_example_once_in_a_fresh_order(rng):
    split = Split(torch.arange(10.0)[:, None], torch.arange(10))
    one, other = (list(batches(split, 4, rng)) for _ in range(2))
    assert [len(labels) for _, labels in one] == [4, 4, 2]
    orders = [torch.cat([labels for _, labels in batch]).tolist() for batch in (one, other)]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert orders[0] != orders[1]
    assert all(torch.equal(inputs[:, 0], labels.float()) for inputs, labels in one)


def test_no_batch_of_one_where_there_are_more(rng):
    split = Split(torch.arange(9.0)[:, None], torch.arange(9))
    assert [len(labels) for _, labels in batches(split, 4, rng)] == [4, 4]
    alone = Split(torch.zeros(1, 1), torch.tensor([0]))
    assert [len(labels) for _, labels in batches(alone, 4, rng)] == [1]


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


def test_a_score_is_the_mean_over_all_examples_whatever_the_batch():
    network = nn.Linear(2, 2)
    split = blobs(37)
    logits = network(split.inputs)
    whole, cut = evaluate(network, split), evaluate(network, split, batch_size=5)
    assert whole.loss == pytest.approx(functional.cross_entropy(logits, split.labels).item())
    assert cut.loss == pytest.approx(whole.loss)
    wrong = (logits.argmax(1) != split.labels).double().mean().item()
    assert whole.error_percent == cut.error_percent == pytest.approx(100 * wrong)


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
        found.append((losses, evaluate(network, blobs())))
        assert not before.moved()
    assert found[0] == found[1]
    assert len(set(found[0][0])) == 3


def test_parts_that_rest_in_evaluation_mode_are_trained_in_it():
    frozen = nn.BatchNorm1d(2).eval()
    network = nn.Sequential(frozen, nn.Linear(2, 2))
    list(train(network, blobs(), Recipe(epochs=2)))
    evaluate(network, blobs())
    assert [module.training for module in network.modules()] == [True, False, True]
    assert frozen.num_batches_tracked == 0
    list(train(network.eval(), blobs(), Recipe(epochs=1)))
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("training", [True, False])
def test_scoring_is_in_evaluation_mode_and_leaves_the_network_as_it_was(training):
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5), nn.Linear(2, 2))
    network.train(training)
    before = copy.deepcopy(network.state_dict())
    assert evaluate(network, blobs()) == evaluate(network, blobs())
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
