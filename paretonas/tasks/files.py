"""Examples from files: an image folder, CIFAR, arrays, a table or a text.

Each function returns keyword arguments of a task: the three splits and the preprocessing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset

from ..data import Preprocessing

__all__ = ["Splits", "cifar", "csv", "image_folder", "npz", "text"]

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # which pretrained networks expect
IN_MEMORY = 2**30  # bytes; larger arrays stay on the disk
CATEGORIES = 1000  # different texts in a column
FOLDERS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}


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


# --- images ---------------------------------------------------------------------------------------


def image_folder(
    path: str | Path,
    *,
    size: int | tuple[int, int],
    valid: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> Splits:
    """Images in one sub-folder per class, decoded when they are needed.

    The splits are sub-folders ``train``, ``valid`` (or ``val``) and ``test``, with the classes in
    each. One that is missing is cut from the others at random. So is all, if ``train`` is missing.

    Args:
        path: the folder.
        size: height and width in pixels, or both. An image is scaled so that it covers them, and
            its center is cut out. It is then (3, height, width), RGB, uint8.
        valid: the share of validation examples, where there is no such folder.
        test: the share of test examples, where there is no such folder.
        seed: of the random cut.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: a class has no training images; or later, a file is not an image.
        ModuleNotFoundError: Pillow is not installed.
    """
    _pillow()
    root = _folder(path, "sub-folders of images, one per class")
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"the size of images must be positive, got {size}")
    places = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in FOLDERS.items()
    }
    whole = root if places["train"] is None else places["train"]
    if whole is root:
        places = dict.fromkeys(places)
    classes = sorted(f.name for f in whole.iterdir() if f.is_dir() and f.name[0] != ".")
    found = {
        split: _image_files(place, classes)
        for split, place in {**places, "train": whole}.items()
        if place is not None
    }
    for label, name in enumerate(classes):
        if not any(one == label for _, one in found["train"]):
            raise ValueError(f"no image ({', '.join(ENDINGS)}) in the class folder {whole / name}")
    shares = {
        split: share for split, share in (("valid", valid), ("test", test)) if split not in found
    }
    rows = _cut(len(found["train"]), shares, seed, root)
    cut = {split: [found["train"][row] for row in some] for split, some in rows.items()}
    return {
        **_three({s: _Images(files, height, width) for s, files in {**found, **cut}.items()}),
        "preprocessing": Preprocessing(
            f"RGB images of {height} x {width} pixels, from 0 to 255",
            1 / 255,
            *IMAGENET,
            layout="batch, channel, height, width",
            labels=tuple(classes),
        ),
    }


class _Images(Dataset[tuple[Tensor, int]]):
    """Image files with their labels."""

    def __init__(self, files: Sequence[tuple[str, int]], height: int, width: int) -> None:
        self.files, self.height, self.width = files, height, width

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, operations = _pillow()
        path, label = self.files[index]
        try:
            with image.open(path) as opened:
                if opened.mode.startswith(("I", "F")):
                    raise ValueError(f"it has the mode {opened.mode}, not 8 bits per channel")
                upright = operations.exif_transpose(opened).convert("RGB")
            fitted = operations.fit(upright, (self.width, self.height), image.Resampling.BILINEAR)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous(), label


def _image_files(folder: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """The images of a split with their labels."""
    labels = {name: label for label, name in enumerate(classes)}
    found = []
    for inner in sorted(f for f in folder.iterdir() if f.is_dir() and f.name[0] != "."):
        files = sorted(f for f in inner.rglob("*") if f.suffix.lower() in ENDINGS and f.is_file())
        if inner.name not in labels and files:
            raise ValueError(f"the class {inner.name!r} of {folder} has no training images")
        found += [(str(file), labels[inner.name]) for file in files if file.name[0] != "."]
    if not found:
        raise FileNotFoundError(
            f"no images in {folder}: expected sub-folders, one per class, with files that end in "
            f"{', '.join(ENDINGS)}"
        )
    return found


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageOps
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "images need Pillow: pip install 'paretonas[images]'", name="PIL"
        ) from error
    return Image, ImageOps


# --- CIFAR ----------------------------------------------------------------------------------------


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
    given = _folder(path, "CIFAR's binary version")
    inner = (given, given / "cifar-10-batches-bin", given / "cifar-100-binary")
    ten = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for folder in inner:
        if (folder / ten[0]).exists():
            return _cifar(folder, ten, "test_batch.bin", "batches.meta.txt", 10, valid, seed)
        if (folder / "train.bin").exists():
            names = "fine_label_names.txt"
            return _cifar(folder, ["train.bin"], "test.bin", names, 100, valid, seed)
    pickled = any(
        (f / n).exists() for f in _folders(given) for n in ("data_batch_1", "batches.meta")
    )
    raise FileNotFoundError(
        f"no CIFAR in {given}: expected data_batch_1.bin to data_batch_5.bin and test_batch.bin, or "
        "train.bin and test.bin"
        + (", but found the Python version, whose pickles could run any code" if pickled else "")
        + "; the binary version is at https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz and "
        "cifar-100-binary.tar.gz"
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
    rows = _cut(len(labels), {"valid": valid}, seed, folder)
    cut = {split: (inputs[some], labels[some]) for split, some in rows.items()}
    mean, std = _channels(cut["train"][0])
    told = (folder / names).read_text().split() if (folder / names).exists() else []
    return {
        **_three({**cut, "test": _records(folder / test, classes)}),
        "preprocessing": Preprocessing(
            "RGB pixels from 0 to 255",
            1 / 255,
            mean,
            std,
            layout="batch, channel, height, width",
            labels=tuple(told) if len(told) == classes else (),
        ),
    }


def _records(file: Path, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 3, 32, 32) and labels (n,)."""
    if not file.exists():
        raise FileNotFoundError(f"{file.name} is missing in {file.parent}")
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


