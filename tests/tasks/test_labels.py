"""Labels that come batch by batch are checked where they meet the scores."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, StackDataset

from paretonas.tasks import Classification, Segmentation, Supervised, metrics
from paretonas.tasks.task import OutputError


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            torch.eye(4, dtype=torch.long),
            r"\(4, 4\) need integer labels of shape \(4,\), got \(4, 4\)",
        ),
        (torch.tensor([[0], [1], [2], [3]]), r"labels of shape \(4,\), got \(4, 1\)"),
        (["cat", "dog", "cat", "dog"], r"labels of shape \(4,\), got tuple"),
        ([0, -100, 7, 1], r"gives 4 scores, so labels must be in \[0, 3\]; found .* 0 to 7"),
        ([0, -1, 2, 1], r"gives 4 scores, so labels must be in \[0, 3\]; found .* -1 to 2"),
    ],
)
def test_labels_that_are_no_classes_are_refused_with_the_rule(labels, message):
    loader = DataLoader(StackDataset(torch.zeros(4, 3), labels), batch_size=4)
    task = Classification(loader, loader, loader, classes=4)
    (batch,) = task.batches("valid")
    with pytest.raises(ValueError, match=message):
        task.loss(nn.Linear(3, 4), batch)


def test_a_batch_without_a_label_that_counts_costs_nothing():
    x, y = torch.randn(6, 3, 4, 4), torch.full((6, 4, 4), 255)
    y[3:] = 1
    task = Segmentation((x, y), (x, y), (x, y), classes=2)
    network = torch.nn.Conv2d(3, 2, 1)
    loss = task.loss(network, (x[:2], y[:2]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not network.weight.grad.any()
    assert math.isfinite(task.evaluate(network, "valid")["loss"])


def test_right_and_wrong_of_other_shapes_are_refused_not_broadcast():
    x, y = torch.randn(20, 4), torch.arange(20)[:, None] % 2
    task = Supervised(
        (x, y),
        (x, y),
        (x, y),
        loss=lambda output, target: functional.cross_entropy(output, target[:, 0]),
        metric=metrics.error(),
    )
    with pytest.raises(OutputError, match=r"got \(20, 2\) and \(20, 1\)"):
        task.evaluate(torch.nn.Linear(4, 2), "valid")
