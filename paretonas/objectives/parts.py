"""The parts of a supernet, which are the units of cost tables, and the costs of one architecture.

A part is a maximal module that holds at most one `OneOf` or `Depth` and not too many picks, as it
runs in the extracted network. Operations in the Python code of a larger module (``x + y`` between
two blocks) are separate parts.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from ..graph import Op, Recording, record
from ..nn import Connect, Depth, Elastic, OneOf, Resolution, Supernet
from ..nn.sizes import SizeChoice
from ..point import FAILING, FailureWarning
from ..probe import Probe
from ..space import Architecture, decode
from .operations import macs_of
from .tabulate import Hints

__all__ = ["observer"]

MOST_COMBINATIONS = 64  # combinations of picks inside one part, unless it is a single layer


@dataclass(frozen=True)
class Parts:
    """Operations, memory and parameters of one architecture's parts, by path in the supernet.

    Attributes:
        runs: the signatures of the operations that each part runs, in order.
        live: the largest number of activation bytes alive while each part runs.
        macs: the multiply-accumulates of each part.
        parameters: the number of parameters of each part.
        parameter_bytes: their bytes, with buffers.
        architecture: the architecture that ran: the requested one, or a near one if that fails.
    """

    runs: Mapping[str, tuple[str, ...]]
    live: Mapping[str, int]
    macs: Mapping[str, int]
    parameters: Mapping[str, int]
    parameter_bytes: Mapping[str, int]
    architecture: Architecture


Observe = Callable[[Architecture], Parts]

_seen: WeakKeyDictionary[Supernet, dict[object, dict[Architecture, Parts]]] = WeakKeyDictionary()


def observer(supernet: Supernet, example: Any) -> Observe:
    """A function that runs an architecture once on the example and remembers its parts.

    Only the structure counts, so the weights may change between calls. All observers of the same
    supernet and shapes of the example share one memory. An option that fails on the example is set
    aside in the supernet, with a warning; it then has the costs of the option that replaces it. If
    no single option causes the failure, a near architecture that runs is used instead.
    """
    leaves, nest = tree_flatten(example)
    key = (nest, *map(_kind, leaves))
    seen = _seen.setdefault(supernet, {}).setdefault(key, {})
    paths = frozenset(part_paths(supernet.network))

    def observe(architecture: Architecture) -> Parts:
        same = supernet.canonical(architecture)
        if same not in seen:
            try:
                seen[same] = _parts(run(same), same)
            except FAILING:
                failures, near = probe.blame(same), probe.near(same)
                for failure in failures:
                    warnings.warn(f"set aside {failure}", FailureWarning, stacklevel=2)
                    ((choice, option),) = failure.architecture.items()
                    supernet.set_aside(choice, option, failure.reason)
                if failures:
                    return observe(architecture)
                if near is None:
                    raise
                warnings.warn(
                    "the costs of architectures that do not run mean nothing",
                    FailureWarning,
                    stacklevel=2,
                )
                seen[same] = observe(near)
        return seen[same]

    def run(architecture: Architecture) -> NetworkTrace:
        return NetworkTrace.of(supernet, architecture, example, paths)

    probe = Probe(supernet, run)
    return observe


def _kind(leaf: Any) -> object:
    return (leaf.shape, leaf.dtype, leaf.device) if isinstance(leaf, Tensor) else repr(leaf)


@dataclass(frozen=True)
class NetworkTrace:
    """An extracted network, a recorded forward pass, and its modules' places in the supernet.

    Attributes:
        network: the extracted network.
        recording: its operations.
        places: the path in the supernet of every module of the network, by its path.
        owners: the part that every module of the network belongs to, by its path, or None.
    """

    network: nn.Module
    recording: Recording
    places: Mapping[str, str]
    owners: Mapping[str, str | None]

    @classmethod
    def of(
        cls,
        supernet: Supernet,
        architecture: Architecture,
        example: Any,
        paths: frozenset[str],
    ) -> NetworkTrace:
        """Extract an architecture and run it on the example."""
        network = supernet.extract(architecture)
        recording = record(network, example)
        places = dict(extracted_paths(supernet, architecture))
        owners = {
            path: _owner(places.get(path, path), paths) for path, _ in network.named_modules()
        }
        return cls(network, recording, places, owners)

    def ops(self) -> Iterator[tuple[str, Op, int]]:
        """The part, the operation, and the bytes of activations alive, in order of execution."""
        count: Counter[str] = Counter()
        live = self.recording.live()
        for op, alive in list(zip(self.recording.ops, live, strict=True))[1:]:
            part = self.owners[op.module]
            if part is None:  # the code of a larger module runs it: a separate part
                name = f"{self.places.get(op.module, op.module)}/{op.name.split('.')[-1]}"
                part = f"{name}.{count[name]}"
                count[name] += 1
            yield part, op, alive


def _owner(path: str, paths: frozenset[str]) -> str | None:
    while path and path not in paths:
        path = path.rpartition(".")[0]
    return path or None


def part_paths(network: nn.Module) -> Iterator[str]:
    """The paths of the parts in a network with choices.

    Raises:
        ValueError: the name of a module has a slash.
    """

    def visit(module: nn.Module, path: str) -> Iterator[str]:
        children = [(n, c) for n, c in module.named_children() if not _is_a_number(c)]
        choosers, sizes = _held(module)
        runs = not isinstance(module, nn.ModuleList | nn.ModuleDict)
        small = (
            len(choosers) <= 1 and prod([*choosers.values(), *sizes.values()]) <= MOST_COMBINATIONS
        )
        if path and runs and (small or not children):
            yield path
        else:
            for name, child in children:
                if "/" in name:  # it would end the path of a part
                    raise ValueError(
                        f"the name of a module must have no slash, got {name!r} in "
                        f"{path or type(network).__name__}"
                    )
                yield from visit(child, f"{path}.{name}".lstrip("."))

    return visit(network, "")


def hints(supernet: Supernet) -> Hints:
    """What the structure of a supernet tells of the costs of its parts."""
    return Hints(dependences(supernet), covering(supernet))


def dependences(supernet: Supernet) -> Callable[[str], list[list[int]]]:
    """The classes of options that a part likely depends on, by the name of the part.

    These are the choices around it, which decide whether it runs; and the choices inside it and in
    the sizes of its layers, unless it is a whole network.
    """

    def guess(part: str) -> list[list[int]]:
        classes = [[0] * len(choice.options) for choice in supernet.choices]
        path = part.partition("/")[0]
        inside = supernet.choices_in(supernet.network.get_submodule(path))
        if prod(len(classes[index]) for index in inside) <= MOST_COMBINATIONS:
            for index in inside:
                classes[index] = list(range(len(classes[index])))
        for index, picks in supernet.needs_of(path):
            # Among the picks that use it, what is inside may depend on a choice of the same name.
            kinds = [kind if pick in picks else -1 for pick, kind in enumerate(classes[index])]
            classes[index] = [sorted({*kinds}).index(kind) for kind in kinds]
        return classes

    return guess


def covering(supernet: Supernet) -> list[Architecture]:
    """Architectures in which every option is taken at least once where it has an effect."""
    rng, found = Random("covering"), []
    missing = {(i, pick) for i in range(len(supernet.choices)) for pick in supernet.left(i)}
    for index, pick in sorted(missing):
        if (index, pick) not in missing:
            continue
        drawn = [rng.choice(supernet.left(i)) for i in range(len(supernet.choices))]
        picks = supernet.reaching(index, pick, drawn)
        found.append(supernet.canonical(decode(supernet.choices, picks)))
        missing -= {*supernet.taken(found[-1])}
    return found


def _held(module: nn.Module) -> tuple[dict[object, int], dict[object, int]]:
    """The choices among modules inside a module, those among its sizes, and their options."""
    choosers: dict[object, int] = {}
    sizes: dict[object, int] = {}
    for inner in module.modules():
        if isinstance(inner, OneOf | Depth | Connect) and len(inner.option_names) > 1:
            choosers[inner.name or inner] = len(inner.option_names)
        leaves = [inner] if isinstance(inner, SizeChoice) else []
        leaves += inner.leaves if isinstance(inner, Elastic) else []
        for leaf in leaves:
            if len(leaf.numbers) > 1:
                sizes[leaf.name or leaf] = len(leaf.numbers)
    return choosers, sizes


def _is_a_number(module: nn.Module) -> bool:
    """Whether a module is only a number, and does not run."""
    return isinstance(module, SizeChoice) and not isinstance(module, Resolution)


def extracted_paths(
    supernet: Supernet, architecture: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Pairs (path in the extracted network, path in the network with choices) of every module."""

    def visit(module: nn.Module, path: str, plain: str) -> Iterator[tuple[str, str]]:
        yield plain, path
        inner = module.named_children()
        if isinstance(module, OneOf):
            option = module.option_names[module.decided()]
            yield from visit(module.options[option], f"{path}.options.{option}", plain)
            return
        if isinstance(module, Depth):
            count = module.at_least + module.decided()
            inner = ((str(i), module.blocks[i]) for i in range(count))
            path += ".blocks"
        elif isinstance(module, Connect):
            taken = module.taken[module.decided()]
            for place, index in enumerate(taken):
                own = f"{path}.blocks.{index}"
                yield from visit(module.blocks[index], own, f"{plain}.{place}".lstrip("."))
            return
        for name, child in inner:
            yield from visit(child, f"{path}.{name}".lstrip("."), f"{plain}.{name}".lstrip("."))

    with supernet.picked(architecture):
        yield from visit(supernet.network, "", "")


