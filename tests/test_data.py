"""What labeled examples promise, and what is refused at the door."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from paretonas.data import Data, Preprocessing, Split, split


def examples(n: int = 6, classes: int = 3) -> Split:
    return Split(torch.arange(2.0 * n).reshape(n, 2), torch.arange(n) % classes)


def test_split_cuts_every_example_into_exactly_one_part_with_its_label():
    inputs = torch.arange(20.0).reshape(10, 2)
    labels = torch.arange(10)
    data = split(inputs, labels, valid=3, test=2)
    assert [len(part) for part in (data.train, data.valid, data.test)] == [5, 3, 2]
    parts = [data.train, data.valid, data.test]
    together = torch.cat([part.inputs for part in parts])
    order = torch.cat([part.labels for part in parts])
    assert torch.equal(order.sort().values, labels)
    assert torch.equal(together, inputs[order])


def test_split_depends_on_the_seed_only():
    whole = examples(50)
    before = torch.get_rng_state()
    one, same, other = (
        split(whole.inputs, whole.labels, valid=10, test=10, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(one.train.inputs, same.train.inputs)
    assert not torch.equal(one.train.inputs, other.train.inputs)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.uint8, torch.uint16])
def test_labels_of_any_integer_type_are_kept_as_the_one_that_losses_take(dtype):
    whole = examples(50)
    labels = whole.labels.to(dtype)
    expected = split(whole.inputs, whole.labels, valid=10, test=10)
    data = split(whole.inputs, labels, valid=10, test=10)
    assert labels.dtype == dtype
    assert data.classes == expected.classes
    assert data.train.labels.dtype == torch.int64
    assert torch.equal(data.train.labels, expected.train.labels)


def test_the_example_is_a_copy():
    data = Data(examples(), examples(), examples())
    before = data.train.inputs.clone()
    data.example.zero_()
    assert torch.equal(data.train.inputs, before)


def test_classes_are_counted_from_the_training_labels_unless_given():
    assert Data(examples(), examples(), examples()).classes == 3
    assert Data(examples(), examples(), examples(), classes=5).classes == 5


def test_the_example_is_a_batch_of_one():
    assert Data(examples(), examples(), examples()).example.shape == (1, 2)


def test_data_moves_to_a_device_whole():
    data = Data(examples(), examples(), examples(), classes=5).to("cpu")
    assert data.classes == 5
    assert torch.equal(data.valid.inputs, examples().inputs)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_by_example(bad):
    inputs = torch.zeros(5, 1, 2)
    inputs[3, 0, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 5 examples, first in example 3"):
        Split(inputs, torch.zeros(5, dtype=torch.long))
    with pytest.raises(ValueError, match="first in example 3"):
        split(inputs, torch.zeros(5, dtype=torch.long), valid=1, test=1)


@pytest.mark.parametrize(
    ("inputs", "labels", "kind", "message"),
    [
        (torch.zeros(2, 1, dtype=torch.uint8), torch.tensor([0, 1]), TypeError, "floating"),
        (torch.zeros(2, 1), torch.tensor([0.0, 1.0]), TypeError, "labels must be integers"),
        (torch.zeros(2, 1), torch.tensor([True, False]), TypeError, "labels must be integers"),
        (torch.zeros(2, 1), torch.tensor([0j, 1j]), TypeError, "labels must be integers"),
        (torch.zeros(2, 1), torch.tensor([0, 1, 1]), ValueError, "one label per example"),
        (torch.zeros(2, 1), torch.tensor([[0], [1]]), ValueError, "one label per example"),
        (torch.zeros(0, 1), torch.zeros(0, dtype=torch.long), ValueError, "at least one example"),
        (torch.zeros(2, 1), torch.tensor([0, -1]), ValueError, "labels must be 0 or more, got -1"),
    ],
)
def test_a_split_says_what_is_wrong(inputs, labels, kind, message):
    with pytest.raises(kind, match=message):
        Split(inputs, labels)


def test_a_label_out_of_range_is_refused_in_every_split():
    bad = Split(torch.zeros(1, 2), torch.tensor([3]))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 2\], found 3 in the valid split"):
        Data(examples(), bad, examples())
    with pytest.raises(ValueError, match=r"labels must be in \[0, 1\], found 2 in the train split"):
        Data(examples(), examples(), examples(), classes=2)


def test_the_splits_hold_examples_of_one_shape():
    other = Split(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"train has \(2,\), test has \(3,\)"):
        Data(examples(), examples(), other)


def test_something_must_be_left_to_train_on():
    whole = examples(6)
    with pytest.raises(ValueError, match="3 for valid and 3 for test leave 0 for train"):
        split(whole.inputs, whole.labels, valid=3, test=3)


# --- how inputs were prepared ---------------------------------------------------------------------


def test_a_preprocessing_normalizes_channel_by_channel():
    raw = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6))
    told = Preprocessing("colors", 1 / 255, [0.5, 0.4, 0.3], [0.1, 0.2, 0.3])
    found = told(raw)
    assert found.dtype == np.float32 and found.shape == raw.shape
    for channel in range(3):
        expected = (raw[:, channel] / 255 - told.mean[channel]) / told.std[channel]
        assert found[:, channel] == pytest.approx(expected, abs=1e-6)
    assert hash(told) == hash(Preprocessing("colors", 1 / 255, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)))


@pytest.mark.parametrize("many", [np.float32, np.array, torch.tensor, lambda x: [np.float32(x)]])
def test_its_numbers_are_pythons_whatever_counted_them(many):
    """So that every file can hold them."""
    told = Preprocessing("raw", np.float32(0.5), many(0.25), many(2.0))
    assert json.loads(json.dumps(asdict(told)))["scale"] == 0.5
    assert told.formula in ("(raw * 0.5 - 0.25) / 2", "(raw * 0.5 - [0.25]) / [2]")


def test_it_stays_with_the_data():
    told = Preprocessing("anything", labels=("a", "b", "c"))
    whole = examples(30)
    data = split(whole.inputs, whole.labels, valid=5, test=5, preprocessing=told)
    assert data.preprocessing is data.to("cpu").preprocessing is told
    assert split(whole.inputs, whole.labels, valid=5, test=5).preprocessing is None


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"mean": (0.1, 0.2, 0.3)}, r"mean of the preprocessing has 3 numbers, .* shape \(2,\)"),
        ({"std": [0.1]}, r"std of the preprocessing has 1 numbers, .* shape \(2,\)"),
        ({"labels": ["a", "b"]}, "names 2 classes, there are 3"),
        ({"std": 0}, "the std of a preprocessing must be finite and not 0, got 0"),
        ({"std": (1.0, 0.0)}, "the std of a preprocessing must be finite and not 0, got 0"),
        ({"scale": float("nan")}, "the scale of a preprocessing must be finite and not 0, got nan"),
        ({"mean": torch.zeros(3)}, r"mean of the preprocessing has 3 numbers, .* shape \(2,\)"),
        (
            {"scale": [1.0]},
            r"the scale of a preprocessing must be one number, got the shape \(1,\)",
        ),
        ({"mean": [[1.0]]}, r"must be one number, or one per channel, got the shape \(1, 1\)"),
        ({"mean": float("inf")}, "the mean of a preprocessing must be finite, got inf"),
    ],
)
def test_a_preprocessing_that_does_not_fit_is_refused(told, message):
    with pytest.raises(ValueError, match=message):
        Data(examples(), examples(), examples(), preprocessing=Preprocessing("raw", **told))
