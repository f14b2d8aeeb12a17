"""A text as a sequence of bytes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ._splits import Splits, checked_share, file_at, splits


def text(path: str | Path, *, length: int, valid: float = 0.1, test: float = 0.1) -> Splits:
    """A text file as bytes, of which each is to be predicted from those before it.

    The file stays on the disk. Its first part is for training, the next for validation, the last
    for the test. An example is (length,) bytes as int64 from 0 to 255, and the (length,) bytes that
    begin one later.

    Args:
        path: the file, in any encoding.
        length: bytes of an example; examples do not overlap.
        valid: the share of the validation part.
        test: the share of the test part.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is too short for an example in each part.
    """
    file = file_at(path, "a text")
    if length < 1:
        raise ValueError(f"the length of an example must be positive, got {length}")
    size = file.stat().st_size
    ends = [
        0,
        round(size * (1 - checked_share(valid) - checked_share(test))),
        round(size * (1 - test)),
        size,
    ]
    shortest = min(end - start for start, end in pairwise(ends))
    if shortest <= length:
        raise ValueError(
            f"each part of {file} needs {length + 1} bytes, for {length} and the next one; of "
            f"{size} bytes the smallest part gets {max(0, shortest)}"
        )
    whole = np.memmap(file, np.uint8, "r")
    parts = (_Windows(whole[start:end], length) for start, end in pairwise(ends))
    return splits(dict(zip(("train", "valid", "test"), parts, strict=True)), None)


class _Windows(Dataset[tuple[Tensor, Tensor]]):
    """Stretches of a sequence of tokens, each with the tokens that follow."""

    def __init__(self, tokens: NDArray[np.uint8], length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return (len(self.tokens) - 1) // self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"there are {len(self)} examples, got the number {index}")
        start = index * self.length
        both = torch.from_numpy(self.tokens[start : start + self.length + 1].astype(np.int64))
        return both[:-1], both[1:]
