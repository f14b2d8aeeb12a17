"""Labeled examples in three splits, checked once at the door."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Split:
    """Examples of one split: inputs (n, ...) of a floating type and labels (n,) of integers.

    Any floating type will do: a network is given the inputs in its own. Labels are kept as int64.

    Raises:
        ValueError: no examples, lengths that differ, NaN or infinity, a negative label.
        TypeError: inputs that are not floating, or labels that are not integers.
    """

    inputs: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        if not self.inputs.is_floating_point():
            raise TypeError(f"inputs must be of a floating type, got {self.inputs.dtype}")
        dtype = self.labels.dtype
        if dtype.is_floating_point or dtype.is_complex or dtype is torch.bool:
            raise TypeError(f"labels must be integers, got {dtype}")
        object.__setattr__(self, "labels", self.labels.long())  # the type that torch's losses take
        if self.labels.ndim != 1 or len(self.inputs) != len(self.labels):
            raise ValueError(
                "one label per example: inputs have shape "
                f"{tuple(self.inputs.shape)}, labels {tuple(self.labels.shape)}"
            )
        if len(self.labels) == 0:
            raise ValueError("a split needs at least one example, got none")
        bad = ~torch.isfinite(self.inputs.flatten(1)).all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(
                f"inputs must be finite, found NaN or infinity in {int(bad.sum())} of "
                f"{len(bad)} examples, first in example {row}"
            )
        if int(self.labels.min()) < 0:
            raise ValueError(f"labels must be 0 or more, got {int(self.labels.min())}")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Split:
        """The same examples on another device."""
        return Split(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Data:
    """What a search needs: `train` fits weights, `valid` decides, `test` is only reported.

    Attributes:
        classes: how many classes there are; by default one more than the largest training label.

    Raises:
        ValueError: a label that is not below `classes`, or splits whose examples differ in shape.
    """

    train: Split
    valid: Split
    test: Split
    classes: int = 0

    def __post_init__(self) -> None:
        if self.classes == 0:
            object.__setattr__(self, "classes", int(self.train.labels.max()) + 1)
        for field in fields(self)[:3]:
            split: Split = getattr(self, field.name)
            largest = int(split.labels.max())
            if largest >= self.classes:
                raise ValueError(
                    f"labels must be in [0, {self.classes - 1}], "
                    f"found {largest} in the {field.name} split"
                )
            if split.inputs.shape[1:] != self.train.inputs.shape[1:]:
                raise ValueError(
                    f"examples must have one shape: train has {tuple(self.train.inputs.shape[1:])},"
                    f" {field.name} has {tuple(split.inputs.shape[1:])}"
                )

    @property
    def example(self) -> Tensor:
        """A copy of one example as a batch of one, (1, ...)."""
        return self.train.inputs[:1].clone()

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device."""
        train, valid, test = (split.to(device) for split in (self.train, self.valid, self.test))
        return Data(train, valid, test, self.classes)


def split(inputs: Tensor, labels: Tensor, *, valid: int, test: int, seed: int = 0) -> Data:
    """Shuffle examples once, by `seed`, and cut them into train, valid and test.

    Raises:
        ValueError: nothing would be left to train on, or the examples are bad (see `Split`).
    """
    whole = Split(inputs, labels)
    rest = len(whole) - valid - test
    if min(valid, test, rest) < 1:
        raise ValueError(
            f"each split needs an example: {len(labels)} in all, "
            f"{valid} for valid and {test} for test leave {rest} for train"
        )
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    first, second, third = (
        Split(whole.inputs[rows], whole.labels[rows]) for rows in order.split([rest, valid, test])
    )
    return Data(first, second, third, classes=int(whole.labels.max()) + 1)
