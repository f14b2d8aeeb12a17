"""How long a network takes: warmed up, on pinned threads, the median of repeated blocks."""

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
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from .. import _threads
from ..training.forward import evaluating, handed, seeded

WARM_UP_SECONDS = 0.05
BLOCK_SECONDS = 3e-4  # short, so that few blocks are interrupted on a machine that does other work


@dataclass(frozen=True)
class Measurement:
    """A latency: the median over blocks of runs, and how far the blocks are apart.

    Attributes:
        median_ms: milliseconds of one run, the median over the blocks.
        spread_ms: milliseconds between the quartiles of the blocks.
        blocks: how many blocks were timed.
    """

    median_ms: float
    spread_ms: float
    blocks: int


def measure_latency(
    network: nn.Module,
    example: Tensor,
    *,
    threads: int = 1,
    device: torch.device | str = "cpu",
    blocks: int = 100,
) -> Measurement:
    """Time one forward pass in evaluation and inference mode; everything is put back afterwards.

    The example is copied, in the network's type.

    Args:
        network: moved to `device` for the measurement.
        example: the input, with its batch size.
        threads: of torch's pool on the CPU.
        device: where to run.
        blocks: how many times a run of passes of at least 0.3 ms is timed.

    Raises:
        ValueError: `threads` or `blocks` is not positive.
    """
    if blocks < 1:
        raise ValueError(f"blocks must be positive, got {blocks}")
    place = torch.device(device)
    home = next((p.device for p in network.parameters()), place)
    try:
        network.to(place)
        with evaluating(network):
            x = handed(network, example).to(place)
            with measuring(threads, network):
                call = repeated(network, x)
                spent, runs = _warm_up(call, place)
                passes = max(1, math.ceil(BLOCK_SECONDS * runs / spent))
                times = [_seconds(call, passes, place) for _ in range(blocks)]
    finally:
        network.to(home)
    return summary(times)


def repeated(function: Callable[..., object], *args: Any, **kwargs: Any) -> Callable[[], object]:
    """A call that finds the same arguments each time; the caller's own are not changed.

    A function that overwrites its arguments gets copies at each call, which count in its time.
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


def _copy(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def measure_in_turn(
    calls: Sequence[Callable[[], object]],
    *,
    threads: int = 1,
    device: torch.device | str = "cpu",
    seconds: float = 1.0,
    least: int = 15,
    progress: Callable[[int, int], None] | None = None,
) -> list[Measurement]:
    """Time several calls, each once a round and every round in another order.

    So drift hits all alike, no call profits from the one before it, and caches are as warm as in
    a network that runs one part after the other.

    Args:
        calls: what to time.
        threads: of torch's pool on the CPU.
        device: where the calls run.
        seconds: about how long all of it may take.
        least: how many rounds there are at least.
        progress: told how many rounds are done, and of how many.
    """
    place = torch.device(device)
    with measuring(threads):
        for call in calls:
            _warm_up(call, place, WARM_UP_SECONDS / 10)
        start = perf_counter()
        times = [[_seconds(call, 1, place)] for call in calls]
        turns = list(zip(calls, times, strict=True))
        rng = Random(0)
        rounds = max(least, round(seconds / (perf_counter() - start)))
        for done in range(1, rounds):
            rng.shuffle(turns)
            for call, own in turns:
                own.append(_seconds(call, 1, place))
            if progress is not None:
                progress(done + 1, rounds)
    return [summary(own) for own in times]


@contextmanager
def measuring(threads: int, *networks: nn.Module) -> Iterator[None]:
    """Inference mode, with a number of threads and generators that are put back afterwards.

    Raises:
        ValueError: `threads` is not positive.
    """
    if threads < 1:
        raise ValueError(f"threads must be positive, got {threads}")
    with _threads.threads(threads), torch.inference_mode(), seeded(0, *networks):
        yield


def summary(seconds: Sequence[float]) -> Measurement:
    """The median and the interquartile range of times in seconds."""
    low, middle, high = np.quantile(np.asarray(seconds) * 1e3, [0.25, 0.5, 0.75])
    return Measurement(float(middle), float(high - low), len(seconds))


def _warm_up(
    call: Callable[[], object], device: torch.device, least: float = WARM_UP_SECONDS
) -> tuple[float, int]:
    """Call until caches, allocators and kernels are ready; the seconds and calls of the rest."""
    for _ in range(3):
        call()
    spent, runs = 0.0, 0
    while spent < least:
        spent += _seconds(call, 1, device)
        runs += 1
    return spent, runs


def _seconds(call: Callable[[], object], passes: int, device: torch.device) -> float:
    """Seconds for one of several calls in a row."""
    if device.type == "cuda":
        start = torch.cuda.Event(enable_timing=True)
        end = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize(device)
        start.record()
        for _ in range(passes):
            call()
        end.record()
        torch.cuda.synchronize(device)
        return float(start.elapsed_time(end)) / 1e3 / passes
    begin = perf_counter()
    for _ in range(passes):
        call()
    return (perf_counter() - begin) / passes
