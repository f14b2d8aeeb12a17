"""Measure a latency table: the time of every part of a supernet's architectures on a device."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import tensors
from ..devices.backend import Backend, find_backend
from ..devices.onnx_session import OnnxRuntime
from ..devices.reference import cache_folder
from ..devices.timer import Load
from ..forward import seeded
from ..nn import Supernet
from ..space import Architecture, Choice, decode
from .calibration import Calibration, corrected, timed
from .cost_table import CostTable, Slot
from .node_times import places, times_in_networks
from .onnx_options import naming_options
from .part_times import part_times
from .parts import hints, observer
from .tabulate import Dependence, Values, slots, tabulate

Signature = tuple[str, ...]
Progress = Callable[[int, int], None]

METHOD = 3  # of measuring; a new number sets tables in the cache aside


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
    space, the table has what was measured. Its `about` says how
    well it predicts such networks: see `paretonas.objectives.calibration.Calibration`. If the table
    of nodes predicts badly, or there is none, parts that are timed alone make a table, too; the
    better one is kept. Its `about` has ``parts``: ``nodes`` or ``alone``.

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
    observe, numbers = observer(supernet, example), count(1)

    def look(architecture: Architecture, own: Callable[[Any], Values]) -> Values:
        report(next(numbers), 0)
        return own(observe(architecture))

    known = hints(supernet)
    found = tabulate(supernet.choices, lambda a: look(a, lambda parts: parts.runs), hints=known)
    about: dict[str, Any] = {
        **runner.about(),
        "input": shapes(example),
        "operations": _digest(supernet.choices, found),
    }
    key = _hash(repr((METHOD, sorted(about.items()))))
    path = cache_folder() / f"latency-{key}.json"
    if cache and path.exists():
        with suppress(OSError, ValueError):  # a damaged table is measured anew
            return CostTable.read(path, supernet.choices)
    with (
        seeded(0, supernet),
        naming_options(supernet, example),
    ):  # timed parts may use random generators

        def alone(report: Progress) -> CostTable:
            return _alone(supernet, example, found, runner, about, report)

        table, loads = None, dict[Architecture, Load]()
        if isinstance(runner, OnnxRuntime):
            by_place = tabulate(supernet.choices, lambda a: look(a, places), hints=known)
            table, loads = _in_networks(supernet, example, by_place, runner, about, report)
        table = table or alone(report)
        networks = timed(
            table,
            supernet,
            example,
            backend=runner,
            loads=loads,
            progress=lambda share: report(round(50 + 50 * share), 100),
        )
        table = corrected(table, networks)
        if table.about["parts"] == "nodes" and _predicts_badly(table):
            other = alone(lambda done, total: None)  # all steps were reported
            table = min(table, corrected(other, networks), key=_error)
    if cache:
        with suppress(OSError, ValueError):  # the folder cannot be written
            table.write(path)
    return table


def _alone(
    supernet: Supernet,
    example: Any,
    found: Mapping[str, Dependence],
    runner: Backend,
    about: Mapping[str, Any],
    report: Progress,
) -> CostTable:
    """The table of parts that are timed alone."""
    wanted: dict[Signature, tuple[str, Architecture]] = {}
    for part, value, picks in _signatures(found):
        wanted.setdefault(value, (part, decode(supernet.choices, picks)))
    times = part_times(
        supernet,
        example,
        wanted,
        device=runner.device,
        threads=runner.threads,
        progress=lambda share: report(round(50 * share), 100),
    )
    made = _slots(supernet.choices, found, times)
    return CostTable(supernet.choices, made, unit="ms", about={**about, "parts": "alone"})


def _in_networks(
    supernet: Supernet,
    example: Any,
    found: Mapping[str, Dependence],
    runner: OnnxRuntime,
    about: Mapping[str, Any],
    report: Progress,
) -> tuple[CostTable | None, dict[Architecture, Load]]:
    """The table of nodes in whole networks, and what loads these.

    There is no table if the nodes do not tell their module.
    """
    wanted: dict[Signature, Architecture] = {}
    for _, value, picks in _signatures(found):
        wanted.setdefault(value, decode(supernet.choices, picks))
    times, loads = times_in_networks(
        runner,
        supernet,
        example,
        wanted,
        progress=lambda share: report(round(50 * share), 100),
    )
    if not times:
        return None, {}
    made = _slots(supernet.choices, found, times)
    return CostTable(supernet.choices, made, unit="ms", about={**about, "parts": "nodes"}), loads


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


def _signatures(
    found: Mapping[str, Dependence],
) -> list[tuple[str, Signature, tuple[int, ...]]]:
    """The operations of all parts, each with an architecture that runs it."""
    return [
        (part, value, picks)
        for part, dependence in found.items()
        for value, picks in dependence.values.values()
        if isinstance(value, tuple)
    ]


def _slots(
    choices: Sequence[Choice], found: Mapping[str, Dependence], times: Mapping[Signature, float]
) -> list[Slot]:
    """The slots of a table; what was not measured is filled in."""
    made: dict[str, Dependence] = {}
    for part, slot in found.items():
        runs = {key: value for key, (value, _) in slot.values.items() if isinstance(value, tuple)}
        known = {key: times[value] for key, value in runs.items() if value in times}
        guess = _main_effects(known) if len(known) < len(runs) else None
        values: dict[tuple[int, ...], tuple[Hashable, tuple[int, ...]]] = {
            key: (known[key] if key in known else guess(key) if key in runs and guess else None, ())
            for key in slot.values
        }
        made[part] = Dependence(slot.classes, values)
    return slots(tuple(choices), made)


def _main_effects(known: Mapping[tuple[int, ...], float]) -> Callable[[tuple[int, ...]], float]:
    """Guesses a time by the main effects of the known ones, in logarithms; 0 if none is known."""
    if not known:
        return lambda key: 0.0
    logs = {key: math.log(max(value, 1e-6)) for key, value in known.items()}
    mean = sum(logs.values()) / len(logs)
    groups = sorted({(axis, group) for key in known for axis, group in enumerate(key)})
    column = {pair: index for index, pair in enumerate(groups)}

    def row(key: tuple[int, ...]) -> NDArray[np.float64]:
        found = np.zeros(len(groups))
        for pair in enumerate(key):
            if pair in column:
                found[column[pair]] = 1.0
        return found

    rows = np.array([row(key) for key in logs])
    rest = np.array([value - mean for value in logs.values()])
    effects = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(len(groups)), rows.T @ rest)
    return lambda key: math.exp(mean + float(row(key) @ effects))


def shapes(example: Any) -> list[Any]:
    """The shape of a tensor; for a nest the shapes of its tensors."""
    if isinstance(example, Tensor):
        return list(example.shape)
    return [list(tensor.shape) for tensor in tensors(example)]


def _digest(choices: Sequence[Choice], found: Mapping[str, Dependence]) -> str:
    described = [
        (name, slot.classes, sorted((key, value) for key, (value, _) in slot.values.items()))
        for name, slot in sorted(found.items())
    ]
    return _hash(repr((choices, described)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
