"""Time the parts of a supernet's architectures alone, each on an input like that in its network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..arguments import call, mapped, moved
from ..devices.timer import Call, measure_together, repeated
from ..forward import handed, seeded
from ..nn import Supernet
from ..space import Architecture
from .parts import NetworkTrace, observer, part_paths

SECONDS = 2.0  # time for measuring the parts
Signature = tuple[str, ...]


def part_times(
    supernet: Supernet,
    example: Any,
    wanted: Mapping[Signature, tuple[str, Architecture]],
    *,
    device: torch.device,
    threads: int,
    progress: Callable[[float], None],
) -> dict[Signature, float]:
    """Milliseconds of each sequence of operations that a part runs.

    Args:
        supernet: the network with choices.
        example: the inputs of one forward pass.
        wanted: for each sequence of operations a part that runs it, in an architecture.
        device: the device to run on.
        threads: the number of CPU threads.
        progress: called with the share that is done.
    """
    paths = frozenset(part_paths(supernet.network))
    observe = observer(supernet, example)
    together: dict[Architecture, dict[Signature, str]] = {}  # one pass for all its parts
    for key, (part, architecture) in wanted.items():
        together.setdefault(observe(architecture).architecture, {})[key] = part
    calls: dict[Signature, Call] = {}
    for architecture, own in together.items():
        run = NetworkTrace.of(supernet, architecture, example, paths)
        found_calls = _calls(run, frozenset(own.values()), example, device)
        calls |= {key: found_calls[part] for key, part in own.items()}
    times = measure_together(
        [partial(_same, call) for call in calls.values()],
        threads=threads,
        device=device,
        seconds=SECONDS,
        progress=progress,
    )
    return {key: time.median_ms for key, time in zip(calls, times, strict=True)}


def _calls(
    run: NetworkTrace, parts: Collection[str], example: Any, device: torch.device
) -> dict[str, Call]:
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
    found: dict[str, Call] = {}
    for part in parts:
        if part in modules and inputs[part]:
            module = modules[part].to(device)
            each = [repeated(module, *args, **kwargs) for args, kwargs in inputs[part]]
            found[part] = each[0] if len(each) == 1 else partial(_all, each)
        else:
            found[part] = partial(_replayed, replays[part])
    return found


def _same(call: Callable[[], object]) -> Callable[[], object]:
    return call


def _all(calls: Sequence[Callable[[], object]]) -> list[object]:
    return [each() for each in calls]


def _replayed(calls: Sequence[tuple[Any, Any, Any]]) -> list[object]:
    return [function(*args, **kwargs) for function, args, kwargs in calls]


def _like(value: Any, device: torch.device) -> Any:
    """The same arguments; their tensors are copied to the device."""
    return mapped(Tensor.detach, moved(value, device, copies=True))
