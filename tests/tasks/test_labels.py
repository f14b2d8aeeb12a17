"""Labels that come batch by batch are checked where they meet the scores."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, StackDataset

from paretonas.tasks import Classification


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
