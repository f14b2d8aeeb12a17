"""The supernet's training: fair, the same after a stop at any step, and loud when it fails."""

import copy
import itertools
import math
import random
from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from paretonas.data import Data, Split
from paretonas.forward import Generators, seeded
from paretonas.gradient_search.weights import WeightTraining, inherited_scores
from paretonas.nn import BatchNorm1d, Linear, OneOf, Supernet, Width
from paretonas.space import Choice, decode, fair_paths
from paretonas.tasks import Classification, Task
from paretonas.training import Recipe, evaluate, train

RECIPE = Recipe(batch_size=20, learning_rate=0.03)


def training(space, steps: int, seed: int = 0) -> WeightTraining:
    return WeightTraining(space.supernet(), space.load_task(), RECIPE, steps=steps, seed=seed)


def inherited_loss(supernet: Supernet, task: Task, path) -> float:
    return inherited_scores(supernet, task, path)["loss"]


def same(one: WeightTraining, other: WeightTraining) -> bool:
    pairs = zip(one.supernet.parameters(), other.supernet.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4), st.integers(0, 99))
def test_paths_are_strictly_fair_in_every_round_of_every_choice(sizes, seed):
    choices = [Choice(f"c{i}", tuple(f"o{j}" for j in range(size))) for i, size in enumerate(sizes)]
    paths = list(itertools.islice(fair_paths(choices, Random(seed)), 4 * math.lcm(*sizes)))
    for choice in choices:
        n = len(choice.options)
        for start in range(0, len(paths), n):
            taken = [path[choice.name] for path in paths[start : start + n]]
            assert sorted(taken) == sorted(choice.options)


