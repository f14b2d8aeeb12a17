"""Measure a latency table: the time of every part of a supernet's architectures on a device."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from ..devices.backend import find_backend
from ..devices.onnx_session import OnnxRuntime
from ..devices.reference import cache_folder
from ..devices.timer import Load
from ..forward import seeded
from ..nn import Supernet
from ..space import Architecture
from .calibration import Calibration, Timed, corrected, timed
from .cost_table import CostTable
from .node_times import times_in_networks
from .onnx_options import naming_options
from .part_times import part_times
from .timing_plan import TimingPlan, digest

Progress = Callable[[int, int], None]

METHOD = 6  # of measuring; a new number sets tables in the cache aside


def profile(
    supernet: Supernet,
    example: Any,
    *,
    device: str | torch.device = "cpu",
    threads: int = 1,
    backend: str | None = None,
    cache: bool = True,
    progress: Progress | None = None,
) -> CostTable:
    """Measure a latency table: milliseconds of every part, for every pick that matters to it.

    With the backend ``torch`` each part is taken from an extracted network: the plain module, timed
    on an input of the shape that it gets there; all parts are timed in turn. With ``onnxruntime``
    whole networks are run, and the runtime tells the time of each node; so fused operations are
    seen as they run. Parts that run the same operations on the same shapes are measured once. Other
    backends begin with the table of ``torch`` on their device.

    Some dozens of whole networks are timed as well, and correct the table. If these are all of the
    space, the table has what was measured. Its `about` says how well it predicts such networks: see
    `paretonas.objectives.calibration.Calibration`. If the table of nodes predicts badly, or there
    is none, parts that are timed alone make a table, too; the better one is kept. Its `about` has
    ``parts``: ``nodes`` or ``alone``.

    Args:
        supernet: the network with choices.
        example: an input with the batch size for the measurement: a tensor, or any nest of tensors.
        device: the device to measure on.
        threads: the number of CPU threads.
        backend: what runs the networks; by default ONNX Runtime on a CPU, if its packages are
            installed, otherwise eager torch. See `paretonas.devices.find_backend`.
        cache: whether to read and write tables in the user's cache folder; their key is the device,
            the backend, its version and threads, and all operations and shapes of the space.
        progress: called with the number of architectures that were looked at, and 0; then with the
            number of finished steps and the number of all steps.

    Raises:
        ValueError: a part depends on more than 4096 combinations of picks, there is no such device
            or backend, or ONNX cannot hold the network; the message names the options, if there
            are any that alone are to blame. Then take ``backend="torch"``.
        ModuleNotFoundError: the package of the backend is missing.
    """
    runner = find_backend(backend, device, threads)
    report = progress or (lambda done, total: None)
    plan = TimingPlan(supernet, example, lambda looked: report(looked, 0))
    about: dict[str, Any] = {**runner.about(), **plan.about()}
    key = digest(repr((METHOD, sorted(about.items()))))
    path = cache_folder() / f"latency-{key}.json"
    if cache and path.exists():
        with suppress(OSError, ValueError):  # a damaged table is measured anew
            return CostTable.read(path, supernet.choices)

    def halfway(share: float) -> None:
        report(round(50 * share), 100)

    def alone(progress: Callable[[float], None]) -> CostTable:
        times = part_times(
            supernet,
            example,
            plan.parts(),
            device=runner.device,
            threads=runner.threads,
            progress=progress,
        )
        return plan.table_of_parts(times, about)

    # Timed parts may use random generators.
    with seeded(0, supernet), naming_options(supernet, example):
        table, loads = None, dict[Architecture, Load]()
        if isinstance(runner, OnnxRuntime):
            times, loads = times_in_networks(
                runner, supernet, example, plan.in_networks(), progress=halfway
            )
            table = plan.table_of_nodes(times, about) if times else None
        table = table or alone(halfway)
        networks = timed(
            table,
            supernet,
            example,
            backend=runner,
            loads=loads,
            progress=lambda share: report(round(50 + 50 * share), 100),
        )
        table = best_corrected(table, networks, lambda: alone(lambda _: None))
    if cache:
        with suppress(OSError, ValueError):  # the folder cannot be written
            table.write(path)
    return table


def best_corrected(
    table: CostTable, networks: Timed, otherwise: Callable[[], CostTable]
) -> CostTable:
    """A table corrected by measured networks.

    Args:
        table: of nodes, or another one.
        networks: whose latency was measured.
        otherwise: gives a table to take instead, if that of nodes predicts badly and the other one
            better.
    """
    table = corrected(table, networks)
    if table.about["parts"] == "nodes" and _predicts_badly(table):
        table = min(table, corrected(otherwise(), networks), key=_error)
    return table


def _predicts_badly(table: CostTable) -> bool:
    told = Calibration.told(table.about)
    assert told is not None  # it was corrected
    rank = told.rank_correlation
    return told.within_10_percent < 0.5 or (rank is not None and rank < 0.5)


def _error(table: CostTable) -> float:
    """The mean square of the relative errors by cross-validation."""
    predicted, measured = (
        np.array(table.about[f"{name}_ms"]) for name in ("predicted", "measured")
    )
    return float(np.mean((predicted / measured - 1) ** 2))
