"""Extract one architecture from a network with choices: a deep copy with all choices decided.

Python's deep copy preserves sharing: tied parameters, a module used in two places, an attribute
that refers to another module. So only choices and elastic layers need code of their own; all other
modules are copied as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from types import CellType, FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from ..forward import copied

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_WITHOUT_PARTS = (type(None), bool, int, float, str)


class Extraction(dict[int, Any]):
    """The memo of a deep copy that extracts an architecture from a network.

    Args:
        network: the network to copy; the gates decide its choices.
        untouched: ids of parameters whose smaller pieces are initialized again instead of copied.
    """

    def __init__(self, network: nn.Module, untouched: Collection[int] = ()) -> None:
        super().__init__()
        self._network = network
        self._untouched = untouched
        self._pieces: dict[tuple[int, object, torch.Size], nn.Parameter] = {}
        self._modules = [*network.modules()]
        held = (chain(m._parameters.values(), m._buffers.values()) for m in self._modules)
        self._held = {id(part) for part in chain(self._modules, *held) if part is not None}

    def plain(self) -> nn.Module:
        """The architecture, with copies of the weights.

        Raises:
            ValueError: layers that share a parameter take different pieces of it.
        """
        plain: nn.Module = self.copy_of(self._network)
        for module in self._modules:
            twin = self.get(id(module))
            if type(twin) is type(module):
                for name, child in module._modules.items():
                    if child is not None and not isinstance(twin._modules[name], nn.Module):
                        number = twin._modules.pop(name)  # of a size
                        if isinstance(name, str) and name.isidentifier():
                            vars(twin)[name] = number
        for module in plain.modules():
            for owner in (vars(module), *(vars(module)[hooks] for hooks in HOOKS)):
                may = {name: v for name, v in owner.items() if not isinstance(v, _WITHOUT_PARTS)}
                owner.update({name: self._anew(value) for name, value in may.items()})
        self._refuse_torn_parameters()
        return plain

    def copy_of(self, module: nn.Module) -> Any:
        """The copy of a module, with the choices inside it decided."""
        return copied(module, self, _outside_choices(module))

    def piece(
        self, whole: nn.Parameter, piece: Tensor, drawn: Tensor | None, ranges: object
    ) -> nn.Parameter:
        """The copy of a piece of a parameter; layers that take the same piece share the copy.

        Args:
            whole: the parameter.
            piece: the piece of its values.
            drawn: newly initialized values of the same shape, for an untouched parameter.
            ranges: where the piece is in the parameter.
        """
        if drawn is None or id(whole) not in self._untouched:
            drawn = piece
        if drawn is piece and piece.shape == whole.shape:
            full: nn.Parameter = copy.deepcopy(whole, self)
            return full
        key = (id(whole), ranges, piece.shape)
        if key not in self._pieces:
            value = drawn.detach().clone()
            self._pieces[key] = nn.Parameter(value, requires_grad=whole.requires_grad)
        return self._pieces[key]

    def _refuse_torn_parameters(self) -> None:
        for whole in {whole for whole, *_ in self._pieces}:
            count = sum(key[0] == whole for key in self._pieces)
            if count + (whole in self) > 1:
                named = self._network.named_parameters(remove_duplicate=False)
                names = [repr(name) for name, p in named if id(p) == whole]
                raise ValueError(
                    "layers that share a parameter must take the same piece of it, but this "
                    f"architecture takes different pieces of {' = '.join(names)}: give the layers "
                    "the same Width, or separate parameters"
                )

    def _anew(self, value: Any) -> Any:
        """A copy of a function that refers to parts of the network, with the copies of these parts.

        They are closure variables or default arguments. Python's deep copy does not copy functions,
        so a hook would continue to use the old weights.
        """
        if id(value) in self._held or any(id(part) in self._held for part in _parts(value)):
            return copy.deepcopy(value, self)
        if not isinstance(value, FunctionType) or id(value) in self:
            return self.get(id(value), value)
        self[id(value)] = value  # for a function whose closure contains itself
        cells, defaults = value.__closure__ or (), value.__defaults__ or ()
        keywords = value.__kwdefaults__ or {}
        old = [*map(_content, cells), *defaults, *keywords.values()]
        new = [self._anew(content) for content in old]
        if all(a is b for a, b in zip(old, new, strict=True)):
            return value
        rest = iter(new)
        closure = [
            cell if _content(cell) is b else CellType(b)
            for cell, b in zip(cells, islice(rest, len(cells)), strict=True)
        ]
        bound = FunctionType(
            value.__code__,
            value.__globals__,
            value.__name__,
            tuple(islice(rest, len(defaults))),
            tuple(closure),
        )
        bound.__kwdefaults__ = dict(zip(keywords, rest, strict=True))
        bound.__dict__.update(value.__dict__)
        self[id(value)] = bound
        return bound


def _outside_choices(module: nn.Module) -> Iterator[nn.Module]:
    """The modules inside a module, without those among which a choice decides."""
    yield module
    among = module._parts if isinstance(module, Extracted) else ()
    for name, child in module._modules.items():
        if child is not None and name not in among:
            yield from _outside_choices(child)


def _parts(value: object) -> Iterable[object]:
    match value:
        case MethodType():
            return (value.__self__,)
        case partial():
            return (*value.args, *value.keywords.values())
        case dict():
            return value.values()
        case list() | tuple():
            return value
        case _:
            return ()


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # empty
        return None


class Extracted(nn.Module):
    """The base of modules that an extraction replaces."""

    _parts: Collection[str] = ("options", "blocks")  # the names of what it holds

    def extracted(self, memo: Extraction) -> Any:
        """The module that replaces it, for the current picks, or the number of a size."""
        raise NotImplementedError

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if isinstance(memo, Extraction):
            return self.extracted(memo)
        twin = type(self).__new__(type(self))
        memo[id(self)] = twin
        twin.__dict__ = copy.deepcopy(self._held(), memo)
        return twin

    def _held(self) -> dict[str, Any]:
        """The attributes that a copy has."""
        return self.__dict__

    def refuse_changes(self, path: str) -> None:
        """Refuse additions to the class that an extraction would lose.

        Raises:
            ValueError: a subclass has another forward pass, hooks, or further parameters.
        """
        own = next(c for c in type(self).__mro__ if _is_a_kind(c))
        above = type(self).__mro__[: type(self).__mro__.index(own)]
        changed = {n for c in above for n in vars(c) if hasattr(own, n) or n in self._parts}
        changed = {n for n in changed if n == "__call__" or not n.startswith("__")}
        changed |= {"forward"} & vars(self).keys()
        found = [f"its own {name}" for name in sorted(changed - {"extra_repr"})]
        found += ["hooks"] if any(vars(self)[hooks] for hooks in HOOKS) else []
        held = {**self._parameters, **self._buffers, **self._modules}
        found += [f"further {name}" for name in held if name not in self._parts]
        if found:
            raise ValueError(
                f"the {own.__name__} at {path!r} has {', '.join(found)}, which extracted networks "
                f"would lose: put an unchanged {own.__name__} into a module of your own, and make "
                "the changes there"
            )


def _is_a_kind(kind: type) -> bool:
    """Whether a class is one of this package, or a kind of elastic layer that someone else made."""
    return kind.__module__.startswith(f"{__package__}.") or "layer" in vars(kind)
