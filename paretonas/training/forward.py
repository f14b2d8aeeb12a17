"""A network runs without a trace: inputs, modes and generators stay as they were."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from types import CodeType, FunctionType
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_SIMPLE = (type(None), bool, int, float, str)
_KNOWN = ("torch", "numpy", "builtins", __name__.partition(".")[0])  # hold none for a network


def handed(network: nn.Module, inputs: Tensor) -> Tensor:
    """Inputs as a network is given them: a copy, which it may overwrite, in its floating type.

    The type is that of the network's first floating parameter, or buffer where it has no parameter.
    """
    held = chain(network.parameters(), network.buffers())
    dtype = next((t.dtype for t in held if t.is_floating_point()), inputs.dtype)
    return inputs.detach().to(dtype, copy=True)


def copied(network: nn.Module, memo: dict[int, Any] | None = None) -> Any:
    """A deep copy, with the results of earlier forward passes that a network keeps detached.

    Python's own refuses these: activations that are looked at later, weights under a weight norm.
    """
    memo = {} if memo is None else memo
    for module in network.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(network, memo)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The evaluation mode; every module gets its own mode back afterwards."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextmanager
def seeded(
    seed: int, *networks: nn.Module, held: Sequence[Generator] | None = None
) -> Iterator[None]:
    """All generators start from a seed, and are as they were afterwards.

    They are the global ones, of torch on the CPU and on CUDA devices in use, of `random` and of
    numpy, and those that networks hold (`held_generators`), which take a moment to find: whoever
    comes here at every step gives those `held`. Threads share them: only one at a time may be in
    here.
    """
    before = Generators.now(*networks, held=held)
    # Not torch.manual_seed, which also decides what CUDA will draw once it is in use.
    torch.default_generator.manual_seed(seed % 2**63)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed % 2**63)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    for index, (generator, _) in enumerate(before.held):
        # Each from a seed of its own: layers that drop out the same are not meant.
        _seed(generator, random.Random(f"{seed} {index}").getrandbits(62))
    try:
        yield
    finally:
        before.put_back()


@dataclass(frozen=True, eq=False)
class Generators:
    """The states at one time of the global generators, and of those that networks hold."""

    cpu: Tensor
    cuda: list[Tensor]
    python: tuple[Any, ...]
    numpy: dict[str, Any]
    held: list[tuple[Generator, Any]]

    @classmethod
    def now(cls, *networks: nn.Module, held: Sequence[Generator] | None = None) -> Generators:
        """The present states."""
        own = held_generators(*networks) if held is None else held
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        state = np.random.get_state(legacy=False)
        assert isinstance(state, dict)
        states = [(generator, _state(generator)) for generator in own]
        return cls(torch.get_rng_state(), cuda, random.getstate(), state, states)

    def put_back(self) -> None:
        """Let the generators go on from here."""
        for generator, state in self.held:
            _set_state(generator, state)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def moved(self) -> bool:
        """Whether anything was drawn since."""
        now = Generators.now()
        return not (
            torch.equal(self.cpu, now.cpu)
            and len(self.cuda) == len(now.cuda)
            and all(torch.equal(a, b) for a, b in zip(self.cuda, now.cuda, strict=True))
            and self.python == now.python
            and pickle.dumps(self.numpy) == pickle.dumps(now.numpy)
            and all(pickle.dumps(state) == pickle.dumps(_state(g)) for g, state in self.held)
        )


def held_generators(*networks: nn.Module) -> list[Generator]:
    """The generators that networks draw from and that are not global, each once.

    They are attributes of modules, or what the functions that a forward pass goes through use of
    globals, closures and defaults; one by one, or in a list, a tuple or a dict.
    """
    modules = [module for network in networks for module in network.modules()]
    values = _one_by_one(chain.from_iterable(vars(module).values() for module in modules))
    functions = [value for value in values if isinstance(value, FunctionType)]
    classes = dict.fromkeys(cls for kind in {type(m): m for m in modules} for cls in kind.__mro__)
    for cls in filter(_foreign, classes):
        functions += [f for f in map(_function, vars(cls).values()) if f is not None]
    seen = set()
    while functions:
        function = functions.pop()
        if function not in seen and _foreign(function):
            seen.add(function)
            used = _one_by_one(_used(function))
            functions += [value for value in used if isinstance(value, FunctionType)]
            values += used
    kinds = {kind for kind in set(map(type, values)) if issubclass(kind, _KINDS)}
    some = {id(value): value for value in values if type(value) in kinds}
    return [value for value in some.values() if _can_be_seeded(value)]


def _can_be_seeded(value: object) -> TypeGuard[Generator]:
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        return isinstance(state, dict) and "MT19937" in state.values()  # others have no seed
    return isinstance(value, Generator) and not isinstance(value, random.SystemRandom)


def _one_by_one(values: Iterable[object]) -> list[object]:
    """Values, those inside of lists, tuples and dicts among them, but no numbers and the like."""
    found: list[object] = []
    for value in values:
        if type(value) in _SIMPLE:
            continue
        if isinstance(value, dict):
            found += value.values()
        elif isinstance(value, (list, tuple)):
            found += value
        else:
            found.append(value)
    return found


def _foreign(part: type | FunctionType) -> bool:
    """Whether a class or a function is neither of this package nor of torch and the like."""
    return part.__module__ is None or part.__module__.partition(".")[0] not in _KNOWN


def _function(value: object) -> FunctionType | None:
    value = getattr(value, "__func__", getattr(value, "fget", value))
    return value if isinstance(value, FunctionType) else None


def _used(function: FunctionType) -> Iterator[object]:
    """Globals that a function names, what it has closed over, and defaults of its arguments."""
    codes = [function.__code__]
    for code in codes:
        codes += [inner for inner in code.co_consts if isinstance(inner, CodeType)]
        yield from (function.__globals__.get(name) for name in code.co_names)
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # empty
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()


def _state(generator: Generator) -> Any:
    match generator:
        case torch.Generator():
            return generator.get_state().numpy().tobytes()
        case np.random.Generator():
            return generator.bit_generator.state
        case np.random.RandomState():
            return generator.get_state(legacy=False)
        case _:
            return generator.getstate()


def _set_state(generator: Generator, state: Any) -> None:
    match generator:
        case torch.Generator():
            generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        case np.random.Generator():
            generator.bit_generator.state = state
        case np.random.RandomState():
            generator.set_state(state)
        case _:
            generator.setstate(state)


def _seed(generator: Generator, seed: int) -> None:
    match generator:
        case torch.Generator():
            generator.manual_seed(seed)
        case np.random.Generator():
            generator.bit_generator.state = type(generator.bit_generator)(seed).state
        case np.random.RandomState():
            generator.seed(seed % 2**32)
        case _:
            generator.seed(seed)
