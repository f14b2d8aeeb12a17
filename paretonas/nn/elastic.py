"""The base of the elastic layers: torch's layers whose sizes may be choices."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from itertools import chain, product
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.rnn import PackedSequence
from torch.utils._pytree import tree_flatten, tree_unflatten

from .choices import mixed
from .extraction import HOOKS, Extracted, Extraction
from .sizes import Range, Size, SizeChoice, picked

Channels = int | Size
"""A number of channels or features, or a `Size`."""


class Elastic(Extracted):
    """A torch layer whose sizes may be choices: the base of the elastic layers.

    It takes the arguments of torch's layer, and a `Size` where torch takes a number. It holds the
    parameters and buffers of the largest layer, by the same names, and cuts them for each pick. A
    new kind of elastic layer says which layer it stands for, and what its parameters have along
    their axes:

    >>> class Scale(nn.Module):
    ...     def __init__(self, features):
    ...         super().__init__()
    ...         self.features = features
    ...         self.weight = nn.Parameter(torch.ones(features))
    ...
    ...     def forward(self, x):
    ...         return x * self.weight
    >>> class ElasticScale(Elastic):
    ...     layer = Scale
    ...
    ...     def axes(self, a):
    ...         return {"weight": [a["features"]]}
    ...
    ...     def inputs(self, a):
    ...         return [(a["features"], -1)]
    ...
    ...     outputs = inputs

    Attributes:
        layer: the class of the plain layer.
        arguments: its arguments by name, with sizes in them.
        leaves: the choices in these sizes, each with the name of an argument that it is in.

    Raises:
        TypeError: arguments that the plain layer does not take.
        ValueError: sizes that do not fit, such as groups that do not divide the channels.
    """

    layer: ClassVar[type[nn.Module]]
    arguments: dict[str, Any]
    leaves: dict[SizeChoice, str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__()
        arguments, initial = _bound(type(self), args, kwargs)
        self.check(arguments)
        full = self.layer(**at_most(arguments), **initial)
        self._adopt(full, arguments)
        self._drawn = {n: p.detach().clone() for n, p in self.named_parameters()}

    @staticmethod
    def of(layer: nn.Module, **sizes: Any) -> Elastic:
        """An elastic layer that takes over an existing layer, with its parameters and buffers.

        It stays of the layer's class: the own forward pass of a subclass of torch's layer is kept.

        Args:
            layer: a layer of torch that has an elastic form, or of a subclass.
            sizes: arguments of torch's layer, such as ``out_channels=width``. The largest number of
                each must be that of the layer.

        Raises:
            TypeError: the layer has no elastic form, or no such argument.
            ValueError: a size does not fit the layer, or the layer has hooks or parametrizations.
        """
        kind = kind_of(layer)
        if any(vars(layer)[hooks] for hooks in HOOKS) or is_parametrized(layer):
            raise ValueError(f"the {type(layer).__name__} has hooks or parametrizations")
        arguments = kind.arguments_of(layer)
        for name, size in sizes.items():
            if name not in arguments:
                listed = ", ".join(arguments)
                raise TypeError(f"{kind.layer.__name__} takes {listed}, and no {name!r}")
            if at_most(size) != arguments[name]:
                raise ValueError(
                    f"{name} of the {type(layer).__name__} is {arguments[name]}, and the largest "
                    f"of the size is {at_most(size)}"
                )
        elastic = kind.__new__(kind)
        nn.Module.__init__(elastic)
        elastic.check(arguments | sizes)
        elastic._adopt(layer, arguments | sizes, None if type(layer) is kind.layer else layer)
        elastic._drawn = {}
        elastic.training = layer.training
        return elastic

    @classmethod
    def signature(cls) -> inspect.Signature:
        """The arguments of the plain layer."""
        return inspect.signature(cls.layer)

    @classmethod
    def arguments_of(cls, layer: nn.Module) -> dict[str, Any]:
        """The arguments that make a layer like this one, by name, read off its attributes."""
        found = {}
        for name in cls.signature().parameters:
            if hasattr(layer, name):
                value = getattr(layer, name)
                a_flag = name == "bias" and not isinstance(value, bool)
                found[name] = value is not None if a_flag else value
        return found

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        """What each parameter and buffer has along its axes: a `Size`, or a number, never cut.

        Args:
            a: the arguments by name. A parameter of the layer's own modules has a dotted name.
        """
        raise NotImplementedError

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        """The size of each input and the axis that has it, for mixtures; further inputs have none.

        The inputs are those of the forward pass in its order, a nest of tensors one by one. A
        number in place of a size stands for an input that is not cut.

        Args:
            a: the arguments by name; in a mixture also those of the forward pass.
        """
        return ()

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        """The size of each output and the axis that has it, for mixtures, as `inputs` has them.

        A layer with one output may list several axes of it.
        """
        return ()

    def check(self, a: Mapping[str, Any]) -> None:
        """Refuse sizes that do not fit each other.

        Raises:
            ValueError: they do not.
        """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the plain layer for the current picks; in a mixture, for all of them."""
        if any(isinstance(leaf.gate, Tensor) for leaf in self.leaves):
            return self.mixture(*args, **kwargs)
        return self.run(*args, **kwargs)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the plain layer for the current picks; in a mixture, the largest one."""
        shell = self._shell()
        self._set_mode(shell.layer)
        try:
            for name, piece in self.pieces().items():
                shell.fill(name, piece)
            self.prepare(shell.layer)
            return shell.layer(*args, **kwargs)
        finally:
            shell.empty()

    def prepare(self, layer: nn.Module) -> None:
        """Set what else the plain layer needs when it has its tensors."""

    def masked(self, *args: Any, **kwargs: Any) -> Any:
        """The largest layer, each channel of its output weighed by the chance that it exists.

        This is the mixture of a layer in which no channel of the output looks at another one.
        """
        args, kwargs, a = self._called(args, kwargs)
        y = self.run(*args, **kwargs)
        return _each(Size.mask, y, self.outputs(a))

    def mixture(self, *args: Any, **kwargs: Any) -> Any:
        """The sum over all picks, each on its part of the inputs, weighed by its probability.

        So are all outputs, such as the weights of an attention. What is no floating-point tensor
        must be the same for all picks.

        Raises:
            ShapeError: it is not.
        """
        leaves = [leaf for leaf in self.leaves if isinstance(leaf.gate, Tensor)]
        gates = [leaf.chances() for leaf in leaves]
        args, kwargs, a = self._called(args, kwargs)
        ins, outs = self.inputs(a), self.outputs(a)
        chances, found = [], {}
        for picks in product(*(range(len(leaf.numbers)) for leaf in leaves)):
            chances.append(torch.stack([g[p] for g, p in zip(gates, picks, strict=True)]).prod())
            with picked(leaves, picks):
                each = self.run(*_each(_part, args, ins), **kwargs)
                numbers = (str(leaf.numbers[p]) for leaf, p in zip(leaves, picks, strict=True))
                found[", ".join(numbers)] = _each(_placed, each, outs)
        rule = f"the picks of a {type(self).__name__} must give"
        return mixed(torch.stack(chances), found, rule)

    def _called(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], Mapping[str, Any]]:
        """The arguments of a mixture's forward pass by position, and all arguments by name.

        Raises:
            TypeError: the plain layer does not take them.
        """
        kind: Any = self.layer if self._template is None else type(self._template)
        try:
            bound = _forward(kind).bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}: {error}") from None
        bound.apply_defaults()
        a = bound.arguments | self.arguments
        # What no pick has is not read: it is zero also after a function that is not zero at zero.
        return _each(Size.possible, bound.args[1:], self.inputs(a)), bound.kwargs, a

    def pieces(self) -> dict[str, Tensor]:
        """The parts of the parameters and buffers that the current picks use, by name."""
        found = {}
        for name, ranges in self._shell().ranges.items():
            whole = tensor_of(self, name)
            if whole is not None:
                found[name] = cut(whole, dict(enumerate(ranges)))
        return found

    def untouched(self) -> list[str]:
        """The parameters that still have torch's initial values; it can be called only once."""
        drawn, self._drawn = self._drawn, {}
        held = dict(self.named_parameters())
        return [n for n, d in drawn.items() if n in held and _same(held[n], d)]

    def extracted(self, memo: Extraction) -> nn.Module:
        """The plain layer for the current picks."""
        like = next(chain(self.parameters(), self.buffers()), torch.empty(0))
        layer = self._plain(like.device).to(like.dtype)
        memo[id(self)] = layer
        pieces, ranges = self.pieces(), self._shell().ranges
        wholes = {name: tensor_of(self, name) for name in pieces}
        smaller = any(piece.shape != wholes[name].shape for name, piece in pieces.items())
        for name, piece in pieces.items():
            whole = wholes[name]
            owner, _, last = name.rpartition(".")
            module = layer.get_submodule(owner)
            if isinstance(whole, nn.Parameter):
                drawn = getattr(module, last) if smaller else None
                module.register_parameter(last, memo.piece(whole, piece, drawn, ranges[name]))
            else:
                setattr(module, last, piece.detach().clone())
        for name, child in self._modules.items():
            if name not in self._cut_modules:
                layer._modules[name] = copy.deepcopy(child, memo)
        self._set_mode(layer)
        return layer

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            arguments = self.__dict__.get("arguments", {})
            if name not in arguments:
                raise
            return arguments[name]

    def _held(self) -> dict[str, Any]:
        return self.__dict__ | {"_shells": {}}  # made again when they are needed

    def __getstate__(self) -> dict[str, Any]:
        return self._held()

    def extra_repr(self) -> str:
        """The arguments that are not torch's defaults."""
        given = self.arguments.items()
        shown = ((n, v) for n, v in given if sizes_in(v) or v != _default(type(self), n))
        return ", ".join(f"{name}={value!r}" for name, value in shown)

    def _adopt(
        self, full: nn.Module, arguments: Mapping[str, Any], template: nn.Module | None = None
    ) -> None:
        """Take over the parameters, buffers and modules of the largest layer."""
        self.arguments = dict(arguments)
        self.leaves = leaves_of(arguments)
        self._parameters.update(full._parameters)
        self._buffers.update(full._buffers)
        self._modules.update(full._modules)
        self._non_persistent_buffers_set |= full._non_persistent_buffers_set
        self._parts = frozenset([*self._parameters, *self._buffers, *self._modules])
        axes = self.axes(self.arguments)
        self._cut_modules = frozenset(n.partition(".")[0] for n in axes if "." in n)
        for name, sizes in axes.items():
            for size in sizes_in(sizes):
                if size.smallest < 1:
                    raise ValueError(f"{name} of a {type(self).__name__} would be empty: {size!r}")
        bare = None if template is None else _bare(template, self._cut_modules)
        self.__dict__["_template"] = bare  # no module of this one
        self._shells: dict[tuple[int, ...], _Shell] = {}

    def _shell(self) -> _Shell:
        """The plain layer for the current picks, without tensors."""
        key = tuple(gate if isinstance(gate := leaf.gated(), int) else -1 for leaf in self.leaves)
        shell = self._shells.get(key)
        if shell is None:
            layer = self._plain(torch.device("meta"))
            for name, module in self._modules.items():
                if name not in self._cut_modules:
                    layer._modules[name] = module
            axes = self.axes(self.arguments).items()
            ranges = {name: tuple(map(kept_of, sizes)) for name, sizes in axes}
            shell = self._shells[key] = _Shell(layer, ranges)
        return shell

    def _set_mode(self, layer: nn.Module) -> None:
        layer.training = self.training
        for name in self._cut_modules:
            layer.get_submodule(name).training = self.get_submodule(name).training

    def _plain(self, device: torch.device) -> nn.Module:
        """The plain layer for the current picks; its values mean nothing."""
        if self._template is None:
            with device:
                return self.layer(**now(self.arguments))
        layer = _bare(self._template, self._cut_modules)
        for name, argument in self.arguments.items():
            if sizes_in(argument):
                setattr(layer, name, now(argument))
        return layer


