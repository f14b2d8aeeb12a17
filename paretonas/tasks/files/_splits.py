"""The three splits of a file or folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray

from ...data import Preprocessing


class Splits(TypedDict):
    """What a task takes: ``Classification(**image_folder("photos", size=64))``.

    Attributes:
        train: the training examples, in a form that `Supervised` understands.
        valid: the examples that decide in a search.
        test: the examples that are only reported.
        preprocessing: how raw inputs become inputs of the network, and the names of the classes.
    """

    train: Any
    valid: Any
    test: Any
    preprocessing: Preprocessing | None


def cut(
    examples: int, shares: Mapping[str, float], seed: int, place: Path, shuffle: bool = True
) -> dict[str, NDArray[np.int64]]:
    """The rows of some splits by their shares; the rest is for training.

    They are drawn at random, or the training rows come first, and the others in their order.
    """
    counts = {
        split: max(1, round(checked_share(share) * examples)) for split, share in shares.items()
    }
    rest = examples - sum(counts.values())
    if rest < 1:
        raise ValueError(
            f"{place} has too few examples: {examples} in all leave none to train on beside "
            + ", ".join(f"{count} for {split}" for split, count in counts.items())
        )
    order = torch.arange(examples)
    if shuffle:
        order = torch.randperm(examples, generator=torch.Generator().manual_seed(seed))
    parts = order.split([rest, *counts.values()])
    return {s: part.numpy() for s, part in zip(("train", *counts), parts, strict=True)}


def checked_share(share: float) -> float:
    if not 0 < share < 1:
        raise ValueError(f"the share of a split must be between 0 and 1, got {share}")
    return share


def splits(found: Mapping[str, Any], preprocessing: Preprocessing | None) -> Splits:
    """The keyword arguments of a task."""
    train, valid, test = (found[split] for split in ("train", "valid", "test"))
    return {"train": train, "valid": valid, "test": test, "preprocessing": preprocessing}


def folder_at(path: str | Path, expected: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: expected {expected}")
    return folder


def file_at(path: str | Path, expected: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: expected {expected}")
    return file
