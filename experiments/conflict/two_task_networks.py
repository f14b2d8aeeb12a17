"""Networks as functions of their weights, many at once: one for each ray, or made from the ray.

There are two tasks on overlapped digits, and the encoder ends in a neck that is too narrow for
both. A ray is a preference vector over the two tasks; `two_task_front.py` trains the networks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float
from overlapped_digits import Task, pairs
from torch import Tensor, nn
from torch.nn import functional

COMPONENTS = 64  # of the images


@dataclass(frozen=True)
class Problem:
    """Two tasks, their loss and error at guessing, and a neck in which they have to compete."""

    tasks: tuple[Task, Task]
    guess: tuple[float, float]
    guess_error: tuple[float, float]
    neck: int


DIGITS, SLANT = "two digits", "digit and slant"
PROBLEMS = {
    DIGITS: Problem((Task("left"), Task("right")), (math.log(10),) * 2, (90.0, 90.0), 4),
    SLANT: Problem((Task("left"), Task("slant")), (math.log(10), 1.0), (90.0, 100.0), 3),
}


class Perceptron:
    """A network as a function of its weights, for r of them at once: encoder, neck, two heads."""

    def __init__(self, problem: Problem, neck: int, hidden: int) -> None:
        """Lay out the weights: those of the encoder, which both tasks share, come first."""
        self.problem = problem
        heads = [(neck, task.outputs) for task in problem.tasks]
        self.layers = [(COMPONENTS, hidden), (hidden, neck), *heads]
        self.sizes = [size for one in self.layers for size in (math.prod(one), one[1])]
        self.shared = sum(self.sizes[:4])

    def draw(self) -> Float[Tensor, " n"]:
        """Initial weights, as torch draws them for linear layers."""
        sides = [1 / math.sqrt(inputs) for inputs, _ in self.layers for _ in range(2)]
        parts = [s * (2 * torch.rand(k) - 1) for s, k in zip(sides, self.sizes, strict=True)]
        return torch.cat(parts)

    def __call__(self, weights: Float[Tensor, "r n"], inputs: Tensor) -> list[Tensor]:
        """Answer both questions about k inputs by each of r networks: (r, k, outputs) each."""
        parts = iter(weights.split(self.sizes, dim=1))
        (one, at_one), (two, at_two), *heads = [
            (next(parts).unflatten(1, layer), next(parts).unsqueeze(1)) for layer in self.layers
        ]
        features = torch.tanh((inputs @ one + at_one).relu() @ two + at_two)
        return [features @ matrix + bias for matrix, bias in heads]

    def losses(
        self, weights: Float[Tensor, "r n"], inputs: Tensor, answers: dict[str, Tensor]
    ) -> Float[Tensor, "r 2"]:
        """Both losses of each network, as multiples of what guessing gets."""
        problem, columns = self.problem, []
        for task, guess, outputs in zip(
            problem.tasks, problem.guess, self(weights, inputs), strict=True
        ):
            wanted = answers[task.asks].expand(len(weights), -1)
            if task.asks == "slant":
                each = (outputs[..., 0] - wanted).square()
            else:
                each = functional.cross_entropy(outputs.mT, wanted, reduction="none")
            columns.append(each.mean(dim=1) / guess)
        return torch.stack(columns, dim=1)

    def errors(
        self, weights: Float[Tensor, "r n"], inputs: Tensor, answers: dict[str, Tensor]
    ) -> Float[Tensor, "r 2"]:
        """Both errors of each network, as multiples of what guessing gets."""
        outputs = zip(*self(weights, inputs), strict=True)
        each = [
            [
                task.error(out, answers[task.asks])
                for task, out in zip(self.problem.tasks, pair, strict=True)
            ]
            for pair in outputs
        ]
        return torch.tensor(each) / torch.tensor(self.problem.guess_error)


class OneEach(nn.Module):
    """A network for each of some fixed rays; all begin with the same weights."""

    def __init__(self, form: Perceptron, count: int) -> None:
        """Draw the weights."""
        super().__init__()
        self.weights = nn.Parameter(form.draw().repeat(count, 1))

    def forward(self, rays: Float[Tensor, "r 2"]) -> Float[Tensor, "r n"]:
        """Return all weights, whatever the rays."""
        return self.weights


class Hypernetwork(nn.Module):
    """One network that makes all weights of another from a ray."""

    def __init__(self, form: Perceptron, features: int, hidden: int = 32) -> None:
        """Draw a network, and ways in which its weights may change with the ray."""
        super().__init__()
        self.start = nn.Parameter(form.draw())
        self.ways = nn.Parameter(torch.stack([0.3 * form.draw() for _ in range(features)]))
        self.features = nn.Sequential(nn.Linear(1, hidden), nn.ReLU(), nn.Linear(hidden, features))

    def forward(self, rays: Float[Tensor, "r 2"]) -> Float[Tensor, "r n"]:
        """Make the weights for each ray."""
        return self.start + self.features(log_ratio(rays)[:, None]) @ self.ways


def rays_at(log_ratios: Float[Tensor, " r"]) -> Float[Tensor, "r 2"]:
    """Preferences from the logarithm of how much the first task counts over the second."""
    return torch.stack([torch.sigmoid(log_ratios), torch.sigmoid(-log_ratios)], dim=1)


def log_ratio(rays: Float[Tensor, "r 2"]) -> Float[Tensor, " r"]:
    """The inverse of `rays_at`."""
    return rays[:, 0].log() - rays[:, 1].log()


def sampled(count: int, spread: float, generator: torch.Generator) -> Float[Tensor, "r 2"]:
    """A ray from each of so many equal parts of the range."""
    places = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return rays_at(spread * (2 * places - 1))


@cache
def splits() -> dict[str, tuple[Tensor, dict[str, Tensor]]]:
    """The overlapped digits in principal components of `train`, with unit variance each.

    The 64 hold 87 % of the variance, and networks on them train in fewer and cheaper steps.
    """
    flat = {name: split.inputs.flatten(1) for name, split in pairs().items()}
    mean = flat["train"].mean(dim=0)
    _, deviations, axes = torch.linalg.svd(flat["train"] - mean, full_matrices=False)
    project = axes[:COMPONENTS].T / deviations[:COMPONENTS] * math.sqrt(len(flat["train"]))
    return {name: ((flat[name] - mean) @ project, split.answers) for name, split in pairs().items()}