# --- arrays ---------------------------------------------------------------------------------------


def npz(path: str | Path, *, valid: float = 0.1, test: float = 0.1, seed: int = 0) -> Splits:
    """Arrays in NumPy's .npz, by their names.

    They are called ``train_inputs``, ``train_targets``, ``valid_inputs`` and so on. ``val`` stands
    for ``valid``; ``x``, ``images`` or ``data`` for ``inputs``; ``y`` or ``labels`` for
    ``targets``; and the two words may change places, as in ``x_train``. A split that is missing is
    cut from the training examples at random. Without any split, there are only ``inputs`` and
    ``targets``.

    Arrays of more than 1 GiB stay on the disk, if the file is not compressed. Inputs of the type
    uint8 get a preprocessing to about [-2, 2].

    Args:
        path: the file.
        valid: the share of validation examples, if the file has none.
        test: the share of test examples, if the file has none.
        seed: of the random cut.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: arrays are missing, the file is damaged, or it has Python objects in it.
    """
    file = _file(path, "an .npz of arrays such as train_inputs and train_targets")
    found: dict[str, dict[str, Any]] = {}
    names = []
    for name, array in _arrays_of(file):
        names.append(name)
        split, what = _meaning(name)
        if what:
            found.setdefault(split, {})[what] = array
    if not {"inputs", "targets"} <= found.get("train", {}).keys():
        raise ValueError(
            f"{file} needs the arrays train_inputs and train_targets, or inputs and targets; it has "
            f"{', '.join(names) or 'none'}"
        )
    for split, arrays in found.items():
        if len(arrays) != 2:
            raise ValueError(f"{file} has only the {next(iter(arrays))} of the {split} split")
    inputs, targets = found["train"]["inputs"], found["train"]["targets"]
    if len(inputs) != len(targets):
        raise ValueError(f"{file} has {len(inputs)} training inputs and {len(targets)} targets")
    whole = {split: (arrays["inputs"], arrays["targets"]) for split, arrays in found.items()}
    shares = {
        split: share for split, share in (("valid", valid), ("test", test)) if split not in found
    }
    if shares:
        for split, rows in _cut(len(inputs), shares, seed, file).items():
            whole[split] = _rows_of(inputs, targets, rows)
    pixels = Preprocessing("whole numbers from 0 to 255", 1 / 255, 0.5, 0.25)
    return {**_three(whole), "preprocessing": pixels if inputs.dtype == np.uint8 else None}


