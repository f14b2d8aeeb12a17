"""Time the parts of a supernet's architectures where they are deployed: in files of ONNX Runtime.

ONNX Runtime fuses operations across layers and changes the layout of tensors between them, so a
part alone does not take what it takes in its network. Here whole networks are run, and ONNX Runtime
tells the time of each node. A node carries the path of the module that it comes from. What is fused
into the node of another module takes no time of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..devices.clock import Clock
from ..devices.onnx_session import NodeTimes, OnnxRuntime, exported, node_times
from ..devices.reference import SLOWER, Reference
from ..devices.timer import Load, measuring
from ..nn import Supernet
from ..space import Architecture
from .parts import NetworkTrace, Parts, observer, part_paths

Signature = tuple[str, ...]

NETWORKS = 24  # at most; what they do not have is filled in
RUNS = 20
LEAST = 1e-9  # seconds of what is fused into another node; what does not run takes 0
FEWEST = 5  # runs that count; on a busy machine these are the least disturbed ones


def places(parts: Parts) -> dict[str, Signature]:
    """The operations by place: a part, or the own code of a larger module, ``path/``."""
    found: dict[str, Signature] = {}
    for part, run in parts.runs.items():
        place, own_code, _ = part.partition("/")
        found[place + own_code] = (*found.get(place + own_code, ()), *run)
    return found


@dataclass(frozen=True)
class InNetwork:
    """What the nodes of one whole network took.

    Attributes:
        nodes: the node of the model that did the work, and its seconds, in the order of running.
        whole: the seconds of the network, while no times of nodes were written down.
    """

    nodes: Sequence[tuple[str, float]]
    whole: float

    @property
    def tells_modules(self) -> bool:
        """Whether the names of nodes have the paths of modules."""
        return any(node.startswith("/") for node, _ in self.nodes)


def times_in_networks(
    backend: OnnxRuntime,
    supernet: Supernet,
    example: Any,
    wanted: Mapping[Signature, Architecture],
    *,
    progress: Callable[[float], None],
) -> tuple[dict[Signature, float], dict[Architecture, Load]]:
    """Milliseconds of each sequence of operations of a place, where a network shows it.

    Args:
        backend: ONNX Runtime.
        supernet: the network with choices.
        example: the inputs of one forward pass.
        wanted: for each sequence of operations an architecture that has it.
        progress: called with the share that is done.

    Returns:
        What was found. It lacks what at most 24 networks do not have; and it is empty if no node
        tells its module. And what loads these networks.
    """
    chosen = covering_networks(supernet, example, wanted)
    times = _TimesOfPlaces(supernet, example)
    loads: dict[Architecture, Load] = {}
    clock = Clock(torch.device("cpu"), backend.threads)
    with measuring(backend.threads):
        reference = Reference(clock)
        for index, architecture in enumerate(chosen):
            run = times.trace(architecture)
            model, inputs = exported(run.network, example)
            told = InNetwork(*_nodes(backend, model, inputs, clock, reference))
            if told.tells_modules:
                times.add(architecture, run, told)
            loads[architecture] = backend.opening(model, inputs)
            progress((index + 1) / len(chosen))
    return times.found(), loads


def times_of_places(
    supernet: Supernet, example: Any, seen: Mapping[Architecture, InNetwork]
) -> dict[Signature, float]:
    """Milliseconds of each sequence of operations of a place, from the nodes of networks.

    Returns:
        What was found; networks whose nodes do not tell their module say nothing.
    """
    times = _TimesOfPlaces(supernet, example)
    for architecture, told in seen.items():
        if not told.tells_modules:
            continue
        times.add(architecture, times.trace(architecture), told)
    return times.found()


class _TimesOfPlaces:
    """The seconds of sequences of operations of places, network by network.

    ONNX Runtime takes longer when it writes down times, as much for each node. This is subtracted.
    """

    def __init__(self, supernet: Supernet, example: Any) -> None:
        self._supernet, self._example = supernet, example
        self._observe = observer(supernet, example)
        self._paths = frozenset(part_paths(supernet.network))
        self._seconds: dict[Signature, list[float]] = {}

    def trace(self, architecture: Architecture) -> NetworkTrace:
        """The network of an architecture, and where its modules belong."""
        return NetworkTrace.of(self._supernet, architecture, self._example, self._paths)

    def add(self, architecture: Architecture, run: NetworkTrace, told: InNetwork) -> None:
        """Take what the nodes of a network took."""
        spent = [seconds for _, seconds in told.nodes]
        overhead = max(0.0, (sum(spent) - told.whole) / len(spent))
        overhead = min(overhead, *spent)  # a node's time includes it
        by_place = _by_place(run, told.nodes)
        for place, signature in places(self._observe(architecture)).items():
            own = by_place.get(place, [])  # none if it is fused into another
            total = sum(own)
            seconds = max(total - len(own) * overhead, total / 10, LEAST)
            self._seconds.setdefault(signature, []).append(seconds)

    def found(self) -> dict[Signature, float]:
        """Milliseconds: the median over networks."""
        return {run: 1e3 * float(np.median(own)) for run, own in self._seconds.items()}


def covering_networks(
    supernet: Supernet, example: Any, wanted: Mapping[Signature, Architecture]
) -> list[Architecture]:
    """Few architectures that together have what all have: always that with the most new.

    Args:
        supernet: the network with choices.
        example: the inputs of one forward pass.
        wanted: for each sequence of operations an architecture that has it.

    Returns:
        At most 24, each as it runs.
    """
    observe = observer(supernet, example)
    candidates = {observe(architecture).architecture for architecture in wanted.values()}
    left = {a: set(places(observe(a)).values()) for a in sorted(candidates, key=str)}
    chosen: list[Architecture] = []
    while left and len(chosen) < NETWORKS:
        best = max(left, key=lambda a: len(left[a]))
        seen = left.pop(best)
        if not seen:
            break
        chosen.append(best)
        for rest in left.values():
            rest -= seen
    return chosen


def _nodes(
    backend: OnnxRuntime,
    model: bytes,
    inputs: Mapping[str, Any],
    clock: Clock,
    reference: Reference,
) -> tuple[list[tuple[str, float]], float]:
    """Nodes of the model with their seconds, and those of all without writing times down."""
    plain = backend.opening(model, inputs)()
    around, whole = [reference.seconds()], []

    def after() -> None:
        whole.append(clock.seconds(plain)[0])
        around.append(reference.seconds())

    for _ in range(3):
        plain()
    times = node_times(backend, model, inputs, [after] * RUNS)
    slow = np.maximum(around[:-1], around[1:])
    return undisturbed(times, whole, slow, reference.best)


def undisturbed(
    times: NodeTimes, whole: Sequence[float], slow: NDArray[np.float64], best: float
) -> tuple[list[tuple[str, float]], float]:
    """Nodes of a model with their seconds, and those of all, from the least disturbed runs.

    Args:
        times: of the nodes, in n runs.
        whole: (n,) seconds of the network beside each run, without writing times down.
        slow: (n,) what the reference took around each run; all the same if there was none.
        best: what it takes at its best.
    """
    order = np.argsort(slow, kind="stable")
    count = max(FEWEST, int((slow <= SLOWER * best).sum()))
    good = order[:count]
    totals = np.sum([*times.seconds.values()], axis=0)

    def fastest(spent: ArrayLike) -> NDArray[np.intp]:
        """The faster half of the good runs; a run that was stopped is in the other half."""
        ranked = good[np.argsort(np.asarray(spent)[good], kind="stable")]
        return ranked[: (count + 1) // 2]

    # A mean, since times are whole microseconds; all are of the machine without other work.
    kept = fastest(totals)
    share = float(np.clip(best / np.median(slow[good]), 0.5, 1.0))
    nodes = [
        (times.origins[name], share * float(own[kept].mean()))
        for name, own in times.seconds.items()
    ]
    return nodes, share * float(np.mean(np.array(whole)[fastest(whole)]))


def _by_place(run: NetworkTrace, nodes: Sequence[tuple[str, float]]) -> dict[str, list[float]]:
    """The seconds of nodes by place; a node without a path belongs to the one before it."""
    modules = dict(run.network.named_modules(remove_duplicate=False))
    first = {id(module): path for path, module in run.network.named_modules()}
    found: dict[str, list[float]] = {}
    waiting: list[float] = []
    place = ""
    for node, seconds in nodes:
        if node.startswith("/"):
            path = first[id(modules[_module(node, modules)])]  # of a module in several places
            part = run.owners.get(path)
            place = part if part is not None else f"{run.places.get(path, path)}/"
        if not place:
            waiting.append(seconds)
            continue
        found.setdefault(place, []).extend([*waiting, seconds])
        waiting.clear()
    return found


def _module(node: str, modules: Mapping[str, object]) -> str:
    """The path of the module of a node such as ``/early/early.0/Add``: ``early.0``."""
    path = ""
    steps = node.split("/")[1:-1]
    if steps[:1] == ["network"] and "network" not in modules:  # it takes arguments by name
        del steps[0]
    for step in steps:
        found = _inside(path, step, modules)
        if not found:  # a module that is called again gets a number
            found = _inside(path, re.sub(r"_\d+$", "", step), modules)
        if not found:
            break
        path = found
    return path


def _inside(path: str, step: str, modules: Mapping[str, object]) -> str:
    """The path of a module inside another one by the name that a node tells; or nothing."""
    within, _, last = path.rpartition(".")
    if path and step.startswith(f"{last}."):  # a list tells its name again
        found = f"{within}.{step}".lstrip(".")
    else:
        found = f"{path}.{step}".lstrip(".")
    if found in modules:
        return found
    # It lies in a container, which the node does not tell.
    inside = [m for m in modules if m.startswith(path) and f".{m}".endswith(f".{step}")]
    return min(inside, key=len, default="")