def leaves_of(arguments: Mapping[str, Any]) -> dict[SizeChoice, str]:
    """The choices in arguments with sizes, each with the name of the first one that it is in."""
    leaves: dict[SizeChoice, str] = {}
    for name, argument in arguments.items():
        found = dict.fromkeys(leaf for size in sizes_in(argument) for leaf in size.leaves)
        for index, leaf in enumerate(found):
            leaves.setdefault(leaf, name if len(found) == 1 else f"{name}.{index}")
    return leaves


class _Shell:
    """A layer without tensors, which gets those of one call.

    Attributes:
        layer: the layer.
        ranges: for each parameter and buffer, what is kept along its axes; None for all.
    """

    def __init__(
        self, layer: nn.Module, ranges: Mapping[str, tuple[tuple[Range, ...] | None, ...]]
    ) -> None:
        self.layer = layer
        self.ranges = ranges
        self._owners = {}
        for name in ranges:
            owner, _, last = name.rpartition(".")
            module = layer.get_submodule(owner)
            module._parameters.pop(last, None)
            module._buffers.pop(last, None)
            # An attribute of the instance, which comes first: torch refuses a plain tensor in place
            # of a parameter, and this is faster than torch.func.functional_call.
            vars(module)[last] = None
            self._owners[name] = (vars(module), last)

    def fill(self, name: str, tensor: Tensor) -> None:
        owner, last = self._owners[name]
        owner[last] = tensor

    def empty(self) -> None:
        for owner, last in self._owners.values():
            owner[last] = None


