"""Training and evaluating a plain network, such as a finalist of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from ..arguments import moved
from ..forward import device_of, evaluating, seeded
from ..tasks.passes import batch_count, one_pass
from ..tasks.task import SplitName, Task, sized


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

    def steps(self, batches: int) -> int:
        """The number of steps of a training with this number of batches in an epoch."""
        return self.epochs * batches


def train(network: nn.Module, task: Task, recipe: Recipe, *, seed: int = 0) -> Iterator[float]:
    """Train in place and yield the mean loss of each epoch; the same seed gives the same bits.

    This holds even if the forward pass uses random numbers, and no global state changes. If the
    network is in training mode, parts that are in evaluation mode stay in evaluation mode.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    losses = epochs(network, task, recipe, seed=seed)
    for epoch in range(recipe.epochs):
        with seeded(seed * 1_000_003 + epoch, network):
            mean = next(losses)
        yield mean


def epochs(network: nn.Module, task: Task, recipe: Recipe, *, seed: int) -> Iterator[float]:
    """Like `train`, but the network draws from the global generators in their current state."""
    task, device = sized(task, recipe.batch_size), device_of(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = warmup_cosine(optimizer, recipe.steps(batch_count(task)))
    if not network.training:
        network.train()
    for epoch in range(recipe.epochs):
        total, done = torch.zeros((), device=device), 0
        for batch in one_pass(task, "train", seed=seed, epoch=epoch):
            loss = task.loss(network, moved(batch, device, copies=True))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.detach()
            done += 1
        mean = float(total) / max(1, done)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the training loss became {mean}")
        yield mean


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


def evaluate(network: nn.Module, task: Task, split: SplitName) -> dict[str, float]:
    """The loss and the metrics of a network in evaluation mode, by name; its mode is restored.

    They are deterministic, even if the network uses random numbers. No global state changes.
    """
    with seeded(0, network):
        return score(network, task, split)


@torch.no_grad()
def score(network: nn.Module, task: Task, split: SplitName) -> dict[str, float]:
    """Like `evaluate`, but the network draws from the global generators in their current state."""
    with evaluating(network):
        return {name: float(value) for name, value in task.evaluate(network, split).items()}
