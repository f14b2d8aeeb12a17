"""Labeled examples in three splits, checked when they are made, and their preprocessing."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

__all__ = ["Data", "Preprocessing", "Split", "split"]


@dataclass(frozen=True)
class Preprocessing:
    """How raw inputs become inputs of the network: ``(raw * scale - mean) / std``.

    Exported files contain it, so that the file alone is enough to prepare inputs correctly.

    >>> prepare = Preprocessing("gray pixels from 0, black, to 255", 1 / 255, mean=0.5, std=0.5)
    >>> prepare([[0, 255]])
    array([[-1.,  1.]], dtype=float32)

    Attributes:
        raw: a description of the raw inputs.
        scale: the factor that is applied first.
        mean: the number that is then subtracted, or one number per channel (the dimension after
            the batch).
        std: the divisor that is applied last: one number, or one per channel.
        layout: the dimensions of a batch, such as ``"batch, channel, height, width"``.
        labels: the name of each class, in order; empty if a class is named by its number.

    Raises:
        ValueError: a number is not finite, or ``scale`` or ``std`` is 0.
    """

    raw: str
    scale: float = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    layout: str = ""
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", tuple(self.labels))
        for name in ("scale", "mean", "std"):  # plain numbers, whatever type they came in
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if value.ndim > (name != "scale"):
                rule = "one number" if name == "scale" else "one number, or one per channel"
                raise ValueError(
                    f"the {name} of a preprocessing must be {rule}, got the shape {value.shape}"
                )
            numbers = value.ravel().tolist()
            object.__setattr__(self, name, tuple(numbers) if value.ndim else numbers[0])
            for number in numbers:
                if not math.isfinite(number) or (number == 0 and name != "mean"):
                    rule = "be finite" if name == "mean" else "be finite and not 0"
                    raise ValueError(f"the {name} of a preprocessing must {rule}, got {number}")

    def __call__(self, raw: ArrayLike) -> NDArray[np.float32]:
        """Prepare a batch of raw inputs, (batch, ...)."""
        values = np.asarray(raw, dtype=np.float64)
        mean, std = (
            np.reshape(part, (-1, *[1] * (values.ndim - 2))) for part in (self.mean, self.std)
        )
        prepared: NDArray[np.float32] = ((values * self.scale - mean) / std).astype(np.float32)
        return prepared

    def prepare(self, raw: Tensor) -> Tensor:
        """Prepare a batch of raw inputs, (batch, ...), where it is; the result is float32."""
        values = raw.to(torch.float32) * self.scale

        def part(numbers: float | tuple[float, ...]) -> Tensor:
            if isinstance(numbers, float):
                return torch.full((), numbers, device=values.device)
            there = torch.tensor(numbers, dtype=values.dtype).to(values.device, non_blocking=True)
            return there.reshape(-1, *[1] * (values.ndim - 2))

        return (values - part(self.mean)) / part(self.std)

    @property
    def changes_nothing(self) -> bool:
        """Whether prepared inputs are the raw ones."""
        mean, std = np.asarray(self.mean), np.asarray(self.std)
        return self.scale == 1 and not mean.any() and bool((std == 1).all())

    @property
    def formula(self) -> str:
        """The formula with its numbers.

        >>> Preprocessing("pixels", 1 / 255, (0.5, 0.4), 0.25).formula
        '(raw * 0.00392157 - [0.5, 0.4]) / 0.25'
        >>> Preprocessing("degrees").formula
        'raw'
        """
        if (self.scale, self.mean, self.std) == (1, 0, 1):
            return "raw"
        mean, std = (
            f"[{', '.join(f'{x:.6g}' for x in part)}]" if isinstance(part, tuple) else f"{part:.6g}"
            for part in (self.mean, self.std)
        )
        return f"(raw * {self.scale:.6g} - {mean}) / {std}"


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples of one split: inputs (n, ...) of a floating type and labels (n,) of integers.

    Any floating type works: inputs are converted to the type of the network. Labels become int64.

    Attributes:
        inputs: (n, ...), finite, of a floating type.
        labels: (n,), integers from 0.

    Raises:
        ValueError: there are no examples, the lengths differ, an input is NaN or infinite, or a
            label is negative.
        TypeError: the inputs are not floating, or the labels are not integers.
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

    def __repr__(self) -> str:
        shape, dtype = tuple(self.inputs.shape[1:]), str(self.inputs.dtype).removeprefix("torch.")
        return f"Split({len(self)} examples of shape {shape}, {dtype})"

    def to(self, device: torch.device | str) -> Split:
        """The same examples on another device."""
        return Split(self.inputs.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """The data of a search, in three splits.

    Attributes:
        train: the examples that weights are trained on.
        valid: the examples whose error the search minimizes.
        test: the examples whose error is only reported.
        classes: the number of classes; by default one more than the largest training label.
        preprocessing: how the inputs were made from raw ones; None if this is not known.

    Raises:
        ValueError: a label is not below `classes`, the examples of the splits differ in shape, or
            the preprocessing has another number of channels or classes.
    """

    train: Split
    valid: Split
    test: Split
    classes: int = 0
    preprocessing: Preprocessing | None = None

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
        if self.preprocessing is not None:
            self._check_preprocessing(self.preprocessing)

    def __repr__(self) -> str:
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        sizes = ", ".join(f"{name} {len(split)}" for name, split in splits.items())
        shape = tuple(self.train.inputs.shape[1:])
        return f"Data({sizes} examples of shape {shape}, {self.classes} classes)"

    @property
    def example(self) -> Tensor:
        """A copy of one example as a batch of one, (1, ...)."""
        return self.train.inputs[:1].clone()

    def to(self, device: torch.device | str) -> Data:
        """The same data on another device."""
        train, valid, test = (split.to(device) for split in (self.train, self.valid, self.test))
        return Data(train, valid, test, self.classes, self.preprocessing)

    def _check_preprocessing(self, told: Preprocessing) -> None:
        channels = self.train.inputs.shape[1:2]
        for name in ("mean", "std"):
            part = getattr(told, name)
            if isinstance(part, tuple) and (len(part),) != channels:
                raise ValueError(
                    f"the {name} of the preprocessing has {len(part)} numbers, "
                    f"the inputs have the shape {tuple(self.train.inputs.shape[1:])}"
                )
        if told.labels and len(told.labels) != self.classes:
            raise ValueError(
                f"the preprocessing names {len(told.labels)} classes, there are {self.classes}"
            )


def split(
    inputs: Tensor,
    labels: Tensor,
    *,
    valid: int,
    test: int,
    seed: int = 0,
    preprocessing: Preprocessing | None = None,
) -> Data:
    """Shuffle examples once, by `seed`, and split them into train, valid and test.

    Raises:
        ValueError: no example is left to train on, or the examples are bad (see `Split`).
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
    return Data(first, second, third, int(whole.labels.max()) + 1, preprocessing)
