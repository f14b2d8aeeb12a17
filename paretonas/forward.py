"""Run a network without side effects on inputs, modes and random generators."""

from __future__ import annotations

import copy
import gc
import pickle
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from .arguments import mapped, moved, tensors

Generator = torch.Generator | np.random.Generator | np.random.RandomState | random.Random
_KINDS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_SIMPLE = (type(None), bool, int, float, str)
_KNOWN = ("torch", "numpy", "pandas", "PIL", "builtins", __name__.partition(".")[0])  # hold none
_NESTS = (list, tuple, dict)
_EMPTY = (list, dict, set, OrderedDict)
_MANY = 1000  # entries of a list, a tuple or a dict of a data set that are searched for generators


def handed(network: nn.Module, inputs: Any) -> Any:
    """A copy of inputs for a network, which may overwrite it, on the network's device.

    Floating tensors get the network's floating type: that of its first floating parameter, or
    buffer if it has no parameter. Integers, such as token ids, keep their type.

    Args:
        network: the network.
        inputs: a tensor, or any nest of tensors.
    """
    held = [t for t in chain(network.parameters(), network.buffers()) if not t.is_complex()]
    floating = next((t for t in held if t.is_floating_point()), None)
    if floating is None:
        return mapped(lambda t: t.detach().clone(), inputs)
    dtype, device = floating.dtype, floating.device

    def hand(tensor: Tensor) -> Tensor:
        kind = dtype if tensor.is_floating_point() else tensor.dtype
        return tensor.detach().to(kind, copy=True)  # a packed sequence keeps some on the CPU

    return mapped(hand, moved(inputs, device))


def device_of(network: nn.Module) -> torch.device:
    """The device of the first parameter or buffer; the CPU if there is none."""
    held = chain(network.parameters(), network.buffers())
    return next((tensor.device for tensor in held), torch.device("cpu"))


def copied(
    network: nn.Module,
    memo: dict[int, Any] | None = None,
    modules: Iterable[nn.Module] | None = None,
) -> Any:
    """A deep copy of a network; tensors of earlier forward passes that it keeps are detached.

    Python's own deep copy refuses such tensors: kept activations, or weights under a weight norm.

    Args:
        network: the network.
        memo: of the deep copy.
        modules: what of the network the deep copy will copy; all by default.
    """
    memo = {} if memo is None else memo
    for module in network.modules() if modules is None else modules:
        for name, value in vars(module).items():
            if type(value) in _EMPTY and not value:
                memo[id(value)] = type(value)()  # at once: a module has a dozen of them
            elif name != "_modules" and (isinstance(value, Tensor) or type(value) in _NESTS):
                flat = name in ("_parameters", "_buffers")
                for tensor in value.values() if flat else tensors(value):
                    if not (tensor is None or tensor.is_leaf or id(tensor) in memo):
                        memo[id(tensor)] = tensor.detach().clone()
    with without_collection():
        return copy.deepcopy(network, memo)


