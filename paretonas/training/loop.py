"""Training and evaluating a plain network, such as a finalist of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data import Split
from ..forward import evaluating, handed, seeded


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: AdamW with a warm-up and a cosine decay to zero.

    Attributes:
        epochs: passes over the training split.
        batch_size: examples per step.
        learning_rate: the largest learning rate.
        weight_decay: decoupled (Loshchilov and Hutter 2019, arXiv 1711.05101).

    Raises:
        ValueError: a number is out of its range.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay}")

    def steps(self, examples: int) -> int:
        """The number of steps of a training on this number of examples."""
        return self.epochs * math.ceil(examples / self.batch_size)


@dataclass(frozen=True)
class Score:
    """The loss and error of a network on a split.

    Attributes:
        loss: mean cross-entropy, in nats.
        error_percent: wrong answers in percent.
    """

    loss: float
    error_percent: float


def train(network: nn.Module, split: Split, recipe: Recipe, *, seed: int = 0) -> Iterator[float]:
    """Train in place and yield the mean loss of each epoch; the same seed gives the same bits.

    This holds even if the forward pass uses random numbers, and no global state changes. If the
    network is in training mode, parts that are in evaluation mode stay in evaluation mode.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    losses = epochs(network, split, recipe, seed=seed)
    for epoch in range(recipe.epochs):
        with seeded(seed * 1_000_003 + epoch, network):
            mean = next(losses)
        yield mean


def epochs(network: nn.Module, split: Split, recipe: Recipe, *, seed: int) -> Iterator[float]:
    """Like `train`, but the network draws from the global generators in their current state."""
    steps = math.ceil(len(split) / recipe.batch_size) * recipe.epochs
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = warmup_cosine(optimizer, steps)
    generator = torch.Generator().manual_seed(seed)
    if not network.training:
        network.train()
    for _ in range(recipe.epochs):
        total = torch.zeros((), device=split.inputs.device)
        for inputs, labels in batches(split, recipe.batch_size, generator):
            loss = functional.cross_entropy(network(handed(network, inputs)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(labels)
        mean = float(total) / len(split)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the training loss became {mean}")
        yield mean


def batches(
    split: Split, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One pass over the examples in a new random order."""
    order = torch.randperm(len(split), generator=generator).to(split.labels.device)
    for rows in order.split(batch_size):
        if len(rows) > 1 or len(split) == 1:  # batch norm needs two examples
            yield split.inputs[rows], split.labels[rows]


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule that multiplies the learning rate by `warmup_cosine_factor`."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine_factor(step, steps)
    )


def warmup_cosine_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero (arXiv 1608.03983)."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def evaluate(network: nn.Module, split: Split, batch_size: int = 1000) -> Score:
    """Evaluate a network in evaluation mode; its mode is restored afterwards.

    The score is deterministic, even if the network uses random numbers. No global state changes.
    """
    with seeded(0, network):
        return score(network, split, batch_size)


@torch.no_grad()
def score(network: nn.Module, split: Split, batch_size: int = 1000) -> Score:
    """Like `evaluate`, but the network draws from the global generators in their current state."""
    loss = torch.zeros((), device=split.inputs.device)
    wrong = torch.zeros((), device=split.inputs.device)
    parts = (split.inputs.split(batch_size), split.labels.split(batch_size))
    with evaluating(network):
        for inputs, labels in zip(*parts, strict=True):
            logits = network(handed(network, inputs))
            loss += functional.cross_entropy(logits, labels, reduction="sum")
            wrong += (logits.argmax(dim=1) != labels).sum()
    return Score(float(loss) / len(split), 100 * float(wrong) / len(split))
