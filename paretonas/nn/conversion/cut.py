"""A module of any class whose own tensors are cut to sizes; it keeps its class and its forward."""

from __future__ import annotations

import copy
import types
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ..elastic import Elastic, cut, kept_of, leaves_of, now, tensor_of
from ..extraction import Extracted, Extraction
from ..sizes import Size


class Cut(Elastic):
    """What a module becomes that holds tensors of its own, such as a learned position embedding.

    Its class becomes a subclass of its own class, in which these tensors, and numbers that its
    forward needs, are those of the current picks.
    """

    cut_from: type[nn.Module]
    cut_axes: dict[str, Sequence[int | Size]]

    @staticmethod
    def of(  # type: ignore[override]
        layer: nn.Module,
        axes: Mapping[str, Sequence[int | Size]],
        numbers: Mapping[str, Any],
    ) -> Elastic:
        """The module itself, which is elastic from now on.

        Args:
            layer: the module.
            axes: for each of its own parameters and buffers that is cut, the size of each axis.
            numbers: the attributes that are sizes, or tuples with sizes in them.
        """
        plain = type(layer)
        members: dict[str, Any] = {name: _piece(name) for name in axes}
        members |= {name: _number(name) for name in numbers}
        members |= {"cut_from": plain, "__module__": plain.__module__}
        # Its own class may have others, such as that of a parametrized module.
        members |= {"__deepcopy__": Extracted.__deepcopy__, "__getstate__": Elastic.__getstate__}
        kind = types.new_class(
            plain.__name__, (plain, Cut), exec_body=lambda body: body.update(members)
        )
        layer.__class__ = kind
        assert isinstance(layer, Cut)
        layer.cut_axes = dict(axes)
        layer.arguments = dict(numbers)
        layer.leaves = leaves_of({**axes, **numbers})
        return layer

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
        for name in ("cut_axes", "arguments", "leaves"):
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
