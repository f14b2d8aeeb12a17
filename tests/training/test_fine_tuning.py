"""A shorter training from inherited weights, and the statistics of batch norms."""

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from paretonas.metric import Metric
from paretonas.training import FineTuning, Recipe, Updates, recalibrate
from paretonas.training.fine_tuning import BATCHES

SGD = functools.partial(torch.optim.SGD, lr=0.1)


class Points:
    """A task: two classes in the plane, in more batches than a recalibration takes."""

    metric = Metric("error", worst=1.0)

    def __init__(self, count=BATCHES + 5):
        self.count = count

    def example(self):
        return torch.zeros(1, 2)

    def batches(self, split="train", *, seed=0, epoch=0):
        generator = torch.Generator().manual_seed(100 * seed + epoch)
        for size in range(4, 4 + self.count):
            inputs = torch.randn(size, 2, generator=generator) * 3 + 1
            yield inputs, (inputs[:, 0] > 0).long()

    def loss(self, network, batch):
        return functional.cross_entropy(network(batch[0]), batch[1])

    def evaluate(self, network, split):
        return {"loss": 0.0, "error": 0.0}


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_the_share_is_a_part_of_the_epochs_and_all_else_stays():
    whole = Recipe(epochs=10, batch_size=7, clip=1.0, ema=0.9, label_smoothing=0.1)
    found = {share: FineTuning(share).of(whole).epochs for share in (0.01, 0.1, 0.34, 0.4, 1)}
    assert found == {0.01: 1, 0.1: 1, 0.34: 3, 0.4: 4, 1: 10}
    one = FineTuning(0.5, rate=0.5).of(whole).numbers()
    assert {name for name, value in whole.numbers().items() if one[name] != value} == {
        "epochs",
        "learning_rate",
    }


@given(
    share=st.floats(0, 1, exclude_min=True, allow_subnormal=False),
    rate=st.floats(1e-300, 1e300) | st.just(1.0),
)
def test_texts_are_read_and_written_alike(share, rate):
    tuning = FineTuning(share, rate)
    assert FineTuning.parse(str(tuning)) == tuning
    for text in (f"{tuning}:", f" {tuning}", f"{tuning}:1:1:1", "fresh", ""):
        with pytest.raises(ValueError, match="reads inherit, inherit:SHARE or inherit:SHARE:RATE"):
            FineTuning.parse(text)


class Lone(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[0.2, 0.1], [-0.1, 0.3]]))
        self.bias = nn.Parameter(torch.tensor([0.3, -0.3]))

    def forward(self, x):
        return functional.linear(x, self.weight, self.bias)


def two_groups(parameters):
    matrices, rest = ([p for p in parameters if (p.ndim > 1) is two] for two in (True, False))
    return torch.optim.SGD([{"params": matrices, "lr": 0.3}, {"params": rest}], lr=0.1)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(optimizer=SGD),
        Recipe(optimizer=two_groups),
        Recipe(optimizer=torch.optim.SGD, learning_rate=0.1, weight_decay=0),
        Recipe(
            optimizer=SGD,
            schedule=lambda optimizer, steps: torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: 0.5
            ),
        ),
    ],
)
def test_a_step_at_a_part_of_the_learning_rate_goes_that_part_of_the_way(recipe):
    def way(recipe):
        model, (batch, *_) = Lone(), Points().batches()
        before = [p.detach().clone() for p in model.parameters()]
        Updates(model, Points(), recipe, 10).step(batch)
        return [p.detach() - start for p, start in zip(model.parameters(), before, strict=True)]

    whole = way(recipe)
    part = way(FineTuning(rate=0.25).of(recipe))
    for one, other in zip(whole, part, strict=True):
        assert one.abs().max() > 1e-3
        torch.testing.assert_close(other, 0.25 * one)


def test_what_is_no_optimizer_is_refused_as_ever():
    recipe = FineTuning(rate=0.5).of(Recipe(optimizer=lambda parameters: "adam"))
    with pytest.raises(TypeError, match="optimizer must make an optimizer of torch.optim"):
        Updates(Lone(), Points(), recipe, 10)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan")])
def test_shares_that_mean_nothing_are_refused(share):
    with pytest.raises(ValueError, match="share must be above 0 and at most 1, got"):
        FineTuning(share)


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_rates_that_mean_nothing_are_refused(rate):
    with pytest.raises(ValueError, match="rate must be positive and finite, got"):
        FineTuning(rate=rate)


def batches_of(count, seed):
    return [inputs for inputs, _ in Points().batches(seed=seed)][:count]


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norms_get_the_plain_average_over_the_first_batches(momentum):
    model, seed = network(), 3
    for norm in (model[0], model[2]):
        norm.momentum = momentum
        norm.running_mean += 50.0
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    recalibrate(model, Points(), seed=seed)
    seen = batches_of(BATCHES, seed)
    mean = torch.stack([x.mean(dim=0) for x in seen]).mean(dim=0)
    var = torch.stack([x.var(dim=0, unbiased=True) for x in seen]).mean(dim=0)
    torch.testing.assert_close(model[0].running_mean, mean)
    torch.testing.assert_close(model[0].running_var, var)
    inner = [model[1](functional.batch_norm(x, None, None, training=True)) for x in seen]
    after = torch.stack([y.mean(dim=0) for y in inner]).mean(dim=0).detach()
    torch.testing.assert_close(model[2].running_mean, after)
    assert model[0].momentum == model[2].momentum == momentum
    assert model.training
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, weights[name])
        assert parameter.grad is None


def test_fewer_batches_than_that_are_all_taken():
    model = network()
    recalibrate(model, Points(count=3), seed=0)
    torch.testing.assert_close(
        model[0].running_mean, torch.stack([x.mean(dim=0) for x in batches_of(3, 0)]).mean(dim=0)
    )


def test_parts_in_evaluation_mode_and_norms_without_statistics_stay_as_they_are():
    model = network()
    model[0].running_mean += 7.0
    model[0].eval()
    model[2] = nn.BatchNorm1d(4, track_running_stats=False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    recalibrate(model, Points(), seed=0)
    assert not model[0].training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_in_evaluation_mode_is_trained_as_a_whole():
    """As in a training: only a network that is in training mode tells which parts are to rest."""
    model = network().eval()
    recalibrate(model, Points(), seed=0)
    assert float(model[0].running_mean.abs().min()) > 0.1
    assert model[0].training


class Penalty(Points):
    """A loss with a gradient in it, which does not work while gradients are off."""

    def loss(self, network, batch):
        inputs = batch[0].requires_grad_()
        outputs = network(inputs)
        (slope,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
        return functional.cross_entropy(outputs, batch[1]) + slope.square().mean()


def test_a_loss_that_needs_gradients_is_no_obstacle():
    model, plain = network(), network()
    recalibrate(model, Penalty(), seed=0)
    recalibrate(plain, Points(), seed=0)
    assert torch.equal(model[2].running_mean, plain[2].running_mean)


class Broken(Points):
    def loss(self, network, batch):
        network(batch[0])
        raise RuntimeError("no loss")


def test_a_failing_loss_leaves_the_momentum_of_the_norms():
    model = network()
    with pytest.raises(RuntimeError, match="no loss"):
        recalibrate(model, Broken(), seed=0)
    assert model[0].momentum == model[2].momentum == 0.1
