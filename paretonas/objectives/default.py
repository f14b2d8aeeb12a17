"""The objectives of a space of networks by name, and the default objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ..arguments import moved
from ..constraint import on_device
from ..devices import find_device
from ..nn import NetworkSpace, Supernet
from .base import AnyObjective, DifferentiableObjective, MeasuredObjective
from .energy import Energy
from .file_size import FileSize
from .int8 import Int8FileSize, Int8Latency, Int8Metric
from .latency import Latency
from .macs import Flops, Macs
from .memory import Memory
from .onnx_options import check_some
from .parameters import Parameters
from .peak_memory import PeakMemory
from .table_latency import device_here, find_table_latency, is_on_device
from .trained_metric import TrainedMetric
from .training_memory import TrainingMemory

Build = Callable[..., DifferentiableObjective]
BuildMeasured = Callable[[NetworkSpace, str, int, str | None], MeasuredObjective]


@dataclass(frozen=True)
class Known:
    """An objective of the package, which is built for a supernet when a search begins.

    Attributes:
        column: the name of the objective in files, with its unit.
        build: builds it from the supernet, an example, the device, its threads, the backend, and a
            `Progress`.
        device: on which it is measured; None: on that of the search.
    """

    column: str
    build: Build
    device: str | None = None


OBJECTIVES: Mapping[str, Known] = {
    "latency": Known(
        "latency_ms",
        lambda supernet, example, device, threads, backend, progress=None: Latency.profile(
            supernet, example, device=device, threads=threads, backend=backend, progress=progress
        ),
    ),
    "memory": Known(
        "memory_kib",
        lambda supernet, example, device, threads, backend, progress=None: Memory.of(
            supernet, example, progress
        ),
    ),
    "parameters": Known(
        "parameters", lambda supernet, example, *_: Parameters.of(supernet, example)
    ),
    "peak_memory": Known(
        "peak_memory_kib",
        lambda supernet, example, device, threads, backend, progress=None: PeakMemory.of(
            supernet, example, progress
        ),
    ),
    "macs": Known("macs", lambda supernet, example, *_: Macs.of(supernet, example)),
    "flops": Known("flops", lambda supernet, example, *_: Flops.of(supernet, example)),
    "file_size": Known(
        "file_size_kib", lambda supernet, example, *_: FileSize.of(supernet, example)
    ),
}
"""The objectives of a space of networks by name; its metrics are not among them."""


def _in_int8(name: str, build: BuildMeasured) -> BuildMeasured:
    """Refuses a space whose networks ONNX cannot hold, before one is trained."""

    def built(
        space: NetworkSpace, device: str, threads: int, backend: str | None
    ) -> MeasuredObjective:
        made = build(space, device, threads, backend)
        example = moved(space.load_task().example(), "cpu")
        check_some(space.supernet(), example, f"minimize something else than {name}")
        return made

    return built


MEASURED: Mapping[str, BuildMeasured] = {
    "energy": lambda space, device, threads, backend: Energy.on(device, threads, backend),
    "training_memory": lambda space, *_: TrainingMemory(space),
    "int8_error": _in_int8("int8_error", lambda space, *_: Int8Metric(space)),
    "int8_latency": _in_int8(
        "int8_latency", lambda space, device, threads, backend: Int8Latency(space, threads)
    ),
    "int8_file_size": _in_int8("int8_file_size", lambda space, *_: Int8FileSize(space)),
}
"""Objectives of a space of networks that are only measured, from the space, the device, its
threads, and the backend if one was asked for."""
BESIDE_THE_METRIC = ("latency", "memory")
"""The names of the objectives that are minimized beside the metrics by default."""
NAMES = (*OBJECTIVES, *MEASURED)
"""The names of all objectives of the package but the metrics."""


def known(name: str) -> Known | None:
    """The objective of `OBJECTIVES` that has this name; None if there is none.

    ``latency@cpu`` and ``latency@cuda`` are the latency on a device of this machine.
    """
    device = device_here(name)
    if device is None:
        return OBJECTIVES.get(name)

    def build(
        supernet: Supernet, example: Any, place: Any, threads: int, backend: str, *progress: Any
    ) -> Latency:
        built = OBJECTIVES["latency"].build(supernet, example, device, threads, backend, *progress)
        assert isinstance(built, Latency)
        return replace(built, name=on_device(name))

    return Known(f"{on_device(name)}_ms", build, device)


def default_objectives(
    space: NetworkSpace,
    names: Sequence[str] = BESIDE_THE_METRIC,
    backend: str | Mapping[str, str] | None = None,
    folder: Path | None = None,
    device: torch.device | str = "cpu",
) -> tuple[AnyObjective, ...]:
    """The validation metrics after training with the space's recipe, and named objectives.

    The latency table is measured here, once, so that all methods use the same table. It is cached,
    so a resumed comparison uses it again.

    Args:
        space: the space of networks.
        names: names in `NAMES`, or ``latency@`` and a device, or the path of a latency table; by
            default latency by table, and memory.
        backend: what runs networks whose latency is measured, or what does by the column of the
            latency, such as ``latency_cpu_ms``; by default ONNX Runtime on a CPU, if its packages
            are installed, otherwise eager torch.
        folder: where tables are looked for; by default the current one.
        device: auto, cpu or cuda: where networks are trained, and where their latency is measured.

    Raises:
        ValueError: there is no such device or backend, or ONNX cannot hold the network; then take
            ``backend="torch"``.
        ModuleNotFoundError: a package is missing; the message has the pip line.
    """
    place = find_device(device)
    supernet, example = space.supernet(), moved(space.load_task().example(), "cpu")

    def runs(column: str) -> str | None:
        return backend.get(column) if isinstance(backend, Mapping) else backend

    def built(name: str) -> AnyObjective:
        if (objective := known(name)) is not None:
            return objective.build(supernet, example, place, 1, runs(objective.column))
        if is_on_device(name):
            return find_table_latency(name, space, folder or Path.cwd())
        return MEASURED[name](space, str(place), 1, runs(OBJECTIVES["latency"].column))

    others = [built(name) for name in names]
    trained = TrainedMetric(space, device=place)
    return trained, *trained.others(), *others
