"""One forward pass of any network as a list of steps, with shapes in place of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from ...arguments import call, tensors
from ...forward import evaluating, handed, seeded

WHOLE = (nn.RNNBase, nn.MultiheadAttention)  # modules whose forward is recorded as one step
_WHOLE_NAMES = {kind.__name__ for kind in WHOLE}


@dataclass(frozen=True)
class Held:
    """A tensor of a recorded step.

    Attributes:
        index: the same for the same tensor.
        shape: its shape.
        mask: whether its values are true or false.
    """

    index: int
    shape: tuple[int, ...]
    mask: bool = False


@dataclass(frozen=True)
class Operation:
    """An operation that ran.

    Attributes:
        name: torch's name, without the overload; an operation in place has its plain name.
        arguments: all arguments by name, defaults included, with `Held` in place of tensors; what
            torch calls self is called input.
        results: the tensors that it gave.
        module: the path of the innermost module whose forward ran it.
        pointwise: whether torch says that each result depends on the inputs at its position only.
    """

    name: str
    arguments: dict[str, Any]
    results: tuple[Held, ...]
    module: str
    pointwise: bool

    @property
    def tensors(self) -> list[Held]:
        """The tensors among the arguments, in order."""
        return [leaf for leaf in tree_leaves(self.arguments) if isinstance(leaf, Held)]


@dataclass(frozen=True)
class Call:
    """A call of a module: the tensors that it was given and that it gave, in order."""

    given: tuple[Held, ...]
    made: tuple[Held, ...]


@dataclass(frozen=True)
class ForwardPass:
    """A recorded forward pass.

    Attributes:
        steps: the operations in the order they ran.
        held: the floating parameters and buffers that were used, by name, in the order of first
            use. A shared tensor has its first name.
        read: the paths of modules whose tensors are used by a module around them.
        outputs: the tensors that the network gives.
        calls: for each module that was called, by its path, each call of it.
    """

    steps: tuple[Operation, ...]
    held: dict[str, Held]
    read: frozenset[str]
    outputs: tuple[Held, ...]
    calls: dict[str, list[Call]]


def recorded(network: nn.Module, example: Any) -> ForwardPass:
    """Run a network once on an example, in evaluation mode, and record each operation.

    If it has parameters that are not used so, such as those of an auxiliary head, then a pass in
    training mode follows, where the network runs so. The network's mode and torch's random
    generators are restored afterwards.
    """
    recorder = _Recorder()
    names: dict[int, str] = {}
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if tensor.is_floating_point() or tensor.is_complex():
            names[recorder.held(tensor).index] = name
    outputs = _pass(network, example, recorder, training=False)
    calls, steps = recorder.calls, len(recorder.steps)
    used, read = _used(recorder.steps, names)
    if any(name not in used for name, _ in network.named_parameters()):
        recorder.calls, recorder.stack = {}, [""]
        try:
            outputs += _pass(network, example, recorder, training=True)
            calls = {**recorder.calls, **calls}
        except Exception:  # of whatever kind, such as a batch of one for a batch norm
            del recorder.steps[steps:]
        used, read = _used(recorder.steps, names)
    return ForwardPass(tuple(recorder.steps), used, read, tuple(outputs), calls)


def _pass(network: nn.Module, example: Any, recorder: _Recorder, *, training: bool) -> list[Held]:
    """Record a pass; the tensors that the network gives."""
    inputs = handed(network, example)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation for a whole layer
    try:
        with evaluating(network), seeded(0, network), torch.no_grad():
            network.train(training)
            with _watching(network, recorder), recorder:
                output = call(network, inputs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return [*map(recorder.held, tensors(output))]


def _used(
    steps: Sequence[Operation], names: Mapping[int, str]
) -> tuple[dict[str, Held], frozenset[str]]:
    """The parameters and buffers that are used, and the modules whose tensors others use."""
    used: dict[str, Held] = {}
    read = set[str]()
    for step in steps:
        for held in step.tensors:
            if held.index in names:
                used.setdefault(names[held.index], held)
                owner = names[held.index].rpartition(".")[0]
                around = owner.startswith(f"{step.module}.") if step.module else owner
                if around and step.name not in _WHOLE_NAMES:
                    read.add(owner)
    return used, frozenset(read)


class _Recorder(TorchDispatchMode):
    """Records every operation that reaches torch's kernels; keeps all tensors for their ids."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Operation] = []
        self.stack = [""]
        self.inside = 0  # how many modules are running that are recorded as a whole
        self.calls: dict[str, list[Call]] = {}
        self._kept: dict[int, tuple[Tensor, Held]] = {}
        self._indices = count()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler here: seconds, for nothing

    def held(self, tensor: Tensor) -> Held:
        if id(tensor) not in self._kept:
            self._renew(tensor)
        return self._kept[id(tensor)][1]

    def _renew(self, tensor: Tensor) -> None:
        mask = tensor.dtype is torch.bool
        self._kept[id(tensor)] = tensor, Held(next(self._indices), tuple(tensor.shape), mask)

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.inside:
            return func(*args, **kwargs)
        schema = func._schema
        arguments = {}
        for place, argument in enumerate(schema.arguments):
            value = (
                args[place]
                if place < len(args)
                else kwargs.get(argument.name, argument.default_value)
            )
            named = "input" if argument.name == "self" else argument.name
            arguments[named] = self.all_held(value)
        result = func(*args, **kwargs)
        name = schema.name.partition("::")[2]
        if name.endswith("_") and not name.endswith("__"):
            name = name[:-1]
            for tensor in tensors(args[:1]):  # a view in place has a new shape
                self._renew(tensor)
        results = tuple(self.held(t) for t in tree_leaves(result) if isinstance(t, Tensor))
        pointwise = torch.Tag.pointwise in func.tags
        self.steps.append(Operation(name, arguments, results, self.stack[-1], pointwise))
        return result

    def all_held(self, nest: Any) -> Any:
        return tree_map(lambda v: self.held(v) if isinstance(v, Tensor) else v, nest)

    def each_held(self, nest: Any) -> tuple[Held, ...]:
        return tuple(map(self.held, tensors(nest)))

    def whole(self, module: nn.Module, given: tuple[Held, ...], made: tuple[Held, ...]) -> None:
        """Record a module that ran as one step."""
        if self.inside:
            return
        named = chain(module.named_parameters(), module.named_buffers())
        own = {name: self.held(tensor) for name, tensor in named}
        arguments = {"layer": module, "given": given, "own": own}
        name = next(kind.__name__ for kind in WHOLE if isinstance(module, kind))
        self.steps.append(Operation(name, arguments, made, self.stack[-1], False))


@contextmanager
def _watching(network: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Keep the path of the running module on top of the stack, and record what goes in and out."""
    given: list[tuple[Held, ...]] = []

    def enter(module: nn.Module, args: Any, kwargs: Any, path: str) -> None:
        recorder.stack.append(path)
        given.append(recorder.each_held([args, kwargs]))
        recorder.inside += isinstance(module, WHOLE)

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any, path: str) -> None:
        recorder.stack.pop()
        taken, made = given.pop(), recorder.each_held(output)
        recorder.calls.setdefault(path, []).append(Call(taken, made))
        if isinstance(module, WHOLE):
            recorder.inside -= 1
            recorder.whole(module, taken, made)

    with ExitStack() as hooks:
        for path, module in network.named_modules():
            before = partial(enter, path=path)
            after = partial(leave, path=path)
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after, with_kwargs=True).remove)
        yield
