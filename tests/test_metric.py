"""A metric on a split is what it is on all outputs and targets at once, in its own direction."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from paretonas.metric import Metric
from paretonas.tasks import Supervised, metrics

COUNT = 37


class Largest:
    """Sees one batch after the other."""

    def __init__(self) -> None:
        self.largest = 0.0

    def update(self, output, target):
        self.largest = max(self.largest, float((output - target).abs().max()))

    def compute(self):
        return torch.tensor(self.largest)


class Counted(Largest):
    """An object that has seen something already, and can start anew."""

    def __init__(self) -> None:
        super().__init__()
        self.largest = 1e9
        self.resets = 0

    def reset(self):
        self.largest = 0.0
        self.resets += 1


def largest_error(output, target):
    return (output - target).abs().max()


def median_error(output, target):
    """Not a mean over batches."""
    return (output - target).abs().median()


def spread(output, target):
    return float(output.std() / target.std())


# The metric, and what it must be on everything at once.
CASES = {
    "median": (Metric("median", median_error), median_error),
    "spread": (Metric("spread", spread, maximize=True), spread),
    "largest": (Metric("largest", largest_error, unit="m"), largest_error),
    "streaming class": (Metric("largest", Largest, unit="m"), largest_error),
    "streaming object": (Metric("largest", Largest(), unit="m"), largest_error),
    "used object": (Metric("largest", Counted(), unit="m"), largest_error),
}


def split_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(COUNT, 3, generator=generator)
    return inputs, torch.randn(COUNT, 2, generator=generator)


def task_of(*measured: Metric, reported=()) -> Supervised:
    parts = [split_of(seed) for seed in range(3)]
    return Supervised(*parts, loss=nn.functional.mse_loss, metric=measured, reported=reported)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_metric_is_that_of_all_batches_joined(name, size, monkeypatch):
    monkeypatch.setattr("paretonas.tasks.supervised.LARGEST", size)
    metric, oracle = CASES[name]
    task, network = task_of(metric), nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    for place, split in enumerate(("train", "valid", "test")):
        inputs, targets = split_of(place)
        with torch.no_grad():
            output = network[0](inputs)  # without dropout
        for _ in range(2):  # nothing is left of the first time
            values = task.evaluate(network, split)
            assert values[metric.column] == pytest.approx(float(oracle(output, targets)), rel=1e-5)
            expected = float(nn.functional.mse_loss(output, targets))
            assert values["loss"] == pytest.approx(expected, rel=1e-5)
            assert set(values) == {"loss", metric.column}
    assert network.training


def test_several_metrics_and_reported_ones_are_evaluated_together():
    several = [CASES[name][0] for name in ("median", "largest")]
    task = task_of(*several, reported=[CASES["spread"][0]])
    network = nn.Linear(3, 2)
    values = task.evaluate(network, "valid")
    assert list(values) == ["loss", "median", "largest_m", "spread"]
    for name in ("median", "largest", "spread"):
        metric = CASES[name][0]
        alone = task_of(metric).evaluate(network, "valid")
        assert values[metric.column] == alone[metric.column]


@pytest.mark.parametrize("name", ["error", "f1", "mae", "perplexity", "r2", "rmse", "roc_auc"])
def test_a_ready_metric_takes_outputs_with_gradients(name):
    """Such as those of an exported program, without a warning from torch."""
    output = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -2.0]], requires_grad=True)
    if name in ("error", "perplexity"):  # scores of three classes
        output, target = output[None], torch.tensor([[2, 1]])
        output = output.transpose(1, 2) if name == "error" else output
    else:
        target = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
    values = []
    for scores in (output, output.detach()):
        measured = getattr(metrics, name)().begin()
        measured.update(scores, target)
        values.append(measured.compute())
    assert values[0] == values[1]


def test_what_the_user_hands_in_stays_as_it_is():
    used = Counted()
    task_of(Metric("largest", used)).evaluate(nn.Linear(3, 2), "valid")
    assert (used.largest, used.resets) == (1e9, 0)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.booleans())
def test_a_cost_falls_where_the_metric_improves_and_goes_back(one, other, maximize):
    metric = Metric("m", maximize=maximize)
    assert metric.value(metric.cost(one)) == one
    better = one > other if maximize else one < other
    assert (metric.cost(one) < metric.cost(other)) == better


def test_a_value_of_zero_is_no_negative_zero():
    metric = Metric("m", maximize=True)
    assert math.copysign(1, metric.cost(0.0)) == math.copysign(1, metric.value(0.0)) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "seconds"}, "cannot be called 'seconds'"),
        ({"name": "test_auc"}, "cannot be called 'test_auc'"),
        ({"maximize": "no"}, "maximize must be True or False, got 'no'"),
        ({"worst": 0.0, "best": 5.0}, "worst value of m, 0.0, is better than the best, 5.0"),
        ({"worst": 5.0, "best": 1.0, "maximize": True}, "is better than the best"),
        ({"resolution": -1.0}, "resolution of m must be positive, got -1.0"),
        ({"worst": "3"}, "worst value of m must be a finite number, got '3'"),
    ],
)
def test_a_metric_that_contradicts_itself_is_refused(given, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Metric(**{"name": "m", **given})


@pytest.mark.parametrize("found", [None, torch.ones(3), "0.5", True])
def test_what_is_no_number_is_refused_by_the_name_of_the_metric(found):
    x = torch.randn(6, 2)
    task = Supervised(
        *[(x, x)] * 3,
        loss=torch.nn.functional.mse_loss,
        metric=Metric("mine", lambda output, target: found),
    )
    with pytest.raises(TypeError, match="'mine' must give one number, got"):
        task.evaluate(torch.nn.Linear(2, 2), "valid")