def _bound(
    kind: type[Elastic], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments by name, and those that only matter when the largest layer is made."""
    try:
        bound = kind.signature().bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{kind.__name__}: {error}") from None
    bound.apply_defaults()
    once = {n for n in bound.arguments if n in ("device", "dtype") or n.startswith("_")}
    return (
        {name: value for name, value in bound.arguments.items() if name not in once},
        {name: value for name, value in bound.arguments.items() if name in once},
    )


@cache
def _forward(kind: type[nn.Module]) -> inspect.Signature:
    return inspect.signature(kind.forward)


def _default(kind: type[Elastic], name: str) -> Any:
    return kind.signature().parameters[name].default


def kind_of(layer: nn.Module) -> type[Elastic]:
    """The elastic form of a layer: of the nearest class above it that has one.

    Raises:
        TypeError: it has none.
    """
    kinds: dict[type, type[Elastic]] = {}
    waiting: list[type[Elastic]] = [Elastic]
    while waiting:
        found = waiting.pop().__subclasses__()
        waiting += found
        kinds |= {kind.layer: kind for kind in found if "layer" in vars(kind)}
    for above in type(layer).__mro__:
        if above in kinds:
            return kinds[above]
    raise TypeError(f"a {type(layer).__name__} has no elastic form")


def _bare(layer: nn.Module, inside: Collection[str] = ()) -> nn.Module:
    """A copy of a layer without tensors, and without modules except those named."""
    bare = copy.copy(layer)
    bare.__dict__ = dict(vars(layer))
    vars(bare)["_parameters"] = dict.fromkeys(layer._parameters)
    vars(bare)["_buffers"] = dict.fromkeys(layer._buffers)
    vars(bare)["_modules"] = {
        name: _bare(module) if name in inside and module is not None else None
        for name, module in layer._modules.items()
    }
    return bare


def sizes_in(argument: Any) -> list[Size]:
    """The sizes in an argument, which may be a list or a tuple of them."""
    if isinstance(argument, list | tuple):
        return [size for part in argument for size in sizes_in(part)]
    return [argument] if isinstance(argument, Size) else []


def _numbers(argument: Any, number: Callable[[Size], int]) -> Any:
    if isinstance(argument, Size):
        return number(argument)
    if isinstance(argument, dict):
        return {name: _numbers(part, number) for name, part in argument.items()}
    if isinstance(argument, list | tuple):
        return type(argument)(_numbers(part, number) for part in argument)
    return argument


def at_most(argument: Any) -> Any:
    """An argument with the largest number in place of each size."""
    return _numbers(argument, lambda size: size.largest)


def now(argument: Any) -> Any:
    """An argument with the number of the current pick in place of each size."""
    return _numbers(argument, int)


def kept_of(size: Any) -> tuple[Range, ...] | None:
    """What the current pick keeps along an axis; None for all, where there is no size."""
    return size.kept() if isinstance(size, Size) else None


def cut(tensor: Tensor, kept: Mapping[int, tuple[Range, ...] | None]) -> Tensor:
    """The ranges of a tensor along its axes: a view of it, if there is one range an axis."""
    for axis, ranges in kept.items():
        if ranges is None or ranges == ((0, tensor.shape[axis]),):
            continue
        parts = [tensor.narrow(axis, start, stop - start) for start, stop in ranges]
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts, axis)
    return tensor


def _each(
    function: Callable[[Size, Tensor, int], Tensor], nest: Any, places: Sequence[tuple[Any, int]]
) -> Any:
    """A nest, with a function of the size and the axis in place of each tensor that has them."""
    leaves, whole = tree_flatten(nest, is_leaf=_is_packed)
    for index, (size, axis) in enumerate(places):
        index = 0 if isinstance(nest, Tensor) else index  # a lone one may have several axes
        leaf = leaves[index] if index < len(leaves) else None
        if not isinstance(size, Size):
            continue
        if isinstance(leaf, PackedSequence):
            leaves[index] = leaf._replace(data=function(size, leaf.data, axis))
        elif isinstance(leaf, Tensor):
            leaves[index] = function(size, leaf, axis)
    return tree_unflatten(leaves, whole)


def _is_packed(value: Any) -> bool:
    return isinstance(value, PackedSequence)


def _part(size: Size, x: Tensor, axis: int) -> Tensor:
    """What the current pick keeps of an input."""
    return cut(x, {axis: size.kept()})


def _placed(size: Size, y: Tensor, axis: int) -> Tensor:
    """The output of a pick at its place in the largest output, with zeros around it."""
    parts, at, read = [], 0, 0
    shape = list(y.shape)
    for start, stop in (*size.kept(), (size.largest, size.largest)):
        if start > at:
            shape[axis] = start - at
            parts.append(y.new_zeros(shape))
        if stop > start:
            parts.append(y.narrow(axis, read, stop - start))
        at, read = stop, read + stop - start
    return parts[0] if len(parts) == 1 else torch.cat(parts, axis)


def _same(parameter: Tensor, drawn: Tensor) -> bool:
    # On the meta device, where sizes are counted, there are no values.
    return parameter.is_meta or torch.equal(parameter, drawn.to(parameter))


def tensor_of(module: nn.Module, name: str) -> Any:
    """A parameter or buffer by its name, which may be dotted: all of it; None if there is none."""
    owner, _, last = name.rpartition(".")
    module = module.get_submodule(owner) if owner else module
    return module._parameters.get(last, module._buffers.get(last))
