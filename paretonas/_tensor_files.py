"""Checkpoints and weights with a checksum of all their bytes: a damaged file is refused by name."""

from __future__ import annotations

import os
import pickle
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import safetensors.torch
import torch
from torch import Tensor

DAMAGED = "its checksum is not that of its content"
_MARK = re.compile(rb"crc32 ([0-9a-f]{8})")  # the comment that a checkpoint, a zip archive, ends in
_LENGTH = len(b"crc32 00000000")
_END = re.compile(rb"PK\x05\x06.{16}\0\0", re.DOTALL)  # of an archive without a comment
_HEAD = b'{"__metadata__":{"crc32":"'  # begins the header of weights, after its length of 8 bytes
_EMPTY = b"00000000"  # stands for the checksum where it is computed


def write_checkpoint(path: Path, content: object) -> None:
    """Write tensors and plain values with `torch.save`; the archive's comment is a checksum.

    Raises:
        ValueError: the content holds something else.
        OSError: it cannot be written.
    """
    with path.open("wb") as file:  # given a path, torch does not say that a disk is full
        torch.save(content, file)
    try:
        torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise ValueError(f"a checkpoint holds tensors and plain values only: {error}") from error
    with path.open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(_LENGTH.to_bytes(2, "little"))  # of the comment; it was 0
        file.seek(0)
        checksum = _checksum(file)
        file.write(b"crc32 %08x" % checksum)


def read_checkpoint(path: Path) -> Any:
    """Read what `write_checkpoint` wrote; files of older versions have no checksum.

    Raises:
        ValueError: the file is damaged, or no checkpoint.
        OSError: it cannot be read.
    """
    why = DAMAGED
    try:
        if is_whole(path):
            return torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, MemoryError):  # which say nothing about the file
        raise
    except Exception as error:  # of whatever kind: torch names several for a damaged file
        why = type(error).__name__
    raise ValueError(f"{path} is damaged or no checkpoint ({why})")


def is_whole(checkpoint: Path) -> bool:
    """Whether the checksum of a checkpoint is right; older ones have none.

    Raises:
        OSError: it cannot be read.
    """
    with checkpoint.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LENGTH))
        mark = _MARK.fullmatch(file.read())
        if mark is None:
            file.seek(max(0, size - 22))
            return _END.fullmatch(file.read()) is not None
        file.seek(0)
        return _checksum(file, size - _LENGTH) == int(mark[1], 16)


def write_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors; ``crc32`` in its metadata is a checksum of the file.

    Raises:
        OSError: it cannot be written.
    """
    # Cloned, since the format refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    content = memoryview(safetensors.torch.save(tensors, {"crc32": _EMPTY.decode()}))
    place = 8 + len(_HEAD)
    if content[8 : place + len(_EMPTY)] != _HEAD + _EMPTY:
        raise RuntimeError("this version of safetensors does not begin its header with metadata")
    with path.open("wb") as file:
        file.write(content[:place])
        file.write(b"%08x" % zlib.crc32(content))
        file.write(content[place + len(_EMPTY) :])


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read what `write_weights` wrote; files of older versions have no checksum.

    Raises:
        ValueError: the file is damaged, or holds no tensors.
        OSError: it cannot be read.
    """
    why = DAMAGED
    try:
        with path.open("rb") as file:
            begin = file.read(8 + len(_HEAD))
            told = file.read(len(_EMPTY))
            if begin.endswith(_HEAD):
                whole = told == b"%08x" % _checksum(file, start=zlib.crc32(begin + _EMPTY))
            else:
                whole = b"__metadata__" not in begin  # of an older version, which wrote none
        if whole:
            tensors: dict[str, Tensor] = safetensors.torch.load_file(path)
            return tensors
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of whatever kind: safetensors has errors of its own
        why = type(error).__name__
    raise ValueError(f"{path} is damaged or no file of weights ({why})")


def _checksum(file: BinaryIO, count: int | None = None, start: int = 0) -> int:
    """The checksum of the next bytes of a file, by default of all that are left."""
    checksum = start
    while block := file.read(1 << 20 if count is None else min(1 << 20, count)):
        checksum = zlib.crc32(block, checksum)
        count = None if count is None else count - len(block)
    return checksum
