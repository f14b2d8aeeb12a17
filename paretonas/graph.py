"""The graph of the operations that a network executes, with shapes, bytes and lifetimes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .arguments import call
from .forward import evaluating, handed, running_paths, seeded

__all__ = ["network_graph", "peak_memory"]

INPUT = 0  # the node that stands for the network's input, with all its tensors


def network_graph(network: nn.Module, example: Any) -> nx.DiGraph[int]:
    """The operations of one forward pass in evaluation mode, in the order they run.

    Any Python forward works. The network runs once on `example`, a tensor or any nest of tensors
    (a tuple for positional arguments, a dict for keyword arguments), and every operation that
    reaches torch's kernels is a node. It has an edge from each operation whose result it reads.
    Node 0 is the input, all its tensors together. All attributes are scalars, so that the graph can
    be written as GraphML:

    - ``op``: the name, such as ``"aten.convolution"``; ``module``: the path of the module whose
      forward ran it; ``order``: its position in time; ``shape``: the shape of its first result,
      such as ``"1x8x14x14"``
    - ``storage``: the memory that holds its first result; views and in-place results share it
    - ``allocated``: the bytes of its results that are in new memory
    - ``freed``: the bytes that no later operation reads
    - of the whole graph: ``parameters`` (their number) and ``parameter_bytes`` (with buffers)
    """
    recording = record(network, example)
    graph: nx.DiGraph[int] = nx.DiGraph(
        parameters=recording.parameters, parameter_bytes=recording.parameter_bytes
    )
    born, last = recording.lifetimes()
    for order, op in enumerate(recording.ops):
        graph.add_node(
            order,
            op=op.name,
            module=op.module,
            order=order,
            shape="x".join(map(str, op.shape)),
            storage=op.storage,
            allocated=sum(size for s, size in recording.bytes.items() if born[s] == order),
            freed=sum(size for s, size in recording.bytes.items() if last[s] == order),
        )
        graph.add_edges_from((source, order) for source in op.sources)
    return graph


def peak_memory(graph: nx.DiGraph[int]) -> int:
    """The largest number of bytes alive at once: parameters, buffers and live activations.

    The order is the executed one. A result is alive from the operation that makes it until the
    last one that reads it or a view of it. The input and the output belong to the caller and stay
    alive to the end. An exported program does the same. Eager Python may keep some results longer,
    while a local variable or an argument refers to them. Two things are not counted: memory that a
    kernel allocates while it runs (such as an unfolded copy of a convolution's input), and
    by-products that nothing reads (such as the indices of max-pooling).
    """
    live = peak = 0
    for node in sorted(graph):
        live += graph.nodes[node]["allocated"]
        peak = max(peak, live)
        live -= graph.nodes[node]["freed"]
    return int(graph.graph["parameter_bytes"]) + peak


@dataclass(frozen=True)
class Op:
    """An operation that ran.

    Attributes:
        name: torch's name, without the overload.
        module: the path of the innermost module whose forward ran it.
        shape: the shape of the first result.
        storage: the storage that holds the first result.
        sources: the operations whose results it reads.
        uses: every storage that it reads or writes.
        signature: everything that decides its cost: name, shapes, strides, plain arguments.
        call: the operation itself, with its arguments.
    """

    name: str
    module: str
    shape: tuple[int, ...]
    storage: int
    sources: tuple[int, ...]
    uses: frozenset[int]
    signature: str
    call: tuple[Any, tuple[Any, ...], dict[str, Any]] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Recording:
    """One forward pass: its operations in order, and the bytes of every storage they touch."""

    ops: tuple[Op, ...]
    bytes: dict[int, int]  # of activations only
    held: frozenset[int]  # storages that outlive the pass: input, output, constants
    parameters: int
    parameter_bytes: int

    def lifetimes(self) -> tuple[dict[int, int], dict[int, int]]:
        """For each storage, the first and the last operation that touch it."""
        born: dict[int, int] = {}
        last: dict[int, int] = {}
        for order, op in enumerate(self.ops):
            for storage in op.uses:
                born.setdefault(storage, order)
                last[storage] = order
        for storage in self.held:
            last[storage] = len(self.ops)  # after the last one
        return born, last

    def live(self) -> list[int]:
        """The bytes of activations alive while each operation runs."""
        born, last = self.lifetimes()
        change = [0] * (len(self.ops) + 2)
        for storage, size in self.bytes.items():
            change[born[storage]] += size
            change[last[storage] + 1] -= size
        alive, total = [], 0
        for step in change[: len(self.ops)]:
            total += step
            alive.append(total)
        return alive


def record(network: nn.Module, example: Any) -> Recording:
    """Run a network once, in evaluation mode and without gradients, and record its operations.

    The pass is a real one, on the same path through the network as a latency measurement. At the
    batch size of such a measurement it is faster than torch's meta device, whose kernels are
    written in Python (1.5 ms against 21 ms for the default space). The network's mode and torch's
    random generators are restored afterwards; the example is copied.

    Raises:
        TypeError: `example` holds no tensor.
    """
    inputs = handed(network, example)
    given = list(_tensors(tree_leaves(inputs)))
    if not given:
        raise TypeError(
            f"the example must be a tensor, got {type(example).__name__}, which is no nest of "
            "tensors either"
        )
    held = [*network.parameters(), *network.buffers()]
    recorder = _Recorder(held, given)
    with (
        evaluating(network),
        seeded(0, network),
        torch.no_grad(),
        running_paths(network, recorder.stack),
        recorder,
    ):
        output = call(network, inputs)
    recorder.held.update(recorder.storage(t) for t in _tensors(tree_leaves(output)))
    reads = Counter(storage for op in recorder.ops for storage in op.uses)
    for storage in recorder.extra - recorder.held:
        if reads[storage] == 1:  # a by-product that nothing reads, such as max-pooling's indices
            recorder.bytes[storage] = 0
    return Recording(
        tuple(recorder.ops),
        recorder.bytes,
        frozenset(recorder.held & recorder.bytes.keys()),
        sum(p.numel() for p in network.parameters()),
        sum(t.numel() * t.element_size() for t in held),
    )


class _Recorder(TorchDispatchMode):
    """Records every operation before its kernel runs; keeps all results so that ids stay unique."""

    def __init__(self, parameters: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.stack = [""]
        self.kept: list[Any] = [parameters, inputs]
        self.ids: dict[int, int] = {}  # id of a storage in memory -> our number
        self.parameters = {self.storage(p) for p in parameters}
        self.bytes = {self.storage(t): t.numel() * t.element_size() for t in inputs}
        self.held = set(self.bytes)
        self.extra: set[int] = set()  # new storages that are not an operation's first result
        self.made = {id(t): INPUT for t in inputs}  # tensor -> the op that made it
        self.written: dict[int, int] = {}  # storage -> the op that wrote it last
        shape, source = tuple(inputs[0].shape), self.storage(inputs[0])
        uses = frozenset(self.bytes)
        self.ops = [Op("input", "", shape, source, (), uses, "", (None, (), {}))]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler here: seconds, for nothing

    def storage(self, tensor: Tensor) -> int:
        return self.ids.setdefault(tensor.untyped_storage()._cdata, len(self.ids))

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = list(_tensors([*args, *kwargs.values()]))
        outputs = list(_tensors([result]))
        self.kept.append((inputs, outputs))
        known = self.bytes.keys() | self.parameters
        for tensor in inputs:
            if self.storage(tensor) not in known:  # a constant: it outlives the pass
                self.bytes[self.storage(tensor)] = tensor.numel() * tensor.element_size()
                self.held.add(self.storage(tensor))
        fresh = [t for t in outputs if self.storage(t) not in known]
        touched = {self.storage(t) for t in [*inputs, *outputs]} - self.parameters
        if not touched or (not inputs and not any(t.numel() for t in outputs)):
            return result  # a view of weights, or an empty placeholder such as batch norm makes
        order = len(self.ops)
        read = {self.storage(t) for t in inputs} - self.parameters
        sources = {self.made[id(t)] for t in inputs if id(t) in self.made}
        sources |= {self.written[s] for s in read if s in self.written}
        for tensor in fresh:
            self.bytes[self.storage(tensor)] = tensor.untyped_storage().nbytes()
        self.extra.update(self.storage(t) for t in fresh if t is not outputs[0])
        written = [
            value
            for argument, value in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        for tensor in _tensors(written):
            self.written[self.storage(tensor)] = order
        for tensor in outputs:
            self.made[id(tensor)] = order
        self.ops.append(
            Op(
                name=func._schema.name.replace("::", "."),
                module=self.stack[-1],
                shape=tuple(outputs[0].shape) if outputs else (),
                storage=self.storage(outputs[0]) if outputs else -1,
                sources=tuple(sorted(sources - {order})),
                uses=frozenset(touched),
                signature=f"{func}({_describe([*args, *sorted(kwargs.items())])})",
                call=(func, args, kwargs),
            )
        )
        return result


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def _describe(values: Iterable[Any]) -> str:
    parts = []
    for value in values:
        if isinstance(value, Tensor):
            kind = str(value.dtype).removeprefix("torch.")
            parts.append(f"{kind}{list(value.shape)}/{list(value.stride())}")
        elif isinstance(value, list | tuple):
            parts.append(f"[{_describe(value)}]")
        else:
            parts.append(repr(value))
    return ", ".join(parts)