class _Pairs(Dataset[tuple[Any, Any]]):
    """Rows of arrays on the disk."""

    def __init__(self, inputs: NDArray[Any], targets: NDArray[Any]) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return np.array(self.inputs[index]), np.array(self.targets[index])


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
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
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
    order = "F" if fortran else "C"
    return np.memmap(file, dtype, "r", offset=raw.tell(), shape=shape, order=order)


# --- tables ---------------------------------------------------------------------------------------


def csv(
    path: str | Path,
    *,
    target: str | Sequence[str],
    columns: Sequence[str] | None = None,
    valid: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
) -> Splits:
    """A table with a line of column names; commas, semicolons, tabs or bars between the columns.

    Inputs are (n, columns), float32. A column of texts becomes the place of each text among all
    texts of the column, in alphabetical order. All columns are normalized by the mean and standard
    deviation of the training rows. The splits are cut at random.

    Args:
        path: the file.
        target: the column to predict: texts become classes; whole numbers stay whole numbers, (n,),
            int64; others are (n,), float32. Several columns are (n, columns), float32.
        columns: the columns to predict it from; by default all others.
        valid: the share of the validation rows.
        test: the share of the test rows.
        seed: of the random cut.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a value is missing or not finite, a column has more than
            1000 different texts, or the file is not a table.
    """
    file = _file(path, "a table with a line of column names")
    table = _table(file)
    wanted = [target] if isinstance(target, str) else list(target)
    given = [c for c in table if c not in wanted] if columns is None else list(columns)
    for column in [*wanted, *given]:
        if column not in table:
            raise ValueError(
                f"{file} has no column {column!r}; it has {', '.join(map(str, table))}"
            )
    if not given or not wanted or set(given) & set(wanted):
        raise ValueError(f"inputs and targets must be different columns, got {given} and {wanted}")
    codes = {column: _numbers(file, column, table[column]) for column in [*given, *wanted]}
    inputs = np.stack([codes[column][0] for column in given], axis=1).astype(np.float64)
    numbers, names = codes[wanted[0]]
    if not isinstance(target, str):
        numbers = np.stack([codes[column][0] for column in wanted], axis=1).astype(np.float64)
        names = ()
    targets = numbers if numbers.dtype == np.int64 else numbers.astype(np.float32)
    rows = _cut(len(inputs), {"valid": valid, "test": test}, seed, file)
    mean, std = (f(inputs[rows["train"]], axis=0) for f in (np.mean, np.std))
    told = [f"{c} ({_codes(codes[c][1])})" if codes[c][1] else str(c) for c in given]
    preprocessing = Preprocessing(
        f"the columns {', '.join(told)}",
        mean=tuple(mean.tolist()),
        std=tuple(np.where(std > 0, std, 1.0).tolist()),  # a constant column has no spread
        layout="batch, column",
        labels=names,
    )
    prepared = preprocessing(inputs)
    whole = {split: (prepared[some], targets[some]) for split, some in rows.items()}
    return {**_three(whole), "preprocessing": preprocessing}


def _table(file: Path) -> dict[str, Any]:
    """The columns of a table by name."""
    import pandas as pd  # late, since it takes a second to import

    try:
        with file.open(encoding="utf-8-sig") as opened:
            header = opened.readline()
        separator = max(",;\t|", key=header.count)
        frame = pd.read_csv(file, sep=separator, skipinitialspace=True, encoding="utf-8-sig")
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{file} cannot be read as a table: {error}") from error
    if frame.empty:
        raise ValueError(f"{file} has no rows below its line of column names")
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError(f"{file} has rows with more values than its line of column names")
    return dict(frame.items())


