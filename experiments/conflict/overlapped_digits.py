"""Two real digits in one image, and networks with a shared encoder for two tasks.

Each image overlaps two MNIST digits, the left one higher and the right one lower by eight pixels,
as in MultiMNIST (Sabour et al. 2017, arXiv 1710.09829; Sener and Koltun 2018, arXiv 1810.04650).
Train, valid and test overlap different digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from search_spaces.images import mnist_5k

SHIFT = 8  # pixels from the left digit to the right one, right and down
PAIRS = {"train": 9000, "valid": 4000, "test": 4000}


@dataclass(frozen=True, eq=False)
class Pairs:
    """Overlapped digits and what can be asked about them.

    Attributes:
        inputs: (k, 1, 18, 18).
        answers: by name, (k,): "left" and "right", the digits; "slant" of the right one, in
            standard deviations of the training set.
        sources: (k, 2), the images that were overlapped, numbered within the split.
    """

    inputs: Float[Tensor, "k 1 18 18"]
    answers: dict[str, Tensor]
    sources: Int[Tensor, "k 2"]


@dataclass(frozen=True)
class Task:
    """One question: a head of the network, its loss and its error.

    Attributes:
        asks: a name in `Pairs.answers`.
        scale: factor of the loss, as units would give it; the error is without.
    """

    asks: str
    scale: float = 1.0

    @property
    def outputs(self) -> int:
        """Ten classes or one number."""
        return 1 if self.asks == "slant" else 10

    def loss(self, outputs: Tensor, answers: Tensor) -> Tensor:
        """Cross-entropy of a digit, mean square of a slant."""
        if self.asks == "slant":
            return self.scale * functional.mse_loss(outputs[:, 0], answers)
        return self.scale * functional.cross_entropy(outputs, answers)

    def error(self, outputs: Tensor, answers: Tensor) -> float:
        """Percent of wrong digits, or root mean square of a slant in percent of its spread."""
        if self.asks == "slant":
            return 100 * float(functional.mse_loss(outputs[:, 0], answers).sqrt())
        return 100 * float((outputs.argmax(dim=1) != answers).float().mean())


class Network(nn.Module):
    """A perceptron for an encoder, narrow at its end so that the tasks compete; linear heads."""

    def __init__(self, tasks: Sequence[Task], times: int = 1) -> None:
        """Draw the weights of a network so many times as wide; those of the encoder first."""
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(18 * 18, 64 * times),
            nn.ReLU(),
            nn.Linear(64 * times, 24 * times),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Linear(24 * times, task.outputs) for task in tasks)

    def forward(self, inputs: Float[Tensor, "k 1 18 18"]) -> list[Float[Tensor, "k outputs"]]:
        """Answer all questions."""
        shared = self.encoder(inputs)
        return [head(shared) for head in self.heads]


@cache
def pairs() -> dict[str, Pairs]:
    """The three splits, the same every time."""
    digits = mnist_5k()
    mean, deviation = moments(slants(digits.train.inputs))
    made = {}
    for seed, (name, count) in enumerate(PAIRS.items()):
        split = getattr(digits, name)
        sources = drawn(len(split), count, torch.Generator().manual_seed(seed))
        left, right = sources.unbind(1)
        answers = {
            "left": split.labels[left],
            "right": split.labels[right],
            "slant": (slants(split.inputs[right]) - mean) / deviation,
        }
        made[name] = Pairs(overlapped(split.inputs[left], split.inputs[right]), answers, sources)
    return made


def moments(numbers: Tensor) -> tuple[float, float]:
    """Mean and standard deviation."""
    return float(numbers.mean()), float(numbers.std())


def drawn(images: int, count: int, generator: torch.Generator) -> Int[Tensor, "k 2"]:
    """Pairs of two different images; on either side, each image serves equally often."""
    rounds = range(-(-count // images))
    orders = [torch.randperm(images, generator=generator) for _ in rounds]
    return torch.cat([torch.stack([order, order.roll(1)], dim=1) for order in orders])[:count]


def overlapped(
    left: Float[Tensor, "k 1 28 28"], right: Float[Tensor, "k 1 28 28"]
) -> Float[Tensor, "k 1 18 18"]:
    """The brighter of both at each pixel, at half the resolution."""
    paper = float(left.min())
    above = functional.pad(left, (0, SHIFT, 0, SHIFT), value=paper)
    below = functional.pad(right, (SHIFT, 0, SHIFT, 0), value=paper)
    return functional.avg_pool2d(torch.maximum(above, below), 2)


def slants(digits: Float[Tensor, "k 1 s s"]) -> Float[Tensor, " k"]:
    """How far the ink leans: pixels to the side for one down, by second moments."""
    ink = (digits - digits.min()).squeeze(1)
    ink = ink / ink.sum(dim=(1, 2), keepdim=True)
    place = torch.arange(float(digits.shape[-1]))
    row = place[:, None] - (ink * place[:, None]).sum(dim=(1, 2), keepdim=True)
    column = place - (ink * place).sum(dim=(1, 2), keepdim=True)
    return (ink * row * column).sum(dim=(1, 2)) / (ink * row * row).sum(dim=(1, 2))
