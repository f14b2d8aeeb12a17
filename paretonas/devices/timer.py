"""Time calls that compete: alternately, in one process, on a machine that may have other work.

The calls are timed in blocks of rounds. In each round every call runs once, in another random
order, with a reference network between them. A short call runs twice, and its second run is timed:
so a network takes alone what it takes among others, which leave their own data in the caches. Times
count where the reference was fast and the thread was not stopped. Each block has fresh copies,
since the time of a short call depends on where its memory lies. What the blocks differ by tells
what a second measurement may find.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from .. import _threads
from ..arguments import Arguments, moved
from ..forward import copied, handed, seeded
from .clock import Clock
from .reference import SLOWER, Reference

Call = Callable[[], object]
Load = Callable[[], Call]

BLOCKS = 5
MOST_BLOCKS = 20
FEWEST = 3  # times that count, of each call in each block
PATIENCE = 3  # times as long on a busy machine
GAP_SECONDS = 3e-4  # between two runs of the reference
COLD_SECONDS = 5e-3  # calls that take less run twice: with cold caches the first takes longer
SECONDS = 2.0
PRECISION = 0.02
COVERED = 0.9
LEAST = 0.5  # another program on the same core makes nothing more than twice as slow
BETWEEN_PROCESSES = 0.015  # what a second process changes, as a share; no block shows it


@dataclass(frozen=True)
class Measurement:
    """A latency, and how far a second measurement may be from it.

    Attributes:
        median_ms: milliseconds of one call: the median of a block, the mean over blocks.
        spread_ms: a second measurement is within ``median_ms`` plus or minus this, in about 9 of 10
            cases.
        rounds: the number of times that count.
        busy: the share of times that do not count, since the machine had other work.
    """

    median_ms: float
    spread_ms: float
    rounds: int
    busy: float = 0.0


def measure_together(
    loads: Sequence[Load],
    *,
    threads: int = 1,
    device: torch.device | str = "cpu",
    seconds: float = SECONDS,
    precision: float = PRECISION,
    progress: Callable[[float], None] | None = None,
) -> list[Measurement]:
    """Time several calls alternately.

    Blocks are added until each spread is at most `precision` of its median, or the time is over.

    Args:
        loads: each gives a call to time. It is asked once per block, and gives a fresh copy of what
            is timed, or the same call again.
        threads: the number of torch's CPU threads.
        device: the device of the calls.
        seconds: how long about; on a busy machine up to three times as long. There are at least 5
            blocks of 3 rounds, however long they take, and loading comes on top.
        precision: the wanted spread, as a share of the median.
        progress: called with the share that is done.

    Raises:
        ValueError: `threads` is not positive.
    """
    with measuring(threads):
        clock = Clock(torch.device(device), threads)
        turns = _Turns(loads, clock, Reference(clock))
        begun = perf_counter()
        while True:
            turns.block(seconds / (2 * BLOCKS))
            done, gone = len(turns.blocks), perf_counter() - begun
            if progress is not None:
                progress(min(1.0, done / BLOCKS))
            if done < BLOCKS:
                continue
            found = [turns.measurement(index) for index in range(len(loads))]
            close = all(one.spread_ms <= precision * one.median_ms for one in found)
            if close or done >= MOST_BLOCKS or gone * (1 + 1 / done) > seconds:
                turns.reference.keep()
                return found


Times = NDArray[np.float64]  # (n, 2): seconds, and those of the reference around; inf if stopped


class _Turns:
    """The blocks of a measurement: for each the times of each call."""

    def __init__(self, loads: Sequence[Load], clock: Clock, reference: Reference) -> None:
        self.loads, self.clock, self.reference = loads, clock, reference
        self.blocks: list[list[Times]] = []

    def block(self, seconds: float) -> None:
        """Rounds for about so long, on a busy machine for longer."""
        rng = Random(len(self.blocks))
        calls = [load() for load in self.loads]
        for call in calls:
            for _ in range(3):
                call()
        times: list[list[tuple[float, float]]] = [[] for _ in calls]
        order, begun, gone, rounds = list(range(len(calls))), perf_counter(), 0.0, 0
        waiting: list[tuple[int, float, bool]] = []
        before, since = self.reference.seconds(), 0.0
        while rounds < FEWEST or (
            gone < PATIENCE * seconds and (gone < seconds or not self._enough(times))
        ):
            rng.shuffle(order)
            for index in order:
                spent, stopped = self.clock.seconds(calls[index])
                if spent < COLD_SECONDS:  # again, with its own data in the caches
                    spent, stopped = self.clock.seconds(calls[index])
                waiting.append((index, spent, stopped))
                since += spent
                if since >= GAP_SECONDS:
                    before, since = self._count(waiting, before, times), 0.0
            gone, rounds = perf_counter() - begun, rounds + 1
        self._count(waiting, before, times)
        self.blocks.append([np.array(own) for own in times])

    def _enough(self, times: Sequence[Sequence[tuple[float, float]]]) -> bool:
        quiet = SLOWER * self.reference.best
        return all(sum(around <= quiet for _, around in own) >= FEWEST for own in times)

    def _count(
        self,
        waiting: list[tuple[int, float, bool]],
        before: float,
        times: list[list[tuple[float, float]]],
    ) -> float:
        """Run the reference, and enter what was timed since it ran before."""
        after = self.reference.seconds()
        for index, spent, stopped in waiting:
            times[index].append((spent, math.inf if stopped else max(before, after)))
        waiting.clear()
        return after

    def measurement(self, index: int) -> Measurement:
        """What the blocks say of one call."""
        best = self.reference.best
        blocks = [block[index] for block in self.blocks]
        quiet = [own[own[:, 1] <= SLOWER * best] for own in blocks]
        counted, everything = sum(map(len, quiet)), sum(map(len, blocks))
        medians = [float(np.median(own[:, 0])) for own in quiet if len(own) >= FEWEST]
        doubt = BETWEEN_PROCESSES
        if len(medians) < FEWEST:  # the machine was busy nearly all the time
            least = [own[np.argsort(own[:, 1], kind="stable")[:FEWEST]] for own in blocks]
            around = [float(np.median(own[:, 1])) for own in least]
            # What waits for something else, and not for the processor, is as slow as it is.
            shares = [max(LEAST, best / s) if math.isfinite(s) else 1.0 for s in around]
            medians = [s * float(np.median(o[:, 0])) for s, o in zip(shares, least, strict=True)]
            doubt = max(doubt, (1 - min(shares)) / 2)
        mean = float(np.mean(medians))
        spread = math.hypot(how_far(medians), doubt * mean)
        return Measurement(1e3 * mean, 1e3 * spread, counted, 1 - counted / everything)


def how_far(values: Sequence[float]) -> float:
    """How far a second mean of as many values may be, in 9 of 10 cases (Student's t)."""
    count = len(values)
    twice = float(stdtrit(count - 1, (1 + COVERED) / 2)) * math.sqrt(2 / count)
    return twice * float(np.std(values, ddof=1))


def loading(network: nn.Module, example: Any, device: torch.device) -> Load:
    """Gives calls of copies of a network on a device, in evaluation mode."""

    def load() -> Call:
        return repeated_network(copied(network).to(device).eval(), example, device)

    return load


def repeated(function: Callable[..., object], *args: Any, **kwargs: Any) -> Call:
    """A call with the same arguments each time; the caller's arguments do not change.

    A function that overwrites its arguments gets copies at each call; its time includes the copies.
    """
    given: tuple[tuple[Any, ...], dict[str, Any]] = tree_map(_copy, (args, kwargs))
    kept = tree_map(_copy, given)
    with torch.inference_mode(), seeded(0):
        function(*given[0], **given[1])
    pairs = zip(tree_leaves(given), tree_leaves(kept), strict=True)
    if all(torch.equal(a, b) for a, b in pairs if isinstance(a, Tensor)):
        return lambda: function(*given[0], **given[1])

    def anew() -> object:
        args, kwargs = tree_map(_copy, kept)
        return function(*args, **kwargs)

    return anew


def repeated_network(network: nn.Module, example: Any, device: torch.device) -> Call:
    """A call of a network, which is on the device, with an example."""
    given = Arguments.of(moved(handed(network, example), device))
    return repeated(network, *given.args, **given.kwargs)


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


@contextmanager
def measuring(threads: int, *networks: nn.Module) -> Iterator[None]:
    """Inference mode with a number of threads; threads and generators are restored afterwards.

    Raises:
        ValueError: `threads` is not positive.
    """
    if threads < 1:
        raise ValueError(f"threads must be positive, got {threads}")
    with _threads.threads(threads), torch.inference_mode(), seeded(0, *networks):
        yield
