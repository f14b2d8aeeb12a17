"""Finalists: architectures that get a full training, several at once, and are evaluated."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import nn

from paretonas._threads import threads
from paretonas.arguments import moved
from paretonas.data import Data
from paretonas.forward import Generators, copied, device_of, evaluating, seeded
from paretonas.metric import Metric
from paretonas.nn import Supernet
from paretonas.point import FAILING, Failure, Stopped
from paretonas.space import Architecture
from paretonas.tasks.classification import task_of
from paretonas.tasks.passes import one_pass
from paretonas.tasks.task import SplitName, Task, TaskScores, metrics_of, sized, value_of
from paretonas.training import (
    Recipe,
    Updates,
    epochs,
    evaluate,
    recalibrate,
    score,
    train,
)

SCORED: tuple[SplitName, SplitName] = ("valid", "test")


@dataclass(frozen=True, eq=False)
class Finalist:
    """An architecture that was trained, and its scores.

    Attributes:
        architecture: one pick per choice.
        network: the trained network.
        valid: what the task evaluates to on the validation split: the loss and metrics, by name.
        test: the same on the test split.
        rungs: what it scored on the validation split at each rung, by epoch; see `EarlyStopping`.
    """

    architecture: Architecture
    network: nn.Module
    valid: TaskScores
    test: TaskScores
    rungs: Mapping[int, TaskScores] = field(default_factory=dict)


class EarlyStopping(Protocol):
    """Says which trainings need not go on; threads ask it in any order."""

    def rungs(self, epochs: int) -> Collection[int]:
        """The epochs of a training after which to ask."""
        ...

    def __call__(
        self, architecture: Architecture, epoch: int, scores: TaskScores
    ) -> Stopped | None:
        """What to leave it at after this epoch; None: the training goes on."""
        ...


def train_finalists(
    supernet: Supernet,
    task: Task | Data,
    recipe: Recipe,
    architectures: Sequence[Architecture],
    *,
    seed: int,
    workers: int,
    inherit: bool = False,
    stopping: EarlyStopping | None = None,
) -> list[Finalist | Failure]:
    """Train architectures, `workers` at a time, each on one thread.

    Each training starts from fresh weights, those of `Supernet.fresh`, or it inherits a copy of the
    supernet's weights, and gets statistics for its batch norms. So its result does not depend on
    the other trainings. An interruption ends the trainings at their next epoch. Networks whose
    training uses random numbers are trained one after the other, since threads share the global
    generators; these are restored. So are those that compile, or that a `Recipe.fit` trains. A
    network that raises, or whose loss is not finite, becomes a `Failure`; the others continue.

    With `stopping` networks are scored on the validation split at its rungs. One that it stops
    becomes a `Stopped`; the others end as without it, to the bit.
    """
    job = sized(task_of(task), recipe.batch_size)

    def network(architecture: Architecture) -> nn.Module | Failure:
        try:
            if inherit:
                return supernet.extract(architecture)
            return supernet.fresh(architecture, seed=seed)
        except FAILING as error:
            return Failure.of(architecture, error)

    def alone(architecture: Architecture) -> Finalist | Failure:
        trained = network(architecture)
        if isinstance(trained, Failure):
            return trained
        try:
            rungs = _Rungs(stopping, architecture, recipe)
            for _ in train(trained, job, recipe, seed=seed):
                if stopped := rungs.look(lambda: evaluate(trained, job, "valid"), job):
                    return stopped
            if inherit:
                with seeded(seed, trained):
                    recalibrate(trained, job, seed=seed)
            valid, test = (evaluate(trained, job, split) for split in SCORED)
        except FAILING as error:
            return Failure.of(architecture, error)
        found = Finalist(architecture, trained, valid, test, rungs.scores)
        return with_finite_scores(found, metrics_of(job))

    with threads(1):
        batch = (
            next(iter(one_pass(job, "train", seed=seed, epoch=0)))
            if workers > 1 and architectures
            else None
        )
        fresh = {a: network(a) for a in architectures if workers > 1}
        quiet = {
            a: n
            for a, n in fresh.items()
            if isinstance(n, nn.Module) and not _alone(copied(n), job, recipe, batch)
        }
        found = _side_by_side(
            quiet, job, recipe, seed=seed, workers=workers, inherit=inherit, stopping=stopping
        )
        return [found[a] if a in found else alone(a) for a in architectures]


def _side_by_side(
    networks: Mapping[Architecture, nn.Module],
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    workers: int,
    inherit: bool,
    stopping: EarlyStopping | None,
) -> dict[Architecture, Finalist | Failure]:
    """Train networks in threads; there is no result if one of them used random numbers."""
    stop = threading.Event()

    def work(architecture: Architecture) -> Finalist | Failure | None:
        torch.set_num_threads(1)
        network = networks[architecture]
        try:
            rungs = _Rungs(stopping, architecture, recipe)
            for _ in epochs(network, task, recipe, seed=seed):
                if stop.is_set():
                    return None
                if stopped := rungs.look(lambda: score(network, task, "valid"), task):
                    return stopped
            if inherit:
                recalibrate(network, task, seed=seed)
            valid, test = (score(network, task, split) for split in SCORED)
        except FAILING as error:
            return Failure.of(architecture, error)
        finalist = Finalist(architecture, network, valid, test, rungs.scores)
        return with_finite_scores(finalist, metrics_of(task))

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


class _Rungs:
    """The rungs of one training: what was scored there, and whether it goes on."""

    def __init__(
        self, stopping: EarlyStopping | None, architecture: Architecture, recipe: Recipe
    ) -> None:
        self.scores: dict[int, TaskScores] = {}
        self._stopping, self._architecture = stopping, architecture
        self._at = frozenset() if stopping is None else frozenset(stopping.rungs(recipe.epochs))
        self._epoch = 0

    def look(self, scored: Callable[[], TaskScores], task: Task) -> Stopped | None:
        """After an epoch: score the network if this is a rung, and ask whether to go on."""
        self._epoch += 1
        if self._stopping is None or self._epoch not in self._at:
            return None
        scores = scored()
        if not all(math.isfinite(value_of(scores, metric)) for metric in metrics_of(task)):
            return None  # this says nothing about the end of the training
        self.scores[self._epoch] = scores
        return self._stopping(self._architecture, self._epoch, scores)


def with_finite_scores(
    finalist: Finalist | Failure, metrics: Sequence[Metric]
) -> Finalist | Failure:
    """The finalist itself; a failure if its loss or one of these metrics is not finite."""
    if isinstance(finalist, Failure):
        return finalist
    for split, scores in zip(SCORED, (finalist.valid, finalist.test), strict=True):
        told = {name: scores[name] for name in ("loss",) if name in scores}
        for name, value in (told | {m.column: value_of(scores, m) for m in metrics}).items():
            if not math.isfinite(value):
                reason = f"the {name} on the {split} split is {value}"
                return Failure(finalist.architecture, reason)
    return finalist


def _alone(network: nn.Module, task: Task, recipe: Recipe, batch: Any) -> bool:
    """Whether a network must be trained alone, since its training or evaluation draws numbers.

    What compiles or has a loop of its own is not for threads, either.
    """
    if recipe.fit is not None or recipe.compile:
        return True
    with seeded(0, network):
        before = Generators.now(network)
        try:
            if not network.training:
                network.train()
            Updates(network, task, recipe, 1).differentiate(batch)
            with evaluating(network), torch.no_grad():
                task.loss(network, moved(batch, device_of(network), copies=True))
        except FAILING:  # the training of this network alone will report the error
            return True
        return before.moved()
