"""CIFAR-10 and CIFAR-100 in their binary version."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data import Preprocessing
from ._splits import Splits, cut, folder_at, splits

SOURCE = (
    "cifar-10-binary.tar.gz and cifar-100-binary.tar.gz are at https://www.cs.toronto.edu/~kriz"
)


def cifar(path: str | Path, *, valid: float = 0.1, seed: int = 0) -> Splits:
    """CIFAR-10 or CIFAR-100 in its binary version, as it is downloaded.

    Images are (3, 32, 32), uint8. They are normalized by the mean and standard deviation of each
    channel over the training examples.

    Args:
        path: the folder ``cifar-10-batches-bin`` or ``cifar-100-binary``, or the folder around it.
        valid: the share of the training images that become the validation split.
        seed: of the choice of these.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged.

    References:
        Krizhevsky 2009, "Learning Multiple Layers of Features from Tiny Images";
        https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    given = folder_at(path, "CIFAR's binary version")
    inner = (given, given / "cifar-10-batches-bin", given / "cifar-100-binary")
    ten = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for folder in inner:
        if (folder / ten[0]).exists():
            return _cifar(folder, ten, "test_batch.bin", "batches.meta.txt", 10, valid, seed)
        if (folder / "train.bin").exists():
            names = "fine_label_names.txt"
            return _cifar(folder, ["train.bin"], "test.bin", names, 100, valid, seed)
    raise FileNotFoundError(
        f"no CIFAR in {given}: expected data_batch_1.bin to data_batch_5.bin and test_batch.bin, "
        f"or train.bin and test.bin; {SOURCE} (the Python version consists of pickles, which "
        "could run any code, and is not read)"
    )


def _cifar(
    folder: Path,
    train: Sequence[str],
    test: str,
    names: str,
    classes: int,
    valid: float,
    seed: int,
) -> Splits:
    parts = [_records(folder / file, classes) for file in train]
    inputs, labels = (np.concatenate(some) for some in zip(*parts, strict=True))
    rows = cut(len(labels), {"valid": valid}, seed, folder)
    found = {split: (inputs[some], labels[some]) for split, some in rows.items()}
    found["test"] = _records(folder / test, classes)
    mean, std = _channels(found["train"][0])
    told = (folder / names).read_text().split() if (folder / names).exists() else []
    preprocessing = Preprocessing(
        "RGB pixels from 0 to 255",
        1 / 255,
        mean,
        std,
        layout="batch, channel, height, width",
        labels=tuple(told) if len(told) == classes else (),
    )
    return splits(found, preprocessing)


def _records(file: Path, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 3, 32, 32) and labels (n,)."""
    if not file.exists():
        raise FileNotFoundError(f"{file.name} is missing in {file.parent}; {SOURCE}")
    size = 3073 if classes == 10 else 3074  # which has a coarse label before the fine one
    bytes_ = np.fromfile(file, np.uint8)
    if not len(bytes_) or len(bytes_) % size:
        raise ValueError(f"{file} is damaged: {len(bytes_)} bytes, not a multiple of {size}")
    table = bytes_.reshape(-1, size)
    labels = table[:, -3073].astype(np.int64)
    if labels.max() >= classes:
        raise ValueError(f"{file} is damaged: a label is {labels.max()}, of {classes} classes")
    return table[:, -3072:].reshape(-1, 3, 32, 32), labels


def _channels(images: NDArray[np.uint8]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation of each channel, in [0, 1], without a copy in float."""
    levels = np.arange(256) / 255
    mean, std = [], []
    for channel in range(images.shape[1]):
        weights = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean.append(float(weights @ levels))
        std.append(float(np.sqrt(weights @ (levels - mean[-1]) ** 2)) or 1.0)
    return tuple(mean), tuple(std)
