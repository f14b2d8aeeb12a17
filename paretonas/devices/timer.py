"""Latency measurement: after a warm-up, with fixed threads, the median of repeated blocks."""

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
from ..arguments import Arguments, moved
from ..forward import evaluating, handed, seeded

WARM_UP_SECONDS = 0.05
BLOCK_SECONDS = 3e-4  # short, so that other work on the machine interrupts few blocks


@dataclass(frozen=True)
class Measurement:
    """A latency: the median over blocks of runs, and the spread of the blocks.

    Attributes:
        median_ms: milliseconds of one run, the median over the blocks.
        spread_ms: milliseconds between the quartiles of the blocks.
        blocks: the number of blocks.
    """

    median_ms: float
    spread_ms: float
    blocks: int


def measure_latency(
    network: nn.Module,
    example: Any,
    *,
    threads: int = 1,
    device: torch.device | str = "cpu",
    blocks: int = 100,
) -> Measurement:
    """Time one forward pass in evaluation and inference mode; all modes are restored afterwards.

    The example is copied; its floating tensors get the type of the network.

    Args:
        network: it is moved to `device` for the measurement.
        example: the inputs, with their batch size: a tensor, or any nest of tensors.
        threads: the number of torch's CPU threads.
        device: the device to run on.
        blocks: the number of blocks; each block is a run of passes of at least 0.3 ms.

    Raises:
        ValueError: `threads` or `blocks` is not positive.
    """
    if blocks < 1:
        raise ValueError(f"blocks must be positive, got {blocks}")
    place = torch.device(device)
    home = next((p.device for p in network.parameters()), place)
    try:
        network.to(place)
        with evaluating(network), measuring(threads, network):
            call = repeated_network(network, example, place)
            spent, runs = _warm_up(call, place)
            passes = max(1, math.ceil(BLOCK_SECONDS * runs / spent))
            times = [_seconds(call, passes, place) for _ in range(blocks)]
    finally:
        network.to(home)
    return summary(times)


def repeated(function: Callable[..., object], *args: Any, **kwargs: Any) -> Callable[[], object]:
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


def repeated_network(
    network: nn.Module, example: Any, device: torch.device
) -> Callable[[], object]:
    """A call of a network, which is on the device, with an example."""
    given = Arguments.of(moved(handed(network, example), device))
    return repeated(network, *given.args, **given.kwargs)


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
    """Time several calls, each once per round; each round has another random order.

    So drift affects all calls equally, no call profits from the one before it, and caches are as
    warm as in a network that runs one part after the other.

    Args:
        calls: the calls to time.
        threads: the number of torch's CPU threads.
        device: the device of the calls.
        seconds: the approximate total time.
        least: the smallest number of rounds.
        progress: called with the number of finished rounds and the number of all rounds.
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
    """Inference mode with a number of threads; threads and generators are restored afterwards.

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
    """Call until caches, allocators and kernels are ready; return seconds and calls of the rest."""
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