def test_choices_are_paired_by_chance():
    choices = [Choice("a", ("0", "1", "2")), Choice("b", ("0", "1", "2"))]
    pairs = Counter(
        (path["a"], path["b"]) for path in itertools.islice(fair_paths(choices, Random(0)), 9000)
    )
    assert len(pairs) == 9
    assert all(800 < count < 1200 for count in pairs.values())


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(space):
    one, again, other = (training(space, 30, seed) for seed in (0, 0, 1))
    before = torch.get_rng_state()
    losses = [list(t.run()) for t in (one, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert len(losses[0]) == 30 == one.done
    assert same(one, again)
    assert not same(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("stop", [*range(8), 13, 19, 20])
def test_a_training_goes_on_bit_for_bit_from_any_step(space, stop):
    """Of six batches an epoch; rounds of two and of three paths."""
    whole = training(space, 20)
    losses = list(whole.run())
    first = training(space, 20)
    head = list(itertools.islice(first.run(), stop))
    state = copy.deepcopy(first.state())
    list(first.run())  # the state of a checkpoint is a copy
    rest = training(space, 20)
    rest.resume(state)
    assert rest.done == stop
    assert head + list(rest.run()) == losses
    assert same(rest, whole)
    assert same(first, whole)


def test_training_lowers_the_loss_of_every_kind_of_path(space):
    job = training(space, 300)
    task = space.load_task()
    paths = [{"width": "8", "op": "deep", "op.options.deep": "2", "late": late} for late in "01"]
    paths.append({"width": "8", "op": "relu", "op.options.deep": "1", "late": "1"})
    before = [inherited_loss(job.supernet, task, path) for path in paths]
    list(job.run())
    after = [inherited_loss(job.supernet, task, path) for path in paths]
    assert all(b < a for a, b in zip(before, after, strict=True)), (before, after)
    assert min(after) < 0.95 * min(before)


def test_the_learning_rate_warms_up_and_falls(space):
    job = training(space, 50)
    (group,) = job._updates.optimizer.param_groups
    rates = [group["lr"], *(group["lr"] for _ in job.run())][:50]  # each is set before its step
    assert rates[:5] == pytest.approx([0.2 * RECIPE.learning_rate * i for i in range(1, 6)])
    assert rates[5] == max(rates) == RECIPE.learning_rate
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] < 0.01 * max(rates)


def test_every_example_is_seen_once_an_epoch(space):
    seen = []

    network = space.network()
    network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    job = WeightTraining(Supernet(network), space.load_task(), RECIPE, steps=12, seed=0)
    list(job.run())
    inputs = space.task().train.inputs
    for epoch in (seen[:6], seen[6:]):
        rows = sorted(map(tuple, torch.cat(epoch).tolist()))
        assert rows == sorted(map(tuple, inputs.tolist()))
    assert not torch.equal(seen[0], seen[6])


def test_a_loss_that_is_not_finite_stops_the_training(space):
    job = training(space, 20)
    with torch.no_grad():
        job.supernet.network.stem.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="loss became nan at step 1"):
        list(job.run())


class Noisy(nn.Module):
    """With dropout and batch norm: chance, and a need of two examples a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.width = Width(2, 6)
        self.stem = Linear(2, self.width)
        self.norm = BatchNorm1d(self.width)
        self.op = OneOf({"drop": nn.Dropout(0.5), "relu": nn.ReLU()})
        self.head = Linear(self.width, 3)

    def forward(self, x):
        return self.head(self.op(self.norm(self.stem(x))))


def noisy(examples: int = 21, steps: int = 12) -> WeightTraining:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(examples, 2, generator=generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        supernet = Supernet(Noisy())
    split = Split(inputs, torch.arange(examples) % 3)
    task = Classification.of(Data(split, split, split))
    return WeightTraining(supernet, task, Recipe(batch_size=5), steps=steps, seed=0)


def test_dropout_repeats_and_goes_on_bit_for_bit():
    whole, first = noisy(), noisy()
    before = torch.get_rng_state()
    losses = list(whole.run())
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)  # another state of the global generator changes nothing
    head = list(itertools.islice(first.run(), 7))
    rest = noisy()
    rest.resume(copy.deepcopy(first.state()))
    torch.manual_seed(6)
    assert head + list(rest.run()) == losses
    assert same(rest, whole)


class Drawing(Noisy):
    def forward(self, x):
        return super().forward(x * random.random() + float(np.random.randn()) + torch.rand(2))


def drawing() -> WeightTraining:
    job = noisy()
    with seeded(0):
        supernet = Supernet(Drawing())
    return WeightTraining(supernet, job.task, job.recipe, steps=12, seed=0)


def test_whatever_the_network_draws_repeats_and_goes_on_bit_for_bit():
    whole, first, rest = drawing(), drawing(), drawing()
    before = Generators.now()
    losses = list(whole.run())
    assert not before.moved()
    draws = [random.random(), np.random.rand(), torch.rand(1)]  # another state of the generators
    head = list(itertools.islice(first.run(), len(draws)))
    rest.resume(copy.deepcopy(first.state()))
    assert head + list(rest.run()) == losses
    path = {"width": "6", "op": "drop"}
    scores = {inherited_loss(rest.supernet, rest.task, path) for _ in draws}
    assert scores == {inherited_loss(whole.supernet, whole.task, path)}


def test_batch_norm_meets_no_batch_of_one():
    assert len(list(noisy(examples=21, steps=10).run())) == 10  # 21 = 4 * 5 + 1


def test_an_inherited_loss_is_that_of_the_single_path_without_dropout():
    job = noisy()
    list(job.run())
    path = {"width": "6", "op": "drop"}
    one, again = (inherited_loss(job.supernet, job.task, path) for _ in range(2))
    assert one == again
    network = job.supernet.network
    ((inputs, labels),) = job.task.batches("valid")
    with torch.no_grad():
        x = inputs @ network.stem.weight.T + network.stem.bias
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        x = x * network.norm.weight + network.norm.bias
        y = x @ network.head.weight.T + network.head.bias
    assert one == pytest.approx(float(functional.cross_entropy(y, labels)), rel=1e-5)


def test_inherited_losses_agree_with_the_extracted_network(space):
    """In this space without batch norm, what is lent equals what is extracted."""
    job = training(space, 50)
    list(job.run())
    choices, task = job.supernet.choices, space.load_task()
    for picks in ([0, 0, 0, 0], [1, 2, 1, 1], [1, 1, 0, 1]):
        path = decode(choices, picks)
        expected = evaluate(job.supernet.extract(path), task, "valid")["loss"]
        assert inherited_loss(job.supernet, task, path) == pytest.approx(expected, rel=1e-5)


def test_what_is_lent_ranks_like_what_is_trained(space):
    """The premise of the search, on the extremes of a space where they differ clearly."""
    job = training(space, 400)
    list(job.run())
    task = space.load_task()
    poor = {"width": "2", "op": "skip", "op.options.deep": "1", "late": "0"}
    rich = {"width": "8", "op": "deep", "op.options.deep": "2", "late": "1"}
    lent = [inherited_loss(job.supernet, task, path) for path in (poor, rich)]
    errors = []
    for path in (poor, rich):
        network = job.supernet.extract(path)
        list(train(network, task, Recipe(10, batch_size=20, learning_rate=0.03)))
        errors.append(evaluate(network, task, "valid")["error_percent"])
    assert lent[0] > lent[1]
    assert errors[0] > errors[1]
