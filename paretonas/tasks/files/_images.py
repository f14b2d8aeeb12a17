"""Images in folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ...data import Preprocessing
from ._splits import Splits, cut, folder_at, splits

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # which pretrained networks expect
FOLDERS = {"train": ("train",), "valid": ("valid", "val"), "test": ("test",)}


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
    each. If one of the last two is missing, it is cut from the training images at random. Without a
    sub-folder ``train``, the classes are in the folder itself, and all splits are cut from them.

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
    root = folder_at(path, "sub-folders of images, one per class")
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
    missing = {s: share for s, share in (("valid", valid), ("test", test)) if s not in found}
    rows = cut(len(found["train"]), missing, seed, root)
    found |= {split: [found["train"][row] for row in some] for split, some in rows.items()}
    preprocessing = Preprocessing(
        f"RGB images of {height} x {width} pixels, from 0 to 255",
        1 / 255,
        *IMAGENET,
        layout="batch, channel, height, width",
        labels=tuple(classes),
    )
    sets = {split: _Images(files, height, width) for split, files in found.items()}
    return splits(sets, preprocessing)


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
        except Exception as error:  # whatever a decoder raises on a damaged file
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