def places_of(
    supernet: Supernet, architecture: Architecture, parts: frozenset[str]
) -> dict[str, str]:
    """The part of each module of an extracted network, by path; outside of parts its own place."""
    pairs = extracted_paths(supernet, architecture)
    return {path: _owner(place, parts) or place for path, place in pairs}


def _parts(run: NetworkTrace, architecture: Architecture) -> Parts:
    runs: dict[str, tuple[str, ...]] = {}
    live: dict[str, int] = {}
    macs: Counter[str] = Counter()
    known: dict[str, int] = {}  # by what decides them
    for part, op, alive in run.ops():
        runs[part] = (*runs.get(part, ()), op.signature)
        live[part] = max(live.get(part, 0), alive)
        if op.signature not in known:
            known[op.signature] = macs_of(op)
        macs[part] += known[op.signature]
    parameters: Counter[str] = Counter()
    sizes: Counter[str] = Counter()

    def owner(name: str) -> str:
        path = name.rpartition(".")[0]
        return run.owners.get(path) or run.places.get(path, path)

    for name, tensor in run.network.named_parameters():
        parameters[owner(name)] += tensor.numel()
        sizes[owner(name)] += tensor.numel() * tensor.element_size()
    for name, buffer in run.network.named_buffers():
        sizes[owner(name)] += buffer.numel() * buffer.element_size()
    return Parts(runs, live, macs, parameters, sizes, architecture)
