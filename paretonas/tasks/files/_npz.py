"""Arrays in NumPy's .npz."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ...data import Preprocessing
from ..feeds import tensor_of
from ._splits import Splits, cut, file_at, splits

IN_MEMORY = 2**30  # bytes; larger arrays stay on the disk


def npz(
    path: str | Path,
    *,
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    shuffle: bool = True,
) -> Splits:
    """Arrays in NumPy's .npz, by their names.

    They are called ``train_inputs``, ``train_targets``, ``valid_inputs`` and so on. ``val`` stands
    for ``valid``; ``x``, ``images`` or ``data`` for ``inputs``; ``y`` or ``labels`` for
    ``targets``; and the two words may change places, as in ``x_train``. A split that is missing is
    cut from the training examples at random; or, as time series need it, from their end, validation
    before test. Without any split, there are only ``inputs`` and ``targets``.

    Arrays of more than 1 GiB stay on the disk, if the file is not compressed. Inputs of the type
    uint8 get a preprocessing to about [-2, 2].

    Args:
        path: the file.
        valid: the share of validation examples, if the file has none.
        test: the share of test examples, if the file has none.
        seed: of the random cut.
        shuffle: whether the cut is random.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: arrays are missing, the file is damaged, or it has Python objects in it.
    """
    file = file_at(path, "an .npz of arrays such as train_inputs and train_targets")
    found: dict[str, dict[str, Any]] = {}
    names = []
    for name, array in _arrays_of(file):
        names.append(name)
        split, what = _meaning(name)
        if what:
            found.setdefault(split, {})[what] = array
    if not {"inputs", "targets"} <= found.get("train", {}).keys():
        raise ValueError(
            f"{file} needs the arrays train_inputs and train_targets, or inputs and targets; it "
            f"has {', '.join(names) or 'none'}"
        )
    for split, arrays in found.items():
        if len(arrays) != 2:
            raise ValueError(f"{file} has only the {next(iter(arrays))} of the {split} split")
    inputs, targets = found["train"]["inputs"], found["train"]["targets"]
    if not inputs.ndim or inputs.shape[:1] != targets.shape[:1]:
        raise ValueError(
            f"{file} needs a training target for each input, has arrays of the shapes "
            f"{inputs.shape} and {targets.shape}"
        )
    whole = {split: (arrays["inputs"], arrays["targets"]) for split, arrays in found.items()}
    missing = {s: share for s, share in (("valid", valid), ("test", test)) if s not in found}
    if missing:
        for split, rows in cut(len(inputs), missing, seed, file, shuffle).items():
            whole[split] = _rows_of(inputs, targets, rows)
    pixels = Preprocessing("whole numbers from 0 to 255", 1 / 255, 0.5, 0.25)
    return splits(whole, pixels if inputs.dtype == np.uint8 else None)


class _Pairs(Dataset[tuple[Tensor, Tensor]]):
    """Rows of arrays on the disk."""

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rows = (np.asarray(array[index]) for array in (self.inputs, self.targets))
        inputs, targets = map(tensor_of, rows)
        return inputs, targets


def _rows_of(inputs: NDArray[Any], targets: NDArray[Any], rows: NDArray[np.int64]) -> Any:
    if isinstance(inputs, np.memmap) or isinstance(targets, np.memmap):
        return Subset(_Pairs(inputs, targets), rows.tolist())
    return inputs[rows], targets[rows]


def _meaning(name: str) -> tuple[str, str]:
    """The split and the kind, "inputs" or "targets", of an array; no kind if it is unknown."""
    splits = {"": "train", "val": "valid"}
    kinds = {"x": "inputs", "images": "inputs", "data": "inputs", "y": "targets"}
    kinds |= {"inputs": "inputs", "targets": "targets", "labels": "targets"}
    split, kind = r"(?P<split>train|valid|val|test)", rf"(?P<kind>{'|'.join(kinds)})"
    for pattern in (rf"{split}_{kind}", rf"{kind}_{split}", rf"(?P<split>){kind}"):
        if match := re.fullmatch(pattern, name.lower()):
            word = match["split"]
            return splits.get(word, word), kinds[match["kind"]]
    return "train", ""


def _arrays_of(file: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of an .npz by name; large ones that are not compressed stay in the file."""
    try:
        with zipfile.ZipFile(file) as archive, file.open("rb") as raw:
            for entry in archive.infolist():
                with archive.open(entry) as opened:
                    if entry.compress_type == zipfile.ZIP_STORED and entry.file_size > IN_MEMORY:
                        array = _in_file(file, raw, entry)
                    else:
                        array = np.lib.format.read_array(opened, allow_pickle=False)
                yield entry.filename.removesuffix(".npy"), array
    except Exception as error:  # of whatever kind: the readers name a dozen for a damaged file
        raise ValueError(f"{file} cannot be read as an .npz: {error}") from error


def _in_file(file: Path, raw: Any, entry: zipfile.ZipInfo) -> NDArray[Any]:
    raw.seek(entry.header_offset + 26)  # of the lengths of two fields, before the content
    name, extra = (int.from_bytes(raw.read(2), "little") for _ in range(2))
    raw.seek(entry.header_offset + 30 + name + extra)
    version = np.lib.format.read_magic(raw)
    read = np.lib.format.read_array_header_1_0
    if version != (1, 0):
        read = np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(raw)
    if dtype.hasobject:
        raise ValueError(f"{entry.filename} has Python objects in it")
    start = raw.tell()
    return np.memmap(file, dtype, "r", start, shape, "F" if fortran else "C")
