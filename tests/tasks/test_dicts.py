"""Examples that are dicts give what the same examples give as pairs."""

from collections import UserDict

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from paretonas.tasks import (
    Classification,
    Head,
    MultiLabel,
    MultiTask,
    Regression,
    Segmentation,
    Supervised,
    metrics,
)
from paretonas.tasks.feeds import feed_of

N = 11
X, Y = torch.arange(2.0 * N).reshape(N, 2), torch.arange(N) % 3
WIDE = X[:, :1] + 0.5


class Named(Dataset):
    """Items with an entry for each column, in no special order."""

    def __init__(self, **columns) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return N

    def __getitem__(self, index):
        return {name: column[index] for name, column in self.columns.items()}


class Stream(IterableDataset):
    def __init__(self, items) -> None:
        self.items = items

    def __iter__(self):
        return iter(self.items)


def batch_of_a_library(items) -> UserDict:
    """As tokenizers give it: a mapping that is no dict."""
    return UserDict({name: np.stack([np.asarray(i[name]) for i in items]) for name in items[0]})


NAMED = Named(labels=Y, x=X)
FORMS = {
    "items": (NAMED, TensorDataset(X, Y)),
    "stream": (Stream([*map(NAMED.__getitem__, range(N))]), Stream([*zip(X, Y, strict=True)])),
    "loader": (
        DataLoader(NAMED, 4, shuffle=True),
        DataLoader(TensorDataset(X, Y), 4, shuffle=True),
    ),
    "mapping": (
        DataLoader(NAMED, 4, collate_fn=batch_of_a_library),
        DataLoader(TensorDataset(X, Y), 4),
    ),
    "tensors": ({"x": X, "labels": Y}, (X, Y)),
    "arrays": ({"labels": Y.numpy(), "x": X.numpy()}, (X, Y)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("epoch", [0, 3, None])
def test_dicts_give_the_batches_of_pairs(form, epoch):
    named, pairs = FORMS[form]
    feeds = feed_of(named, "train", "labels"), feed_of(pairs, "train")
    found, expected = ([*feed.batches(4, seed=1, epoch=epoch)] for feed in feeds)
    assert len(found) == len(expected) > 1
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    assert feeds[0].examples() == feeds[1].examples()
    first, wanted = (feed.first(3) for feed in feeds)
    assert torch.equal(first[0], wanted[0]) and torch.equal(first[1], wanted[1])


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, *, x, wide):
        return self.layer(x) + wide


def test_several_inputs_are_keyword_arguments():
    named, network = Named(x=X, wide=WIDE, labels=Y), Sum()
    task = Classification(*[DataLoader(named, 4)] * 3, target="labels", classes=3)
    assert set(task.example()) == {"x", "wide"}
    assert [len(each) for each in task.example().values()] == [1, 1]
    with torch.no_grad():
        scores = network.layer(X) + WIDE
    expected = 100 * float((scores.argmax(dim=1) != Y).float().mean())
    assert task.evaluate(network, "valid")["error_percent"] == pytest.approx(expected)
    assert task.guess().value == pytest.approx(100 * 7 / 11)


def test_several_targets_are_a_dict_by_head():
    named = Named(size=X[:, 0], kind=Y, x=X)
    task = MultiTask(
        *[named] * 3,
        target=["kind", "size"],
        heads={
            "kind": Head(nn.functional.cross_entropy, metrics.error()),
            "size": Head(lambda out, y: (out[:, 0] - y).square().mean(), metrics.rmse()),
        },
    )

    class Two(nn.Module):
        def forward(self, x):
            return {"kind": x.new_zeros(len(x), 3), "size": x[:, :1] + 2}

    found = task.evaluate(Two(), "test")
    assert found["rmse"] == pytest.approx(2.0)
    assert found["error_percent"] == pytest.approx(100 * 7 / 11)


PRESETS = {
    "Classification": (Classification, Y, {}),
    "Segmentation": (Segmentation, Y[:, None].repeat(1, 2), {}),
    "Regression": (Regression, X[:, 0], {}),
    "MultiLabel": (MultiLabel, (X > 5).long(), {}),
    "Supervised": (Supervised, Y, {"loss": nn.CrossEntropyLoss(), "metric": metrics.error()}),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_task_of_examples_takes_dicts(preset):
    make, y, more = PRESETS[preset]
    parts = [Named(x=X, it=y)] * 3
    (x, target), *_ = make(*parts, target="it", **more).batches("valid")
    assert torch.equal(x, X)
    assert torch.equal(target, y)


@pytest.mark.parametrize("form", ["items", "stream", "loader", "tensors"])
def test_dicts_without_a_target_are_refused_with_the_remedy(form):
    with pytest.raises(TypeError, match="the keys .*'labels'.*; name the .* target='labels'"):
        feed_of(FORMS[form][0], "valid").first(1)


@pytest.mark.parametrize(
    ("target", "examples", "error", "message"),
    [
        ("label", NAMED, KeyError, "the valid split has no entry 'label', only 'labels', 'x'"),
        (["x", "z"], NAMED, KeyError, "the valid split has no entry 'z'"),
        (["x", "labels"], NAMED, ValueError, "valid split has only targets, no inputs: 'lab"),
        ("labels", TensorDataset(X, Y), TypeError, "valid split must consist of dicts, got list"),
    ],
)
def test_what_does_not_fit_the_target_is_refused(target, examples, error, message):
    with pytest.raises(error, match=message):
        feed_of(DataLoader(examples, 4), "valid", target).first(1)


def test_the_example_is_what_the_task_is_asked_for_and_stays_as_it_was():
    given = torch.ones(1, 2)
    task = Classification(*[(X, Y)] * 3, example=given)
    task.example().zero_()
    assert torch.equal(task.example(), torch.ones(1, 2))
    assert torch.equal(given, torch.ones(1, 2))
    assert torch.equal(task.to("cpu").sized(5).example(), given)
    named = Supervised(
        *[(X, Y)] * 3,
        loss=nn.CrossEntropyLoss(),
        metric=metrics.error(),
        example={"x": np.ones((1, 9), np.float32)},
    )
    assert named.example()["x"].shape == (1, 9)


@pytest.mark.parametrize("rows", [0, 2])
def test_an_example_that_is_no_batch_of_one_is_refused(rows):
    with pytest.raises(ValueError, match=f"the example must be a batch of one, got {rows} rows"):
        Classification(*[(X, Y)] * 3, example=torch.zeros(rows, 2))