def _numbers(file: Path, column: str, series: Any) -> tuple[NDArray[Any], tuple[str, ...]]:
    """A column as numbers, and the texts that they stand for, if it has texts."""
    missing = np.flatnonzero(series.isna())
    where = f"the column {column!r} of {file}"
    if len(missing):
        raise ValueError(
            f"{where} has no value in {len(missing)} of {len(series)} rows, first in row "
            f"{missing[0] + 1} below the names: fill it in, or leave out the row or the column"
        )
    if series.dtype.kind in "biu":
        return series.to_numpy(np.int64), ()
    if series.dtype.kind == "f":
        values = series.to_numpy(np.float64)
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0]) + 1
            raise ValueError(f"{where} must be finite, found {values[row - 1]} in row {row}")
        return values, ()
    texts, codes = np.unique(series.astype(str).to_numpy(str), return_inverse=True)
    if len(texts) > CATEGORIES:
        raise ValueError(
            f"{where} has {len(texts)} different texts, such as {str(texts[0])!r}, more than "
            f"{CATEGORIES}: name the columns to use, without it"
        )
    return codes.astype(np.int64), tuple(texts.tolist())


def _codes(texts: Sequence[str]) -> str:
    return ", ".join(f"{text} = {code}" for code, text in enumerate(texts))


# --- text -----------------------------------------------------------------------------------------


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
    file = _file(path, "a text")
    if length < 1:
        raise ValueError(f"the length of an example must be positive, got {length}")
    size = file.stat().st_size
    ends = [0, round(size * (1 - _share(valid) - _share(test))), round(size * (1 - test)), size]
    shortest = min(end - start for start, end in pairwise(ends))
    if shortest <= length:
        raise ValueError(
            f"each part of {file} needs {length + 1} bytes, for {length} and the next one; of "
            f"{size} bytes the smallest part gets {max(0, shortest)}"
        )
    whole = np.memmap(file, np.uint8, "r")
    parts = [_Windows(whole[start:end], length) for start, end in pairwise(ends)]
    named = dict(zip(FOLDERS, parts, strict=True))
    return {**_three(named), "preprocessing": None}


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


# --- what all share -------------------------------------------------------------------------------


def _cut(
    examples: int, shares: Mapping[str, float], seed: int, place: Path
) -> dict[str, NDArray[np.int64]]:
    """The rows of some splits by their shares, at random; the rest is for training."""
    counts = {split: max(1, round(_share(share) * examples)) for split, share in shares.items()}
    rest = examples - sum(counts.values())
    if rest < 1:
        raise ValueError(
            f"{place} has too few examples: {examples} in all leave none to train on beside "
            + ", ".join(f"{count} for {split}" for split, count in counts.items())
        )
    order = torch.randperm(examples, generator=torch.Generator().manual_seed(seed))
    parts = order.split([rest, *counts.values()])
    return {s: part.numpy() for s, part in zip(("train", *counts), parts, strict=True)}


def _share(share: float) -> float:
    if not 0 < share < 1:
        raise ValueError(f"the share of a split must be between 0 and 1, got {share}")
    return share


def _three(splits: Mapping[str, Any]) -> Splits:
    return {
        "train": splits["train"],
        "valid": splits["valid"],
        "test": splits["test"],
        "preprocessing": None,
    }


def _folders(root: Path) -> list[Path]:
    return [root, *(folder for folder in root.iterdir() if folder.is_dir())]


def _folder(path: str | Path, expected: str) -> Path:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: expected {expected}")
    return folder


def _file(path: str | Path, expected: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileNotFoundError(f"there is no file {file}: expected {expected}")
    return file
