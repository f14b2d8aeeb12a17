"""Training and evaluating a plain network, such as a finalist of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count

import torch
from torch import nn

from ..data import Data, Split
from ..forward import device_of, evaluating, seeded
from ..tasks.classification import task_of
from ..tasks.passes import batch_count, one_pass
from ..tasks.task import SplitName, Task, TaskScores, check_scores, sized
from .recipe import Recipe
from .updates import Updates


def train(
    network: nn.Module, task: Task | Data | Split, recipe: Recipe, *, seed: int = 0
) -> Iterator[float]:
    """Train in place and yield the mean loss of each epoch; the same seed gives the same bits.

    This holds even if the forward pass uses random numbers, and no global state changes. If the
    network is in training mode, parts that are in evaluation mode stay in evaluation mode. The
    training is complete when all losses were taken; a `Recipe.fit` yields none.

    Raises:
        FloatingPointError: the loss is NaN or infinite.
    """
    losses = epochs(network, task_of(task), recipe, seed=seed)
    for epoch in count():
        with seeded(seed * 1_000_003 + epoch, network):
            mean = next(losses, None)
        if mean is None:
            return
        yield mean


def epochs(network: nn.Module, task: Task, recipe: Recipe, *, seed: int) -> Iterator[float]:
    """Like `train`, but the network draws from the global generators in their current state."""
    task = sized(task, recipe.batch_size)
    if recipe.fit is not None:
        made = recipe.fit(network, task, recipe, seed)
        if isinstance(made, nn.Module) and made is not network:
            raise TypeError("fit must train the network in place, but it returned another one")
        return
    updates = Updates(network, task, recipe, recipe.steps(batch_count(task)))
    if not network.training:
        network.train()
    for epoch in range(recipe.epochs):
        total, done = torch.zeros((), device=device_of(network)), 0
        for batch in one_pass(task, "train", seed=seed, epoch=epoch):
            total += updates.step(batch)
            done += 1
        mean = float(total) / max(1, done)
        if not math.isfinite(mean):
            raise FloatingPointError(f"the training loss became {mean}")
        yield mean
    updates.finish()


def evaluate(
    network: nn.Module, task: Task | Data | Split, split: SplitName = "valid"
) -> TaskScores:
    """The loss and the metrics of a network in evaluation mode, by name; its mode is restored.

    They are deterministic, even if the network uses random numbers. No global state changes.
    """
    with seeded(0, network):
        return score(network, task_of(task), split)


@torch.no_grad()
def score(network: nn.Module, task: Task, split: SplitName) -> TaskScores:
    """Like `evaluate`, but the network draws from the global generators in their current state."""
    with evaluating(network):
        found = task.evaluate(network, split)
    check_scores(task, found)
    return TaskScores({name: float(value) for name, value in found.items()})
