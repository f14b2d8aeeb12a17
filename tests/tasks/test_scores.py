"""What cannot be scored is no score: outputs that are NaN, labels that are ignored, lost keys."""

import math

import pytest
import torch
from torch import nn

from paretonas.finalists import train_finalists
from paretonas.nn import NetworkSpace, OneOf
from paretonas.point import Failure
from paretonas.space import Architecture
from paretonas.tasks import (
    Classification,
    LanguageModel,
    Metric,
    MultiLabel,
    Segmentation,
    metrics,
)
from paretonas.training import Recipe, evaluate

BINARY = ("f1", "roc_auc", "average_precision")
CASES = {
    "error": (metrics.error(), torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])),
    "accuracy": (metrics.accuracy(), torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])),
    "miou": (metrics.mean_iou(3), torch.randn(6, 3, 2), torch.arange(12).reshape(6, 2) % 3),
    "perplexity": (metrics.perplexity(), torch.randn(6, 2, 3), torch.arange(12).reshape(6, 2) % 3),
    "rmse": (metrics.rmse(), torch.randn(6), torch.rand(6)),
    "mae": (metrics.mae(), torch.randn(6), torch.rand(6)),
    "r2": (metrics.r2(), torch.randn(6), torch.rand(6)),
    **{
        name: (getattr(metrics, name)(), torch.randn(6), torch.tensor([0, 1, 0, 1, 1, 0]))
        for name in BINARY
    },
}


def computed(metric: Metric, *batches) -> float:
    seen = metric.begin()
    for output, target in batches:
        seen.update(output, target)
    return float(seen.compute())


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("row", [0, 5])
def test_a_metric_of_nan_is_nan(name, row):
    metric, output, target = CASES[name]
    spoiled = output.clone()
    spoiled[row].view(-1)[-1] = math.nan
    assert math.isfinite(computed(metric, (output, target)))
    assert math.isnan(computed(metric, (spoiled, target)))
    assert math.isnan(computed(metric, (spoiled, target), (output, target)))


@pytest.mark.parametrize("name", ["error", "accuracy", "miou", "perplexity"])
def test_nan_where_the_label_is_ignored_does_not_count(name):
    metric, output, target = CASES[name]
    ignored = 255 if name == "miou" else -100
    target = target.clone()
    target[0] = ignored
    spoiled = output.clone()
    spoiled[0] = math.nan
    expected = computed(metric, (output[1:], target[1:]))
    assert computed(metric, (spoiled, target)) == pytest.approx(expected)


@pytest.mark.parametrize("label", [-1, 3, 4])
def test_a_label_of_no_class_has_no_iou(label):
    metric, output, target = CASES["miou"]
    target = target.clone()
    target[0, 0] = label
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\], or 255.*; 1 are not"):
        computed(metric, (output, target))


@pytest.mark.parametrize("name", ["error", "accuracy", "miou", "perplexity"])
def test_labels_that_are_all_ignored_have_no_score(name):
    metric, output, target = CASES[name]
    nothing = torch.full_like(target, 255 if name == "miou" else -100)
    with pytest.raises(ValueError, match="every label is .*, which is ignored"):
        computed(metric, (output, nothing))
    assert math.isfinite(computed(metric, (output, nothing), (output, target)))


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_whose_labels_are_all_ignored_is_refused(split):
    x, y = torch.randn(6, 3, 2, 2), torch.arange(24).reshape(6, 2, 2) % 2
    parts = {name: (x, y) for name in ("train", "valid", "test")}
    parts[split] = (x, torch.full_like(y, 255))
    with pytest.raises(ValueError, match=f"every label of the {split} split is 255, which is ig"):
        Segmentation(**parts, classes=2)
    tokens = {name: torch.arange(20) % 5 for name in ("train", "valid", "test")}
    tokens[split] = torch.full((20,), -100)
    with pytest.raises(ValueError, match=f"every token of the {split} split is -100"):
        LanguageModel(**tokens, context=4, vocabulary=5)


class Blind(nn.Module):
    """Gives scores that are NaN in evaluation, which no training notices."""

    def __init__(self):
        super().__init__()
        self.op = OneOf({"a": nn.Linear(3, 2), "b": nn.Linear(3, 2)})

    def forward(self, x):
        scores = self.op(x)
        return scores if self.training else scores * math.nan


def test_a_finalist_whose_scores_are_nan_is_a_failure_that_names_the_metric():
    x, y = torch.randn(12, 3), torch.randint(2, (12, 2)).float()
    y[:2] = torch.eye(2)
    task = MultiLabel(*[(x, y)] * 3, metric=[metrics.roc_auc()], reported=[metrics.f1(name="mine")])
    task._loss = lambda output, target: output.nan_to_num().square().mean()
    space = NetworkSpace("blind", Blind, task, Recipe(1, 4))
    architectures = [Architecture({"op": name}) for name in "ab"]
    found = train_finalists(space.supernet(), task, space.recipe, architectures, seed=0, workers=1)
    assert [type(one) for one in found] == [Failure, Failure]
    assert all(one.reason == "the auc on the valid split is nan" for one in found)


class Own:
    """A task from scratch."""

    metric = Metric("auc", maximize=True, unit="percent")

    def __init__(self, found):
        self.found = found

    def example(self):
        return torch.zeros(1, 3)

    def batches(self, split, *, seed, epoch):
        return [torch.ones(4, 3)]

    def loss(self, network, batch):
        return network(batch).square().mean()

    def evaluate(self, network, split):
        return self.found


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"auc": 0.5}, "must return the 'loss' and the metrics, got 'auc'"),
        ({}, "must return the 'loss' and the metrics, got no key"),
        ({"loss": 1.0, "f1": 0.5}, "the metric 'auc_percent' beside the loss, got 'loss', 'f1'"),
        ({"loss": 1.0, "auc": "high"}, "the metric 'auc' must give one number, got str"),
        ({"loss": 1.0, "auc": 1.0, "all": torch.ones(2)}, r"'all' must .* of shape \(2,\)"),
        (0.5, "must return a mapping from names to numbers, .*, got float"),
    ],
)
def test_what_an_own_task_evaluates_to_is_checked(found, message):
    with pytest.raises((ValueError, TypeError), match=message):
        evaluate(nn.Linear(3, 2), Own(found))


@pytest.mark.parametrize("name", ["auc", "auc_percent"])
def test_a_metric_may_be_named_with_or_without_its_unit(name):
    assert evaluate(nn.Linear(3, 2), Own({"loss": 1.0, name: 0.5}))[name] == 0.5


def test_what_a_metric_raises_names_it():
    def fails(output, target):
        raise ZeroDivisionError("division by zero")

    x, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    task = Classification(*[(x, y)] * 3, reported=[Metric("mine", fails)])
    with pytest.raises(ZeroDivisionError) as raised:
        task.evaluate(nn.Linear(3, 3), "valid")
    assert Failure.of({"op": "a"}, raised.value).reason == (
        "ZeroDivisionError: division by zero (in the metric 'mine')"
    )
