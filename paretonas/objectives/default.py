"""The objectives of a space of networks by name, and the default objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ..arguments import moved
from ..nn import NetworkSpace
from .base import AnyObjective, DifferentiableObjective, MeasuredObjective
from .file_size import FileSize
from .int8 import Int8FileSize, Int8Latency, Int8Metric
from .latency import Latency
from .macs import Flops, Macs
from .memory import Memory
from .onnx_options import check_some
from .parameters import Parameters
from .peak_memory import PeakMemory
from .trained_metric import TrainedMetric
from .training_memory import TrainingMemory

Build = Callable[..., DifferentiableObjective]
BuildMeasured = Callable[[NetworkSpace, int], MeasuredObjective]


@dataclass(frozen=True)
class Known:
    """An objective of the package, which is built for a supernet when a search begins.

    Attributes:
        column: the name of the objective in files, with its unit.
        build: builds it from the supernet, an example, the device, its threads, the backend, and a
            `Progress`.
    """

    column: str
    build: Build


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

    def built(space: NetworkSpace, threads: int) -> MeasuredObjective:
        made = build(space, threads)
        example = moved(space.load_task().example(), "cpu")
        check_some(space.supernet(), example, f"minimize something else than {name}")
        return made

    return built


MEASURED: Mapping[str, BuildMeasured] = {
    "training_memory": lambda space, threads: TrainingMemory(space),
    "int8_error": _in_int8("int8_error", lambda space, threads: Int8Metric(space)),
    "int8_latency": _in_int8("int8_latency", Int8Latency),
    "int8_file_size": _in_int8("int8_file_size", lambda space, threads: Int8FileSize(space)),
}
"""Objectives of a space of networks that are only measured, from the space and the threads."""
BESIDE_THE_METRIC = ("latency", "memory")
"""The names of the objectives that are minimized beside the metrics by default."""
NAMES = (*OBJECTIVES, *MEASURED)
"""The names of all objectives of the package but the metrics."""


def default_objectives(
    space: NetworkSpace,
    names: Sequence[str] = BESIDE_THE_METRIC,
    backend: str | None = None,
) -> tuple[AnyObjective, ...]:
    """The validation metrics after training with the space's recipe, and named objectives.

    The latency table is measured here, once, so that all methods use the same table. It is cached,
    so a resumed comparison uses it again.

    Args:
        space: the space of networks.
        names: names in `NAMES`; by default latency by table, and memory.
        backend: what runs networks whose latency is measured; by default ONNX Runtime, if its
            packages are installed, otherwise eager torch.

    Raises:
        ValueError: there is no such backend, or ONNX cannot hold the network; then take
            ``backend="torch"``.
        ModuleNotFoundError: a package is missing; the message has the pip line.
    """
    supernet, example = space.supernet(), moved(space.load_task().example(), "cpu")
    others = (
        OBJECTIVES[name].build(supernet, example, "cpu", 1, backend)
        if name in OBJECTIVES
        else MEASURED[name](space, 1)
        for name in names
    )
    trained = TrainedMetric(space)
    return trained, *trained.others(), *others
