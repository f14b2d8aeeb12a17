"""Measure what every part of a supernet's architectures costs on a device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..devices import device_name, find_device
from ..devices.timer import measure_in_turn
from ..nn import Supernet
from ..space import Architecture, Choice, decode, draw
from .cost_table import CostTable, Slot
from .parameters import slots
from .parts import Run, observer, part_paths
from .tabulate import Dependence, tabulate

Signature = tuple[str, ...]
Progress = Callable[[int, int], None]

CALIBRATION = 12  # whole architectures, spread over the range of the table
SECONDS = 2.0  # of timing, for the parts and again for the whole architectures


def profile(
    supernet: Supernet,
    example: Tensor,
    *,
    device: str | torch.device = "cpu",
    threads: int = 1,
    cache: bool = True,
    progress: Progress | None = None,
) -> CostTable:
    """A table of milliseconds: every part of the network, with every pick that matters to it.

    Each part is taken from an extracted network and timed in place: the plain module, on an input
    of the shape that reaches it there. Parts that run the same operations on the same shapes are
    measured once. All are timed in turn, round after round. A dozen whole architectures are timed
    as well; the table is scaled and shifted to fit them, ``a + b * sum``, and how well it ranks
    them is written down: see `about` of the table for ``calibration_ms``,
    ``calibration_factor`` and ``rank_correlation``.

    Args:
        supernet: the network with choices.
        example: an input, with the batch size to measure at.
        device: where to measure.
        threads: of torch's pool on the CPU.
        cache: read and write tables in the user's cache folder, by device, torch version,
            threads and all operations and shapes of the space.
        progress: told how many rounds of timing are done, and of how many.

    Raises:
        ValueError: a part depends on more than 4096 combinations of picks; no such device.
    """
    place = find_device(device) if isinstance(device, str) else device
    observe = observer(supernet, example)
    found = tabulate(supernet.choices, lambda a: observe(a).runs)
    about: dict[str, Any] = {
        "device": device_name(place),
        "torch": torch.__version__,
        "threads": threads,
        "input": list(example.shape),
        "operations": _digest(supernet.choices, found),
    }
    path = _cache_folder() / f"latency-{_hash(repr(sorted(about.items())))}.json"
    if cache and path.exists():
        return CostTable.read(path, supernet.choices)
    report = progress or (lambda done, total: None)
    measured = _measure_parts(supernet, example, found, place, threads, report)
    table = CostTable(supernet.choices, _slots(supernet.choices, found, measured), unit="ms")
    table = _calibrated(table, about, supernet, example, place, threads, report)
    if cache:
        table.write(path)
    return table


def _measure_parts(
    supernet: Supernet,
    example: Tensor,
    found: Mapping[str, Dependence],
    device: torch.device,
    threads: int,
    progress: Progress,
) -> dict[Signature, float]:
    """Milliseconds for each sequence of operations that some part runs."""
    wanted: dict[Signature, tuple[str, Architecture]] = {}
    for part, dependence in found.items():
        for value, picks in dependence.values.values():
            if isinstance(value, tuple):
                wanted.setdefault(value, (part, decode(supernet.choices, picks)))
    paths = frozenset(part_paths(supernet.network))
    calls = [
        _call(Run.of(supernet, supernet.canonical(a), example, paths), part, example, device)
        for part, a in wanted.values()
    ]
    times = measure_in_turn(
        calls,
        threads=threads,
        device=device,
        seconds=SECONDS,
        progress=lambda done, total: progress(done, 2 * total),
    )
    return {key: time.median_ms for key, time in zip(wanted, times, strict=True)}


def _call(run: Run, part: str, example: Tensor, device: torch.device) -> Callable[[], object]:
    """Run a part alone, on inputs like those that reach it in its network."""
    path = next((plain for plain, place in run.places.items() if place == part), None)
    inputs: list[tuple[Any, Any]] = []
    if path is None or run.owners.get(path) != part:
        path = next((plain for plain, owner in run.owners.items() if owner == part), None)
    if path is None:  # no module: operations of a larger module's own code
        own = [op.call for name, op, _ in run.ops() if name == part]
        replay = [(f, _like(args, device), _like(kwargs, device)) for f, args, kwargs in own]
        return lambda: [f(*args, **kwargs) for f, args, kwargs in replay]
    module = run.network.get_submodule(path)
    hook = module.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append((args, kwargs)), with_kwargs=True
    )
    run.network.eval()
    with torch.inference_mode():
        run.network(example)
    hook.remove()
    module.to(device)
    if len(inputs) == 1:
        args, kwargs = _like(inputs[0], device)
        return lambda: module(*args, **kwargs)
    moved = [_like(pair, device) for pair in inputs]
    return lambda: [module(*args, **kwargs) for args, kwargs in moved]


def _like(value: Any, device: torch.device) -> Any:
    """The same arguments with tensors of their own memory on a device."""
    if isinstance(value, Tensor):
        return value.detach().clone().to(device)
    if isinstance(value, list | tuple):
        return type(value)(_like(inner, device) for inner in value)
    if isinstance(value, dict):
        return {key: _like(inner, device) for key, inner in value.items()}
    return value


def _calibrated(
    table: CostTable,
    about: dict[str, Any],
    supernet: Supernet,
    example: Tensor,
    device: torch.device,
    threads: int,
    progress: Progress,
) -> CostTable:
    """The table, scaled and shifted to fit whole architectures."""
    rng = Random(0)
    drawn = {supernet.canonical(draw(supernet.choices, rng)) for _ in range(400)}
    ranked = sorted(drawn, key=lambda a: (table.total_at(a), str(a)))
    spread = np.linspace(0, len(ranked) - 1, min(CALIBRATION, len(ranked))).round().astype(int)
    chosen = [ranked[index] for index in spread]
    x = example.to(device)
    with torch.random.fork_rng(devices=[]):
        networks = [supernet.extract(a).to(device).eval() for a in chosen]
    times = measure_in_turn(
        [lambda network=network: network(x) for network in networks],
        threads=threads,
        device=device,
        seconds=SECONDS,
        progress=lambda done, total: progress(done + total, 2 * total),
    )
    predicted = np.array([table.total_at(a) for a in chosen])
    measured = np.array([time.median_ms for time in times])
    factor, shift = _fit(predicted, measured)
    correlation = rank_correlation(predicted, measured)
    constant = Slot("constant", {}, torch.tensor(shift, dtype=torch.float64))
    scaled = [Slot(slot.name, slot.groups, slot.values * factor) for slot in table.slots]
    return CostTable(
        table.choices,
        [constant, *scaled],
        unit="ms",
        about={
            **about,
            "calibration_ms": shift,
            "calibration_factor": factor,
            "rank_correlation": correlation,
        },
    )


def _fit(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Factor and shift of the line through the middle of the points, neither of them negative.

    The slope is the median over pairs of points (Theil 1950, Sen 1968), which a few disturbed
    measurements do not move.
    """
    low, high = np.triu_indices(len(predicted), 1)
    apart = predicted[high] - predicted[low]
    rises = (measured[high] - measured[low])[apart > 0] / apart[apart > 0]
    if len(rises) > 0:
        factor = float(np.median(rises))
        shift = float(np.median(measured - factor * predicted))
        if factor > 0 and shift >= 0:
            return factor, shift
    return float(np.median(measured / predicted)), 0.0


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's, with ties sharing their mean rank; nan where there is nothing to rank."""
    ranks = [np.array([(v < x).mean() + (v <= x).mean() for x in v]) for v in (one, other)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(*ranks)[0, 1])


def _slots(
    choices: Sequence[Choice], found: Mapping[str, Dependence], measured: Mapping[Signature, float]
) -> list[Slot]:
    """The measured slots of a table."""
    for dependence in found.values():
        dependence.values = {
            key: (None if value is None else measured[value], picks)  # type: ignore[index]
            for key, (value, picks) in dependence.values.items()
        }
    return slots(tuple(choices), found)


def _digest(choices: Sequence[Choice], found: Mapping[str, Dependence]) -> str:
    described = [
        (name, slot.classes, sorted((key, value) for key, (value, _) in slot.values.items()))
        for name, slot in sorted(found.items())
    ]
    return _hash(repr((choices, described)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretonas"