@contextmanager
def without_collection() -> Iterator[None]:
    """Python does not look for unreachable objects, which takes half the time of a deep copy."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def running_paths(network: nn.Module, stack: list[str]) -> AbstractContextManager[None]:
    """Keep the path of the running module on top of the stack."""
    return around_modules(network, stack.append, stack.pop)


@contextmanager
def around_modules(
    network: nn.Module, enter: Callable[[str], object], leave: Callable[[], object]
) -> Iterator[None]:
    """Call a function with the path of each module before it runs, and another one after it."""

    # What a hook returns would replace the input or the output.
    def before(path: str) -> None:
        enter(path)

    def after(*_: Any) -> None:
        leave()

    hooks = []
    for path, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, path=path: before(path)))
        hooks.append(module.register_forward_hook(after))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def seeded(
    seed: int, *networks: nn.Module, held: Sequence[Generator] | None = None
) -> Iterator[None]:
    """Seed all random generators, and restore their states afterwards.

    These are the global generators, of torch on the CPU and on the CUDA devices in use, of `random`
    and of numpy, and the generators of networks (`held_generators`). Finding the latter takes some
    time, so a caller at every step passes them as `held`. Threads share the generators, so only one
    thread at a time may use this.
    """
    before = Generators.now(*networks, held=held)
    # Not torch.manual_seed, which also seeds CUDA if it is used later.
    torch.default_generator.manual_seed(seed % 2**63)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed % 2**63)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_each([generator for generator, _ in before.held], seed)
    try:
        yield
    finally:
        before.put_back()


def seed_each(generators: Iterable[Generator], seed: int) -> None:
    """Seed generators differently, so that no two dropout layers draw the same mask."""
    for index, generator in enumerate(generators):
        _seed(generator, random.Random(f"{seed} {index}").getrandbits(62))


@dataclass(frozen=True, eq=False)
class Generators:
    """The states of the global generators, and of the generators of networks, at one time."""

    cpu: Tensor
    cuda: list[Tensor]
    python: tuple[Any, ...]
    numpy: dict[str, Any]
    held: list[tuple[Generator, Any]]

    @classmethod
    def now(cls, *networks: nn.Module, held: Sequence[Generator] | None = None) -> Generators:
        """The current states."""
        own = held_generators(*networks) if held is None else held
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        state = np.random.get_state(legacy=False)
        assert isinstance(state, dict)
        states = [(generator, _state(generator)) for generator in own]
        return cls(torch.get_rng_state(), cuda, random.getstate(), state, states)

    def put_back(self) -> None:
        """Restore these states."""
        for generator, state in self.held:
            _set_state(generator, state)
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(self.cuda)
        random.setstate(self.python)
        np.random.set_state(self.numpy)

    def moved(self) -> bool:
        """Whether a generator has been used since."""
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
    """The generators of networks that are not global, each once.

    They are attributes of modules, or globals, closure variables and default arguments of the
    functions of a forward pass; alone, or in a list, a tuple or a dict.
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


def generators_inside(*owners: object) -> list[Generator]:
    """The generators that data sets, samplers and functions hold, each once.

    They are looked for in attributes, in lists, tuples and dicts (in their first thousand entries),
    and in what functions and methods use, at any depth.
    """
    found: dict[int, object] = {}
    waiting = list(owners)
    while waiting and len(found) < 100 * _MANY:
        value = waiting.pop()
        if type(value) not in _SIMPLE and id(value) not in found:
            found[id(value)] = value
            waiting += _inside(value)
    return [
        value for value in found.values() if isinstance(value, _KINDS) and _can_be_seeded(value)
    ]


def _inside(value: object) -> Iterator[object]:
    """What a value holds or uses."""
    match value:
        case Tensor() | np.ndarray() | ModuleType() | type():
            return
        case dict():
            yield from islice(value.values(), _MANY)
        case list() | tuple():
            yield from islice(value, _MANY)
        case FunctionType():
            if _foreign(value):
                yield from _used(value)
        case MethodType():
            yield from (value.__self__, value.__func__)
        case partial():
            yield from (value.func, value.args, value.keywords)
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict):
        yield from attributes.values()
    for cls in type(value).__mro__:
        if _foreign(cls):
            yield from (getattr(value, name, None) for name in _slots(cls))
            yield from filter(None, map(_function, vars(cls).values()))


def _slots(cls: type) -> tuple[str, ...]:
    names = vars(cls).get("__slots__", ())
    return (names,) if isinstance(names, str) else tuple(names)


def _can_be_seeded(value: object) -> TypeGuard[Generator]:
    if isinstance(value, np.random.RandomState):
        state = value.get_state(legacy=False)
        return isinstance(state, dict) and "MT19937" in state.values()  # others cannot be seeded
    return isinstance(value, Generator) and not isinstance(value, random.SystemRandom)


def _one_by_one(values: Iterable[object]) -> list[object]:
    """Values, and those inside lists, tuples and dicts; numbers, text and the like are left out."""
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
    """Whether a class or function belongs neither to this package nor to torch and the like."""
    return part.__module__ is None or part.__module__.partition(".")[0] not in _KNOWN


def _function(value: object) -> FunctionType | None:
    value = getattr(value, "__func__", getattr(value, "fget", value))
    return value if isinstance(value, FunctionType) else None


def _used(function: FunctionType) -> Iterator[object]:
    """The globals, closure variables and default arguments that a function uses."""
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
