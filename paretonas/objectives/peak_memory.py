"""The memory of a forward pass on the CPU, with what the kernels allocate for themselves."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

from ..arguments import call, tensors
from ..forward import around_modules, copied, device_of, evaluating, handed, seeded
from ..nn import Supernet
from ..space import Architecture
from .memory import Memory
from .parts import hints, observer, part_paths, places_of
from .profile import Progress
from .tabulate import cost_table

_MARK = "paretonas:"  # before the path of a module, in the events of the profiler


@dataclass(frozen=True)
class PeakMemory(Memory):
    """Parameters and buffers plus the peak of all memory that a forward pass allocates, in KiB.

    The peak is that of torch's profiler (`torch.profiler.profile`, ``profile_memory``) on the CPU,
    with the input. Unlike `Memory` it has the buffers that a kernel allocates while it runs, such
    as the unfolded input of a convolution, and what Python keeps alive longer than needed, such as
    the input of a block. So it is the memory of eager torch, and `Memory` that of a runtime which
    plans ahead.

    Attributes:
        parameters: the bytes of each part's parameters and buffers.
        activations: the largest number of bytes that are allocated while each part runs.
    """

    name: str = "peak_memory"

    @classmethod
    def of(cls, supernet: Supernet, example: Any, progress: Progress | None = None) -> PeakMemory:
        """Tabulate the memory of a supernet's architectures; each is run twice.

        Args:
            supernet: the network with choices, on the CPU.
            example: an input with the batch size of the later use: a tensor, or any nest of them.
            progress: called with the number of architectures that were looked at, and 0.
        """
        observe, numbers = observer(supernet, example), count(1)
        parts = frozenset(part_paths(supernet.network))

        def peaks(architecture: Architecture) -> Mapping[str, float]:
            if progress is not None:
                progress(next(numbers), 0)
            runs = observe(architecture).architecture
            places = places_of(supernet, runs, parts)
            found: Counter[str] = Counter()
            for path, peak in allocated(supernet.extract(runs), example).items():
                part = places.get(path, path)
                found[part] = max(found[part], peak)
            return found

        def held(architecture: Architecture) -> Mapping[str, float]:
            return observe(architecture).parameter_bytes

        known = hints(supernet)
        return cls(
            cost_table(supernet.choices, held, unit="bytes", hints=known),
            cost_table(supernet.choices, peaks, unit="bytes", hints=known),
        )

    def measure(self, network: nn.Module, example: Any) -> float:
        """The memory of a network."""
        held = [*network.parameters(), *network.buffers()]
        bytes_held = sum(tensor.numel() * tensor.element_size() for tensor in held)
        return (bytes_held + max(allocated(network, example).values())) / 1024


def allocated(network: nn.Module, example: Any) -> dict[str, int]:
    """The peak of bytes that are allocated on the CPU while each module's own code runs, by path.

    The network does not change. It runs twice: kernels keep something from their first run.
    """
    plain = network if device_of(network).type == "cpu" else copied(network).cpu()
    inputs = handed(plain, example)
    given = sum(tensor.numel() * tensor.element_size() for tensor in tensors(inputs))
    profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with evaluating(plain), seeded(0, plain), torch.no_grad(), _quiet():
        call(plain, handed(plain, example))
        with _marked(plain), profiler:
            output = call(plain, inputs)
    del output  # it was alive to the end
    running, live = [""], given
    peaks = {"": given}
    for kind, value in _events(profiler):
        if kind == "enter":
            running.append(str(value))
        elif kind == "leave":
            running.pop()
        else:
            live += int(value)
        peaks[running[-1]] = max(peaks.get(running[-1], 0), live)
    return peaks


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the profiler from writing of itself on stderr, unless the user has set its level."""
    if "KINETO_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["KINETO_LOG_LEVEL"] = "99"
    try:
        yield
    finally:
        os.environ.pop("KINETO_LOG_LEVEL", None)


def _events(profiler: profile) -> list[tuple[str, str | int]]:
    """What happened, in order: modules that begin and end, and bytes that come and go."""
    assert profiler.profiler is not None
    results: Any = profiler.profiler.kineto_results
    found: list[tuple[int, str, str | int]] = []
    for event in results.events():
        name, start = event.name(), event.start_ns()
        if name == "[memory]":
            found.append((start, "memory", event.nbytes()))
        elif name.startswith(_MARK):
            found.append((start, "enter", name.removeprefix(_MARK)))
            found.append((start + event.duration_ns(), "leave", ""))
    return [(kind, value) for _, kind, value in sorted(found, key=lambda each: each[0])]


def _marked(network: nn.Module) -> AbstractContextManager[None]:
    """Let the profiler see when each module runs."""
    marks: list[Any] = []

    def enter(path: str) -> None:
        marks.append(record_function(f"{_MARK}{path}"))
        marks[-1].__enter__()

    return around_modules(network, enter, lambda: marks.pop().__exit__(None, None, None))
