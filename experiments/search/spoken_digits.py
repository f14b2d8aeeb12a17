"""Real speech: 3,000 spoken digits of six speakers, as pictures of 32 x 32.

    git clone https://github.com/Jakobovski/free-spoken-digit-dataset

The Free Spoken Digit Dataset (Jackson et al., CC BY-SA 4.0) has fifty recordings of each digit by
each speaker, at 8 kHz. The first ten of each are the test split here, the next ten the validation
split. (Its authors test with the first five.)
"""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from paretonas.data import Data, Split
from search_spaces.images import mnist_5k

RATE = 8000  # samples in a second
WINDOW, HOP, BANDS = 512, 256, 32
SPEAKERS = 6


def spoken_digits(folder: Path) -> Data:
    """The logarithm of the energy in 32 bands of the mel scale, at 32 times in one second.

    Args:
        folder: has the recordings, such as 7_jackson_32.wav.

    Raises:
        FileNotFoundError: it does not hold the 3,000 recordings.
    """
    paths = sorted(folder.glob("*.wav"))
    if len(paths) != 10 * SPEAKERS * 50:
        raise FileNotFoundError(
            f"{folder} must hold 3,000 recordings, got {len(paths)}: clone "
            "https://github.com/Jakobovski/free-spoken-digit-dataset and give its recordings"
        )
    labels, numbers = (
        np.array([int(path.stem.split("_")[part]) for path in paths]) for part in (0, 2)
    )
    pictures = np.stack([_picture(path) for path in paths])
    train = numbers >= 20
    pictures = (pictures - pictures[train].mean()) / pictures[train].std()
    inputs, classes = torch.from_numpy(pictures)[:, None].float(), torch.from_numpy(labels)
    parts = (train, (numbers >= 10) & ~train, numbers < 10)
    splits = [Split(inputs[rows], classes[rows]) for rows in map(torch.from_numpy, parts)]
    return Data(train=splits[0], valid=splits[1], test=splits[2])


def image_data(speech: Path | None) -> dict[str, Data]:
    """MNIST-5k, and the spoken digits if their folder is given."""
    return {"mnist_5k": mnist_5k()} | ({"spoken_digits": spoken_digits(speech)} if speech else {})


def _picture(path: Path) -> NDArray[np.float64]:
    """(bands, times); longer recordings are cut, shorter ones get silence."""
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getsampwidth(), file.getnchannels()) == (RATE, 2, 1)
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    padded = np.zeros(BANDS * HOP + WINDOW - HOP)
    sound = samples[: len(padded)] / max(1, np.abs(samples).max())
    padded[: len(sound)] = sound
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * np.hanning(WINDOW)
    energy = np.abs(np.fft.rfft(frames)) ** 2
    return np.log(energy @ _bands().T + 1e-3).T


def _bands() -> NDArray[np.float64]:
    """(bands, frequencies) triangles, of equal width in mel (O'Shaughnessy 1987)."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    frequencies = np.fft.rfftfreq(WINDOW, 1 / RATE)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return np.clip(np.minimum(rising, falling), 0, None)
