"""CelebA: 40 yes-or-no questions about faces; forty tasks.

162,770 images to train on, 19,867 to validate, 19,962 to test, resized to 64 x 64. No augmentation;
15 epochs of Adam at 3e-4; batches of 256; the epoch with the best mean F1 on the validation split
is reported (FAMO, arXiv 2306.03792; SAM-GS, 2506.06130; Nash-MTL and CAGrad have no CelebA). The
original data: Liu et al., Deep Learning Face Attributes in the Wild (2015), arXiv 1411.7766.

Single-task F1 scores are those of FAMO's authors in https://github.com/Cranial-XIX/FAMO/issues/2.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from benchmark import Benchmark, Sample, Split, Task
from metrics import F1
from networks import FaceNetwork
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

SPLITS = {"train": "0", "valid": "1", "test": "2"}
SIDE = 64

# In the order of the data's own list, with the F1 score of a network for it alone.
ATTRIBUTES = {
    "5_o_Clock_Shadow": 0.6736886,
    "Arched_Eyebrows": 0.68121034,
    "Attractive": 0.81524944,
    "Bags_Under_Eyes": 0.5760289,
    "Bald": 0.7205613,
    "Bangs": 0.8555076,
    "Big_Lips": 0.38203922,
    "Big_Nose": 0.58225113,
    "Black_Hair": 0.787647,
    "Blond_Hair": 0.8321292,
    "Blurry": 0.5029583,
    "Brown_Hair": 0.68694085,
    "Bushy_Eyebrows": 0.6781237,
    "Chubby": 0.5240381,
    "Double_Chin": 0.5161666,
    "Eyeglasses": 0.95694304,
    "Goatee": 0.6968786,
    "Gray_Hair": 0.67976356,
    "Heavy_Makeup": 0.8808315,
    "High_Cheekbones": 0.8582131,
    "Male": 0.97034,
    "Mouth_Slightly_Open": 0.93267566,
    "Mustache": 0.5057539,
    "Narrow_Eyes": 0.40307626,
    "No_Beard": 0.9703734,
    "Oval_Face": 0.48644206,
    "Pale_Skin": 0.60786104,
    "Pointy_Nose": 0.5261031,
    "Receding_Hairline": 0.56907415,
    "Rosy_Cheeks": 0.59815097,
    "Sideburns": 0.6858371,
    "Smiling": 0.924108,
    "Straight_Hair": 0.5424991,
    "Wavy_Hair": 0.7406311,
    "Wearing_Earrings": 0.71019936,
    "Wearing_Hat": 0.87365365,
    "Wearing_Lipstick": 0.9305602,
    "Wearing_Necklace": 0.33704284,
    "Wearing_Necktie": 0.7647628,
    "Young": 0.91907,
}


class Faces:
    """The images of one split, read when they are asked for.

    Args:
        images: the folder of the files.
        names: of the files.
        answers: (files, 40), 0 or 1.
    """

    def __init__(self, images: Path, names: list[str], answers: Tensor) -> None:
        self.images, self.names, self.answers = images, names, answers
        self.size = (SIDE, SIDE)

    def __len__(self) -> int:
        return len(self.names)

    def sample(self, index: int, draws: torch.Generator | None) -> Sample:
        """A face and its 40 answers; there is no augmentation, so the draws are not used."""
        path = self.images / self.names[index]
        try:
            with Image.open(path) as file:
                face = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"{path} is no image that can be read: {error}") from error
        pixels = torch.from_numpy(np.array(face)).movedim(-1, 0).float() / 255
        return pixels, {"attributes": self.answers[index]}


def open_faces(root: Path) -> dict[str, Split]:
    """Read the two lists and find the images.

    Raises:
        ValueError: a file is missing or does not have the known form.
    """
    images = _find(root, "img_align_celeba", "Img")
    listed = _find(root, "list_attr_celeba.txt", "Anno")
    parted = _find(root, "list_eval_partition.txt", "Eval")
    lines = [line.split() for line in listed.read_text().splitlines() if line]
    count, names, *rows = lines if len(lines) > 2 else ([], [])
    if names != list(ATTRIBUTES):
        raise ValueError(
            f"{listed}: line 2 must name the 40 attributes, Young last, got {names[:2]}"
        )
    if count != [str(len(rows))]:
        raise ValueError(f"{listed}: line 1 counts {' '.join(count)} images, {len(rows)} follow")
    for number, row in enumerate(rows, start=3):
        if len(row) != 41 or not {*row[1:]} <= {"1", "-1"}:
            raise ValueError(f"{listed}, line {number}: not an image and 40 times 1 or -1")
    answers = torch.tensor([[value == "1" for value in row[1:]] for row in rows])
    parts = [line.split() for line in parted.read_text().splitlines() if line]
    if [row[0] for row in parts] != [row[0] for row in rows]:
        raise ValueError(f"{parted} does not list the images of {listed}")
    there = {path.name for path in images.iterdir()}
    missing = [row[0] for row in rows if row[0] not in there]
    if missing:
        raise ValueError(
            f"{images} lacks {len(missing)} of {len(rows)} images, such as {missing[0]}"
        )
    found: dict[str, Split] = {}
    for name, part in SPLITS.items():
        own = [index for index, row in enumerate(parts) if row[1:] == [part]]
        if not own:
            raise ValueError(f"{parted} has no image of part {part} ({name})")
        found[name] = Faces(images, [rows[index][0] for index in own], answers[own].float())
    return found


def generate_faces(root: Path, counts: Mapping[str, int], size: tuple[int, int]) -> None:
    """Write images whose brightness answers all questions, and the two lists."""
    draws = np.random.default_rng(0)
    (root / "img_align_celeba").mkdir(parents=True)
    rows, parts = [], []
    for name, part in SPLITS.items():
        for _ in range(counts[name]):
            file = f"{len(rows) + 1:06}.jpg"
            bright = draws.random()
            pixels = np.clip(255 * (bright + 0.1 * draws.standard_normal((*size, 3))), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "img_align_celeba" / file)
            answers = ["1" if bright > (k + 1) / 41 else "-1" for k in range(40)]
            rows.append(" ".join([file, *answers]))
            parts.append(f"{file} {part}")
    head = [str(len(rows)), " ".join(ATTRIBUTES)]
    (root / "list_attr_celeba.txt").write_text("\n".join([*head, *rows]) + "\n")
    (root / "list_eval_partition.txt").write_text("\n".join(parts) + "\n")


def _find(root: Path, name: str, folder: str) -> Path:
    """In the root, or in the folder where the official download has it."""
    for path in (root / name, root / folder / name):
        if path.exists():
            return path
    raise ValueError(f"there is no {name} in {root}, nor in {root / folder}")


def _loss(outputs: Tensor, answers: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, answers)


def _column(index: int, answers: Mapping[str, Tensor]) -> Tensor:
    return answers["attributes"][:, index]


CELEBA = Benchmark(
    name="celeba",
    tasks=tuple(
        Task(name, 1, partial(_column, index), _loss, F1, ("f1",))
        for index, name in enumerate(ATTRIBUTES)
    ),
    network=lambda tasks: FaceNetwork(len(tasks)),
    open=open_faces,
    generate=generate_faces,
    where="celeba needs the aligned images and the lists of "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, as ROOT/img_align_celeba/000001.jpg, ..., "
    "ROOT/list_attr_celeba.txt, ROOT/list_eval_partition.txt",
    counts={"train": 162_770, "valid": 19_867, "test": 19_962},
    size=(SIDE, SIDE),
    epochs=15,
    batch=256,
    rate=3e-4,
    halve_after=None,
    counted="best on valid",
    solver_settings={"SAMGS": {"gamma": 0.9, "beta2": 0.99}},
    published={f"{name} f1": score for name, score in ATTRIBUTES.items()},
    look_every=500,
)
