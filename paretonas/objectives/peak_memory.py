"""The memory of a forward pass on the CPU, with what the kernels allocate for themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from ..arguments import call, tensors
from ..forward import around_modules, copied, device_of, evaluating, handed, seeded
from ..nn import Supernet
from ..point import FAILING
from ..space import Architecture
from .cost_table import CostTable, Slot
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

    The peak of a part is the sum of what it finds allocated and of what it allocates itself. Each
    depends on fewer choices than the sum, so there is a table of each.

    Attributes:
        parameters: the bytes of each part's parameters and buffers.
        activations: the largest number of bytes that each part has allocated while it runs.
        before: the bytes that are allocated when it begins, by the same parts.
    """

    name: str = "peak_memory"
    before: CostTable = field(kw_only=True)

    @classmethod
    def of(cls, supernet: Supernet, example: Any, progress: Progress | None = None) -> PeakMemory:
        """Tabulate the memory of a supernet's architectures; each is run twice.

        Args:
            supernet: the network with choices, on the CPU.
            example: an input with the batch size of the later use: a tensor, or any nest of them.
            progress: called with the number of architectures that were looked at, and 0.
        """
        observe, parts = observer(supernet, example), frozenset(part_paths(supernet.network))
        seen: dict[Architecture, tuple[dict[str, int], dict[str, int]]] = {}

        def run(architecture: Architecture) -> tuple[dict[str, int], dict[str, int]]:
            network = supernet.extract(architecture)
            places = places_of(supernet, architecture, parts)
            before: dict[str, int] = {}
            peaks: dict[str, int] = {}
            for path, (found, peak) in allocated(network, example).items():
                part = places.get(path, path)
                before.setdefault(part, found)
                peaks[part] = max(peaks.get(part, 0), peak)
            return before, {part: peak - before[part] for part, peak in peaks.items()}

        def look(architecture: Architecture) -> tuple[dict[str, int], dict[str, int]]:
            same = supernet.canonical(architecture)
            if same not in seen:
                try:
                    seen[same] = run(same)
                except FAILING:  # the observer sets aside what is to blame
                    seen[same] = run(observe(same).architecture)
                if progress is not None:
                    progress(len(seen), 0)
            return seen[same]

        known = hints(supernet)
        tables = [
            cost_table(supernet.choices, costs, unit="bytes", hints=known)
            for costs in (
                lambda architecture: observe(architecture).parameter_bytes,
                lambda architecture: look(architecture)[1],
                lambda architecture: look(architecture)[0],
            )
        ]
        held, own, before = tables
        own, before = _with_equal_slots(own, before)
        return cls(held, own, before=before)

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected parameters plus the largest expected peak of a part."""
        held = self.parameters.total(probabilities)
        peaks = self.before.expected(probabilities) + self.activations.expected(probabilities)
        return (held + peaks.amax(dim=-1)) / 1024

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The memory of one architecture."""
        pairs = zip(self.before.at(architecture), self.activations.at(architecture), strict=True)
        return (self.parameters.total_at(architecture) + max(map(sum, pairs))) / 1024

    def measure(self, network: nn.Module, example: Any) -> float:
        """The memory of a network."""
        held = [*network.parameters(), *network.buffers()]
        bytes_held = sum(tensor.numel() * tensor.element_size() for tensor in held)
        return (bytes_held + max(peak for _, peak in allocated(network, example).values())) / 1024


def _with_equal_slots(one: CostTable, other: CostTable) -> tuple[CostTable, CostTable]:
    """Both tables with the slots of both, in one order; what a table has not costs 0."""
    names = sorted({slot.name for table in (one, other) for slot in table.slots})

    def filled(table: CostTable) -> CostTable:
        known = {slot.name: slot for slot in table.slots}
        nothing = torch.zeros((), dtype=torch.float64)
        slots = [known.get(name, Slot(name, {}, nothing)) for name in names]
        return CostTable(table.choices, slots, unit=table.unit, about=table.about)

    return filled(one), filled(other)


def allocated(network: nn.Module, example: Any) -> dict[str, tuple[int, int]]:
    """The bytes that are allocated on the CPU when each module begins, and the peak while it runs.

    They are given by the path of the module, in the order in which modules begin. What runs in a
    module inside counts there only. The network does not change. It runs twice: kernels keep
    something from their first run.
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
    found = {"": (given, given)}
    for kind, value in _events(profiler):
        if kind == "enter":
            running.append(str(value))
        elif kind == "leave":
            running.pop()
        else:
            live += int(value)
        before, peak = found.get(running[-1], (live, live))
        found[running[-1]] = before, max(peak, live)
    return found


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
