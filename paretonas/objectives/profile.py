"""Measure a latency table: the time of every part of a supernet's architectures on a device."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import call, mapped, moved, tensors
from ..devices import device_name, find_device
from ..devices.timer import measure_in_turn, repeated
from ..forward import handed, seeded
from ..nn import Supernet
from ..space import Architecture, Choice, decode
from .calibration import Calibration, calibrate
from .cost_table import CostTable, Slot
from .parts import NetworkTrace, hints, observer, part_paths
from .tabulate import Dependence, Values, slots, tabulate

Signature = tuple[str, ...]
Progress = Callable[[int, int], None]

SECONDS = 2.0  # time for measuring the parts


def profile(
    supernet: Supernet,
    example: Any,
    *,
    device: str | torch.device = "cpu",
    threads: int = 1,
    cache: bool = True,
    progress: Progress | None = None,
) -> CostTable:
    """Measure a latency table: milliseconds of every part, for every pick that matters to it.

    Each part is taken from an extracted network: the plain module, timed on an input of the shape
    that it gets there. Parts that run the same operations on the same shapes are measured once. All
    parts are timed in turn, in several rounds. A dozen whole architectures are also timed, and the
    table is scaled and shifted to fit them, ``shift + factor * sum``. `about` of the table holds
    both numbers and how well the table ranks these architectures: see
    `paretonas.objectives.calibration.Calibration`.

    Args:
        supernet: the network with choices.
        example: an input with the batch size for the measurement: a tensor, or any nest of tensors.
        device: the device to measure on.
        threads: the number of torch's CPU threads.
        cache: whether to read and write tables in the user's cache folder; their key is the device,
            the torch version, the threads, and all operations and shapes of the space.
        progress: called with the number of architectures that were looked at, and 0; then with the
            number of finished rounds and the number of all rounds.

    Raises:
        ValueError: a part depends on more than 4096 combinations of picks, or there is no such
            device.
    """
    place = find_device(device) if isinstance(device, str) else device
    report = progress or (lambda done, total: None)
    observe, numbers = observer(supernet, example), count(1)

    def runs(architecture: Architecture) -> Values:
        report(next(numbers), 0)
        return observe(architecture).runs

    found = tabulate(supernet.choices, runs, hints=hints(supernet))
    about: dict[str, Any] = {
        "device": device_name(place),
        "torch": torch.__version__,
        "threads": threads,
        "input": _shapes(example),
        "operations": _digest(supernet.choices, found),
    }
    path = _cache_folder() / f"latency-{_hash(repr(sorted(about.items())))}.json"
    if cache and path.exists():
        return CostTable.read(path, supernet.choices)
    with seeded(0, supernet):  # timed parts may use random generators
        measured = _measure_parts(supernet, example, found, place, threads, report)
        table = CostTable(supernet.choices, _slots(supernet.choices, found, measured), unit="ms")
        calibration = calibrate(
            table,
            supernet,
            example,
            device=place,
            threads=threads,
            progress=lambda done, total: report(done + total, 2 * total),
        )
    table = _scaled(table, calibration, about)
    if cache:
        table.write(path)
    return table


def _measure_parts(
    supernet: Supernet,
    example: Any,
    found: Mapping[str, Dependence],
    device: torch.device,
    threads: int,
    progress: Progress,
) -> dict[Signature, float]:
    """Milliseconds of each sequence of operations that a part runs."""
    wanted: dict[Signature, tuple[str, Architecture]] = {}
    for part, dependence in found.items():
        for value, picks in dependence.values.values():
            if isinstance(value, tuple):
                wanted.setdefault(value, (part, decode(supernet.choices, picks)))
    paths = frozenset(part_paths(supernet.network))
    observe = observer(supernet, example)
    together: dict[Architecture, dict[Signature, str]] = {}  # one pass for all its parts
    for key, (part, architecture) in wanted.items():
        together.setdefault(observe(architecture).architecture, {})[key] = part
    calls: dict[Signature, Callable[[], object]] = {}
    for architecture, own in together.items():
        run = NetworkTrace.of(supernet, architecture, example, paths)
        found_calls = _calls(run, frozenset(own.values()), example, device)
        calls |= {key: found_calls[part] for key, part in own.items()}
    times = measure_in_turn(
        list(calls.values()),
        threads=threads,
        device=device,
        seconds=SECONDS,
        progress=lambda done, total: progress(done, 2 * total),
    )
    return {key: time.median_ms for key, time in zip(calls, times, strict=True)}


def _calls(
    run: NetworkTrace, parts: Collection[str], example: Any, device: torch.device
) -> dict[str, Callable[[], object]]:
    """Calls that run parts alone, on inputs like those in their network."""
    modules: dict[str, nn.Module] = {}
    for plain, owner in run.owners.items():
        if owner is not None and owner in parts and owner not in modules:
            modules[owner] = run.network.get_submodule(plain)
    inputs: dict[str, list[tuple[Any, Any]]] = {part: [] for part in parts}

    def keeper(part: str) -> Callable[[nn.Module, Any, Any], None]:
        # Before a module overwrites them.
        return lambda _, args, kwargs: inputs[part].append(_like((args, kwargs), device))

    hooks = [
        module.register_forward_pre_hook(keeper(part), with_kwargs=True)
        for part, module in modules.items()
    ]
    run.network.eval()
    with torch.inference_mode(), seeded(0, run.network):
        call(run.network, handed(run.network, example))
    for hook in hooks:
        hook.remove()
    replays: dict[str, list[tuple[Any, Any, Any]]] = {part: [] for part in parts}
    for part, op, _ in run.ops():
        if part in parts and not inputs[part]:  # not called as a module: run its operations
            function, args, kwargs = op.call
            replays[part].append((function, _like(args, device), _like(kwargs, device)))
    found: dict[str, Callable[[], object]] = {}
    for part in parts:
        if part in modules and inputs[part]:
            module = modules[part].to(device)
            each = [repeated(module, *args, **kwargs) for args, kwargs in inputs[part]]
            found[part] = each[0] if len(each) == 1 else partial(_all, each)
        else:
            found[part] = partial(_replayed, replays[part])
    return found


def _all(calls: Sequence[Callable[[], object]]) -> list[object]:
    return [each() for each in calls]


def _replayed(calls: Sequence[tuple[Any, Any, Any]]) -> list[object]:
    return [function(*args, **kwargs) for function, args, kwargs in calls]


def _like(value: Any, device: torch.device) -> Any:
    """The same arguments; their tensors are copied to the device."""
    return mapped(Tensor.detach, moved(value, device, copies=True))


def _shapes(example: Any) -> list[Any]:
    """The shape of a tensor; for a nest the shapes of its tensors."""
    if isinstance(example, Tensor):
        return list(example.shape)
    return [list(tensor.shape) for tensor in tensors(example)]


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


def _scaled(table: CostTable, calibration: Calibration, about: Mapping[str, Any]) -> CostTable:
    constant = Slot("constant", {}, torch.tensor(calibration.shift_ms, dtype=torch.float64))
    scaled = [Slot(s.name, s.groups, s.values * calibration.factor) for s in table.slots]
    return CostTable(
        table.choices, [constant, *scaled], unit="ms", about={**about, **asdict(calibration)}
    )


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
