"""Every kind of task on a GPU: its batches, its loss with what belongs to it, its evaluation."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from paretonas.data import Preprocessing
from paretonas.metric import Metric
from paretonas.multitask import backward
from paretonas.solvers import UPGrad
from paretonas.tasks import (
    Classification,
    Head,
    LanguageModel,
    MultiLabel,
    MultiTask,
    Regression,
    Segmentation,
    Supervised,
    metrics,
)
from paretonas.tasks.passes import one_pass
from paretonas.tasks.task import on_device
from paretonas.training import Recipe, Updates, evaluate

X = torch.arange(48.0).reshape(12, 4).sin()
LABELS = torch.arange(12) % 3
ORDER = "to device: paretonas/tasks/feeds.py _cut"
BATCH = "to device: paretonas/arguments.py move"


def thrice(inputs, targets):
    return [(inputs, targets)] * 3


class Heads(nn.Module):
    """Two outputs of one trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.kind, self.size = nn.Linear(4, 4), nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x):
        x = self.trunk(x).relu()
        return {"kind": self.kind(x), "size": self.size(x)}


class Tokens(nn.Module):
    """A bigram model."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 7)

    def forward(self, tokens):
        return self.table(tokens)


def classification():
    ignored = LABELS.clone()
    ignored[:5] = -100
    return Classification(
        *thrice(X, ignored), weight=[1.0, 2.0, 0.5], label_smoothing=0.1, classes=3
    ), nn.Linear(4, 3)


def of_raw_bytes():
    images = torch.arange(12 * 2 * 4).reshape(12, 2, 4).byte()
    told = Preprocessing("bytes", 1 / 255, mean=(0.5, 0.4), std=0.25)
    network = nn.Sequential(nn.Flatten(), nn.Linear(8, 3))
    return Classification(*thrice(images, LABELS), preprocessing=told), network


def multi_label():
    targets = torch.stack([LABELS > 0, LABELS > 1], dim=1)
    return MultiLabel(*thrice(X, targets), pos_weight=[2.0, 3.0]), nn.Linear(4, 2)


def regression():
    return Regression(*thrice(X, X.sum(dim=1))), nn.Linear(4, 1)


def segmentation():
    masks = torch.arange(12 * 16).reshape(12, 4, 4) % 3
    network = nn.Conv2d(1, 3, 3, padding=1)
    return Segmentation(*thrice(torch.rand(12, 1, 4, 4), masks)), network


def language():
    return LanguageModel(np.arange(200) % 7, context=8, vocabulary=7), Tokens()


def several():
    heads = {
        "kind": Head(nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0])), metrics.error()),
        "size": Head(lambda out, y: (out[:, 0] - y).square().mean(), metrics.rmse()),
    }
    targets = {"kind": LABELS, "size": X[:, 0]}
    return MultiTask(*thrice(X, targets), heads=heads, solver="UPGrad"), Heads()


def own_loss():
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]))
    wrong = Metric("wrong", lambda output, target: (output.argmax(1) != target).float().mean())
    return Supervised(*thrice(X, LABELS), loss=loss, metric=wrong), nn.Linear(4, 3)


KINDS = [
    classification, of_raw_bytes, multi_label, regression, segmentation, language, several, own_loss
]  # fmt: skip


def steps_of(task, network, count):
    """The losses of some steps."""
    updates = Updates(network, task, Recipe(schedule=None), count)
    return [
        updates.step(batch) for batch in islice(one_pass(task, "train", seed=0, epoch=0), count)
    ]


@pytest.mark.parametrize("make", KINDS)
def test_a_task_on_the_device_computes_what_it_does_on_the_host(make, cuda):
    found = []
    for place in ("cpu", "cuda"):
        torch.manual_seed(0)
        task, network = make()
        task, network = on_device(task.sized(6), place), network.to(place)
        losses = [float(loss) for loss in steps_of(task, network, 2)]
        found.append({"first": losses[0], "second": losses[1], **evaluate(network, task)})
    assert found[1] == pytest.approx(found[0], rel=1e-4)


@pytest.mark.parametrize("make", KINDS)
def test_a_step_waits_for_nothing(make, cuda):
    task, network = make()
    task = on_device(task.sized(6), "cuda")
    network.to("cuda")
    cuda.since()
    steps_of(task, network, 2)
    found = cuda.since()
    assert found.pop(ORDER) == 1
    if make is several:  # the solver solves on the host
        assert found.pop("to host: paretonas/solvers/problem.py _checked_values") == 2
        found = {what: n for what, n in found.items() if "paretonas/gradients" not in what}
    if make is of_raw_bytes:  # the means of the channels; a GPU does not wait for this copy
        assert found.pop("to device: paretonas/data.py part") == 2
    assert not found


def test_what_comes_from_a_loader_is_copied_batch_by_batch(cuda):
    loader = DataLoader(TensorDataset(X, LABELS), batch_size=4)
    task = on_device(Classification(loader, loader, loader, classes=3), "cuda")
    network = nn.Linear(4, 3).to("cuda")
    cuda.since()
    steps_of(task, network, 3)
    assert cuda.since() == {BATCH: 3 * 2}


@pytest.mark.parametrize("m", [2, 5])
def test_losses_are_resolved_with_two_copies(m, cuda):
    """Those of decision 0005: the products of gradients go to the host, the weights come back."""
    network = nn.Linear(300, 200).to("cuda")
    outputs = network(torch.ones(m, 300, device="cuda"))
    cuda.since()
    direction = backward([row.square().sum() for row in outputs], network, solver=UPGrad())
    assert direction.vector.is_cuda and network.weight.grad.is_cuda
    counted = cuda.since()
    assert counted.total() <= 4, counted


def test_the_mean_over_nothing_is_zero_and_has_a_zero_gradient():
    from paretonas.tasks.classification import mean_cross_entropy

    scores = torch.randn(4, 3, requires_grad=True)
    labels = torch.tensor([0, 1, 2, 1])
    for ignored in (-100, 0, 1):
        for weight in (None, torch.tensor([0.0, 1.0, 2.0])):
            found = mean_cross_entropy(scores, labels, ignored, weight=weight, label_smoothing=0.1)
            expected = functional.cross_entropy(
                scores, labels, weight, ignore_index=ignored, label_smoothing=0.1
            )
            assert torch.equal(found, expected)
            for one, other in zip(
                torch.autograd.grad(found, scores), torch.autograd.grad(expected, scores),
                strict=True,
            ):  # fmt: skip
                assert torch.equal(one, other)
            nothing = mean_cross_entropy(
                scores, torch.full((4,), ignored), ignored, weight=weight, label_smoothing=0.1
            )
            assert float(nothing.detach()) == 0
            (gradient,) = torch.autograd.grad(nothing, scores)
            assert torch.equal(gradient, torch.zeros_like(scores))
