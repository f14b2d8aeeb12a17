"""Images with an answer for each pixel: the files, the augmentation and the losses.

NYUv2 and Cityscapes share this. Liu, Johns and Davison published the files with MTAN (arXiv
1803.10704), and all later papers use them. ROOT/train and ROOT/val have a folder for each kind with
0.npy, 1.npy, ...: images (height, width, 3), labels (height, width) with -1 for unknown, depth
(height, width, 1) with 0 for unknown, normals (height, width, 3) with zeros for unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import Sample, Split, Task
from metrics import Depth, Normals, Segmentation
from networks import WIDTHS, AttentionSegNet, SegNet
from torch import Tensor, nn
from torch.nn import functional

SCALES = (1.0, 1.2, 1.5)  # of the random crops
FOLDERS = {"train": "train", "test": "val"}  # the published test split is the data's validation set
CHANNELS = {"image": 3, "semantic": None, "depth": 1, "normal": 3}


def semantic(classes: int) -> Task:
    """Segmentation by cross-entropy."""

    def loss(outputs: Tensor, answers: Tensor) -> Tensor:
        total = functional.cross_entropy(outputs, answers, ignore_index=-1, reduction="sum")
        return total / (answers != -1).sum().clamp(min=1)

    metrics = ("mean_iou", "pixel_accuracy")
    return Task(
        "semantic", classes, lambda a: a["semantic"], loss, lambda: Segmentation(classes), metrics
    )


def depth() -> Task:
    """Depth by the mean absolute error of the pixels where it is known."""

    def loss(outputs: Tensor, answers: Tensor) -> Tensor:
        known = answers != 0
        return ((outputs - answers).abs() * known).sum() / known.sum().clamp(min=1)

    return Task("depth", 1, lambda a: a["depth"], loss, Depth, ("absolute_error", "relative_error"))


def normal() -> Task:
    """Surface normals by 1 - cosine, over the pixels where they are known."""

    def loss(outputs: Tensor, answers: Tensor) -> Tensor:
        known = answers.ne(0).any(1)
        cosine = (functional.normalize(outputs, dim=1) * answers).sum(1)
        return 1 - (cosine * known).sum() / known.sum().clamp(min=1)

    return Task("normal", 3, lambda a: a["normal"], loss, Normals, Normals.names)


def network(tasks: Sequence[Task], widths: Sequence[int] = WIDTHS) -> nn.Module:
    """The attention network for several tasks, the plain one for a single task, as published."""
    make = AttentionSegNet if len(tasks) > 1 else SegNet
    return make([task.channels for task in tasks], widths)


def protocol(kinds: Mapping[str, str], classes: int) -> dict[str, Any]:
    """What is the same in both, as published, and their files.

    Args:
        kinds: the folder of each kind of answer.
        classes: of the labels.
    """
    return {
        "open": partial(open_dense, kinds=kinds, classes=classes),
        "generate": partial(generate_dense, kinds=kinds, classes=classes),
        "network": network,
        "epochs": 200,
        "rate": 1e-4,
        "halve_after": 100,
        "counted": "last ten",
        "solver_settings": {"SAMGS": {"gamma": 0.9, "beta2": 0.9}},
        "look_every": 50,
    }


class DenseSplit:
    """The files of one split.

    Args:
        folder: ROOT/train or ROOT/val.
        kinds: the folder of each kind of answer.
        classes: of the labels.

    Raises:
        ValueError: a folder or a file is missing, or the first files do not fit.
    """

    def __init__(self, folder: Path, kinds: Mapping[str, str], classes: int) -> None:
        self.folders = {"image": folder / "image"} | {k: folder / kinds[k] for k in kinds}
        self.classes = classes
        counts = {place: _count(place) for place in self.folders.values()}
        self.count = counts[self.folders["image"]]
        for place, count in counts.items():
            if count != self.count or not count:
                raise ValueError(
                    f"{place} has {count} files 0.npy, 1.npy, ..., {folder / 'image'} {self.count}"
                )
        # The shapes stand in the heads of the files, so the rest need not be read.
        shapes = {kind: self._read(kind, 0, head_only=True).shape for kind in self.folders}
        self.size = shapes["image"][:2]
        for kind, shape in shapes.items():
            wanted = self.size if CHANNELS[kind] is None else (*self.size, CHANNELS[kind])
            if shape != wanted:
                raise ValueError(f"{self._path(kind, 0)} must have shape {wanted}, got {shape}")
        if any(length % 32 for length in self.size):
            raise ValueError(f"{folder}: sizes of images must be multiples of 32, got {self.size}")

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, draws: torch.Generator | None) -> Sample:
        """An image and its answers, cropped and flipped if there are draws."""
        maps = {kind: _tensor(self._read(kind, index)) for kind in self.folders}
        if any(found.shape[-2:] != self.size for found in maps.values()):
            raise ValueError(f"{self._path('image', index)}: not of size {self.size} like the rest")
        if int(maps["semantic"].max()) >= self.classes:
            raise ValueError(
                f"{self._path('semantic', index)}: labels must be below {self.classes}, "
                f"got {int(maps['semantic'].max())}"
            )
        if draws is not None:
            maps = _flipped(_cropped(maps, draws), draws)
        image, labels = maps.pop("image"), maps["semantic"]
        return image, maps | {"semantic": labels[0].round().long().clamp(min=-1)}

    def _path(self, kind: str, index: int) -> Path:
        return self.folders[kind] / f"{index}.npy"

    def _read(self, kind: str, index: int, head_only: bool = False) -> np.ndarray:
        path = self._path(kind, index)
        try:
            return np.load(path, mmap_mode="r" if head_only else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            why = str(error).partition(". ")[0]
            raise ValueError(f"{path} is no whole .npy file of numbers: {why}") from error


def open_dense(root: Path, kinds: Mapping[str, str], classes: int) -> dict[str, Split]:
    """The two splits below a root."""
    return {name: DenseSplit(root / part, kinds, classes) for name, part in FOLDERS.items()}


def generate_dense(
    root: Path,
    counts: Mapping[str, int],
    size: tuple[int, int],
    kinds: Mapping[str, str],
    classes: int,
) -> None:
    """Write images of a few tilted planes, whose depth and normals follow from their color."""
    draws = np.random.default_rng(0)
    for name, part in FOLDERS.items():
        for index in range(counts[name]):
            label = draws.integers(-1, classes, (size[0] // 16, size[1] // 16))
            label = label.repeat(16, 0).repeat(16, 1)
            shade = (label + 1)[..., None] / (classes + 1)
            slope = np.concatenate([shade - 0.5, 0.2 * np.ones_like(shade), shade], -1)
            maps = {
                "image": shade + 0.1 * draws.standard_normal((*size, 3)),
                "semantic": label,
                "depth": np.where(label[..., None] < 0, 0, 0.5 + shade),
                "normal": slope / np.linalg.norm(slope, axis=-1, keepdims=True),
            }
            for kind in ("image", *kinds):
                place = root / part / (kinds[kind] if kind != "image" else kind)
                place.mkdir(parents=True, exist_ok=True)
                np.save(place / f"{index}.npy", maps[kind].astype(np.float32))


def _count(folder: Path) -> int:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    names = {path.name for path in folder.iterdir()}
    count = 0
    while f"{count}.npy" in names:
        count += 1
    return count


def _tensor(array: np.ndarray) -> Tensor:
    found = torch.from_numpy(array).float()
    return found[None] if found.ndim == 2 else found.movedim(-1, 0)


def _cropped(maps: dict[str, Tensor], draws: torch.Generator) -> dict[str, Tensor]:
    """Cut out a part and enlarge it; what is seen enlarged is nearer, so depth is divided.

    The published code divides on Cityscapes as well, whose "depth" is the inverse, which should be
    multiplied. Ours divides there, too, to stay comparable.
    """
    height, width = maps["image"].shape[-2:]
    scale = SCALES[_below(len(SCALES), draws)]
    tall, wide = int(height / scale), int(width / scale)
    top, left = _below(height - tall + 1, draws), _below(width - wide + 1, draws)
    found = {}
    for kind, values in maps.items():
        smooth = kind in ("image", "normal")
        found[kind] = functional.interpolate(
            values[None, :, top : top + tall, left : left + wide],
            size=(height, width),
            mode="bilinear" if smooth else "nearest",
            align_corners=True if smooth else None,
        )[0]
    found["depth"] = found["depth"] / scale
    return found


def _flipped(maps: dict[str, Tensor], draws: torch.Generator) -> dict[str, Tensor]:
    """Swap left and right, every second time; normals then point the other way."""
    if _below(2, draws):
        return maps
    found = {kind: values.flip(-1) for kind, values in maps.items()}
    if "normal" in found:
        found["normal"] = found["normal"] * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    return found


def _below(bound: int, draws: torch.Generator) -> int:
    return int(torch.randint(bound, (), generator=draws))
