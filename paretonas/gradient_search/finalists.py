"""Finalists: trained properly, several at once, and scored."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from ..data import Data
from ..nn import Supernet
from ..point import Failure
from ..space import Architecture
from ..training import Recipe, Score, evaluate, reset, train


@dataclass(frozen=True, eq=False)
class Finalist:
    """An architecture that was trained from fresh weights, and how it does."""

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

    Every one starts from the same seed, so that the result does not depend on who else trains.
    An interruption ends the trainings at their next epoch. Networks with dropout are trained one
    after the other, since all of torch's dropout draws from one generator. One that raises, or
    whose loss is not finite, is a `Failure`; the others are trained all the same.
    """
    networks: list[nn.Module | Failure] = []
    for architecture in architectures:
        try:
            network = supernet.extract(architecture)
            reset(network, seed=seed)
            networks.append(network)
        except Exception as error:
            networks.append(Failure.of(architecture, error))
    drops_out = any(
        isinstance(m, _DropoutNd) for n in networks if isinstance(n, nn.Module) for m in n.modules()
    )
    stop = threading.Event()

    def work(index: int) -> Finalist | Failure | None:
        torch.set_num_threads(1)
        architecture, network = architectures[index], networks[index]
        if isinstance(network, Failure):
            return network
        try:
            with _own_chance(seed) if drops_out else nullcontext():
                for _ in train(network, data.train, recipe, seed=seed):
                    if stop.is_set():
                        return None
            valid, test = evaluate(network, data.valid), evaluate(network, data.test)
        except Exception as error:
            return Failure.of(architecture, error)
        for split, score in (("valid", valid), ("test", test)):
            if not math.isfinite(score.loss):
                return Failure(architecture, f"the loss on the {split} split is {score.loss}")
        return Finalist(architecture, network, valid, test)

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(max_workers=1 if drops_out else max(1, workers)) as pool:
        try:
            found = list(pool.map(work, range(len(networks))))
        finally:
            stop.set()
            torch.set_num_threads(threads)
    return [finalist for finalist in found if finalist is not None]


@contextmanager
def _own_chance(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
