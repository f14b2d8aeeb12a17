"""Finalists: architectures that get a full training, several at once, and are evaluated."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import nn

from paretonas._threads import threads
from paretonas.data import Data
from paretonas.forward import Generators, copied, evaluating, handed, seeded
from paretonas.nn import Supernet
from paretonas.point import FAILING, Failure
from paretonas.space import Architecture
from paretonas.training import Recipe, Score, epochs, evaluate, score, train


@dataclass(frozen=True, eq=False)
class Finalist:
    """An architecture that was trained from fresh weights, and its scores."""

    architecture: Architecture
    network: nn.Module
    valid: Score
    test: Score


def train_finalists(
    supernet: Supernet,
    data: Data,
    recipe: Recipe,
    architectures: Sequence[Architecture],
    *,
    seed: int,
    workers: int,
) -> list[Finalist | Failure]:
    """Train architectures from fresh weights, `workers` at a time, each on one thread.

    Each training starts from `Supernet.fresh`, so its result does not depend on the others. An
    interruption ends the trainings at their next epoch. Networks that use random numbers are
    trained one after the other, since threads share the global generators; these are restored. A
    network that raises, or whose loss is not finite, becomes a `Failure`; the others continue.
    """

    def network(architecture: Architecture) -> nn.Module | Failure:
        try:
            return supernet.fresh(architecture, seed=seed)
        except FAILING as error:
            return Failure.of(architecture, error)

    def alone(architecture: Architecture) -> Finalist | Failure:
        trained = network(architecture)
        if isinstance(trained, Failure):
            return trained
        try:
            for _ in train(trained, data.train, recipe, seed=seed):
                pass
            valid, test = evaluate(trained, data.valid), evaluate(trained, data.test)
        except FAILING as error:
            return Failure.of(architecture, error)
        return with_finite_loss(Finalist(architecture, trained, valid, test))

    with threads(1):
        fresh = {a: network(a) for a in architectures if workers > 1}
        quiet = {
            a: n
            for a, n in fresh.items()
            if isinstance(n, nn.Module) and not _draws(copied(n), data, recipe)
        }
        found = _side_by_side(quiet, data, recipe, seed=seed, workers=workers)
        return [found[a] if a in found else alone(a) for a in architectures]


def _side_by_side(
    networks: Mapping[Architecture, nn.Module],
    data: Data,
    recipe: Recipe,
    *,
    seed: int,
    workers: int,
) -> dict[Architecture, Finalist | Failure]:
    """Train networks in threads; there is no result if one of them used random numbers."""
    stop = threading.Event()

    def work(architecture: Architecture) -> Finalist | Failure | None:
        torch.set_num_threads(1)
        network = networks[architecture]
        try:
            for _ in epochs(network, data.train, recipe, seed=seed):
                if stop.is_set():
                    return None
            valid, test = score(network, data.valid), score(network, data.test)
        except FAILING as error:
            return Failure.of(architecture, error)
        return with_finite_loss(Finalist(architecture, network, valid, test))

    held = networks.values()
    with seeded(0, *held), ThreadPoolExecutor(max_workers=max(1, workers)) as pool:
        before = Generators.now(*held)
        try:
            found = list(pool.map(work, networks))
        finally:
            stop.set()
        if before.moved():
            return {}
    return {one.architecture: one for one in found if one is not None}


def with_finite_loss(finalist: Finalist | Failure) -> Finalist | Failure:
    """The finalist itself; a failure if a loss of it is not finite."""
    if isinstance(finalist, Failure):
        return finalist
    for split, scored in (("valid", finalist.valid), ("test", finalist.test)):
        if not math.isfinite(scored.loss):
            reason = f"the loss on the {split} split is {scored.loss}"
            return Failure(finalist.architecture, reason)
    return finalist


def _draws(network: nn.Module, data: Data, recipe: Recipe) -> bool:
    """Whether a forward pass uses random numbers, in training or in evaluation mode."""
    inputs = data.train.inputs[: recipe.batch_size]
    with seeded(0, network), torch.no_grad():
        before = Generators.now(network)
        try:
            network(handed(network, inputs))
            with evaluating(network):
                network(handed(network, inputs))
        except FAILING:  # the training of this network alone will report the error
            return True
        return before.moved()
