"""A module of any class whose own tensors are cut to sizes; it keeps its class and its forward."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from ...arguments import mapped, tensors
from ..elastic import Elastic, _placed, cut, kept_of, leaves_of, now, tensor_of
from ..extraction import Extracted, Extraction
from ..sizes import Size, picked

Around = tuple[Sequence[Sequence[int | Size]], Sequence[Sequence[int | Size]]]
"""The sizes along the axes of the tensors that a module takes, and of those that it gives."""


class Cut(Elastic):
    """What a module becomes that holds tensors of its own, such as a learned position embedding.

    Its class becomes a subclass of its own class, in which these tensors, and numbers that its
    forward needs, are those of the current picks. In a mixture, its forward runs with tensors that
    are masked; or, if its sizes around are given, once for each pick.
    """

    cut_from: type[nn.Module]
    cut_axes: dict[str, Sequence[int | Size]]
    cut_around: Around | None

    @staticmethod
    def of(  # type: ignore[override]
        layer: nn.Module,
        axes: Mapping[str, Sequence[int | Size]],
        numbers: Mapping[str, Any],
        around: Around | None = None,
    ) -> Elastic:
        """The module itself, which is elastic from now on.

        Args:
            layer: the module.
            axes: for each of its own parameters and buffers that is cut, the size of each axis.
            numbers: the attributes that are sizes, or tuples with sizes in them.
            around: the size of each axis of the tensors that its forward takes and gives, if a
                mixture is the sum over all picks of the module and of the layers inside it.

        Raises:
            ValueError: the module has attributes of the names that are needed here.
        """
        if names := taken_names(layer):
            raise ValueError(
                f"the {type(layer).__name__} has its own {', '.join(map(repr, names))}, which are "
                "names that elastic layers need"
            )
        plain = type(layer)
        members: dict[str, Any] = {name: _piece(name) for name in axes}
        members |= {name: _number(name) for name in numbers}
        members |= {"cut_from": plain, "__module__": plain.__module__}
        if around is not None:
            members["forward"] = Elastic.forward
        # Its own class may have others, such as that of a parametrized module.
        members |= {"__deepcopy__": Extracted.__deepcopy__, "__getstate__": Elastic.__getstate__}
        kind = types.new_class(
            plain.__name__, (plain, Cut), exec_body=lambda body: body.update(members)
        )
        layer.__class__ = kind
        assert isinstance(layer, Cut)
        layer.cut_axes, layer.cut_around = dict(axes), around
        layer.arguments = dict(numbers)
        layer.leaves = leaves_of({**axes, **numbers, "around": around or ()})
        return layer

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The forward of its own class."""
        return self.cut_from.forward(self, *args, **kwargs)

    def mixture(self, *args: Any, **kwargs: Any) -> Any:
        """The sum over all picks, each on its part of the inputs, weighed by its probability."""
        assert self.cut_around is not None
        ins, outs = self.cut_around
        nest = [args, kwargs]
        if not _have_axes(nest, ins):  # it is called in another way than on the example
            return self.run(*args, **kwargs)
        leaves = [leaf for leaf in self.leaves if isinstance(leaf.gate, Tensor)]
        gates = [leaf.chances() for leaf in leaves]
        sums: list[Tensor] = []
        for picks in product(*(range(len(leaf.numbers)) for leaf in leaves)):
            chance = torch.stack([g[pick] for g, pick in zip(gates, picks, strict=True)]).prod()
            with picked(leaves, picks):
                given, kept = filled(nest, map(part_of, tensors(nest), ins))
                found = self.run(*given, **kept)
            if not _have_axes(found, outs):  # such as what it gives in training
                return self.run(*args, **kwargs)
            with picked(leaves, picks):
                made = [*map(whole_of, tensors(found), outs)]
            made = [chance.to(y.dtype) * y if y.is_floating_point() else y for y in made]
            pairs = zip(sums, made, strict=True)
            sums = [a + b if b.is_floating_point() else b for a, b in pairs] if sums else made
        return filled(found, iter(sums))

    def pieces(self) -> dict[str, Tensor]:
        """The tensors of the current picks."""
        return {name: getattr(self, name) for name in self.cut_axes}

    def untouched(self) -> list[str]:
        """None: the tensors were given."""
        return []

    def refuse_changes(self, path: str) -> None:
        """Nothing is lost: the module keeps its class."""

    def extra_repr(self) -> str:
        return ""

    def extracted(self, memo: Extraction) -> nn.Module:
        """The module with its own class again, and with the tensors of the current picks."""
        plain = self.cut_from.__new__(self.cut_from)
        memo[id(self)] = plain
        state = dict(vars(self))
        for name in ("cut_axes", "cut_around", "arguments", "leaves"):
            del state[name]
        for holder in ("_parameters", "_buffers"):  # whole tensors are not copied first
            state[holder] = {n: None if n in self.cut_axes else t for n, t in state[holder].items()}
        plain.__dict__.update({name: copy.deepcopy(value, memo) for name, value in state.items()})
        for name, axes in self.cut_axes.items():
            ranges = tuple(map(kept_of, axes))
            whole = tensor_of(self, name)
            piece = cut(whole, dict(enumerate(ranges)))
            if isinstance(whole, nn.Parameter):
                plain._parameters[name] = memo.piece(whole, piece, None, ranges)
            else:
                plain._buffers[name] = piece.detach().clone()
        for name, number in self.arguments.items():
            vars(plain)[name] = now(number)
        return plain


def taken_names(layer: nn.Module) -> list[str]:
    """The attributes of a module that would be in the way of those of a `Cut`."""
    needed = {"arguments", "leaves", *(name for name in vars(Cut) if not name.startswith("__"))}
    return sorted(name for name in needed - {*dir(nn.Module)} if hasattr(layer, name))


def part_of(x: Tensor, axes: Sequence[int | Size]) -> Tensor:
    """A copy of what the current picks keep of a tensor."""
    return cut(x, dict(enumerate(map(kept_of, axes)))).clone()


def whole_of(y: Tensor, axes: Sequence[int | Size]) -> Tensor:
    """A tensor of the current picks at its place in the largest one, with zeros around it."""
    for axis, size in enumerate(axes):
        y = _placed(size, y, axis) if isinstance(size, Size) else y
    return y


def filled(nest: Any, values: Iterator[Tensor]) -> Any:
    """A nest with other tensors in place of its own."""
    return mapped(lambda _: next(values), nest)


def _have_axes(nest: Any, axes: Sequence[Sequence[int | Size]]) -> bool:
    return [tensor.ndim for tensor in tensors(nest)] == [*map(len, axes)]


def _piece(name: str) -> property:
    def get(self: Cut) -> Tensor:
        whole: Tensor = tensor_of(self, name)
        for axis, size in enumerate(self.cut_axes[name]):
            if isinstance(size, Size):
                masked = size.mask(whole, axis)
                whole = cut(whole, {axis: size.kept()}) if masked is whole else masked
        return whole

    return property(get, lambda self, value: nn.Module.__setattr__(self, name, value))


def _number(name: str) -> property:
    return property(lambda self: now(self.arguments[name]))
