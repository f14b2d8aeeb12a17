"""Choices among modules, and among numbers of blocks; `sizes.py` has those among numbers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from inspect import Parameter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ..arguments import mapped
from .extraction import Extracted, Extraction

Gate = int | Tensor | None
RECOMPUTED = "a backward pass with checkpointing must be inside of supernet.path(architecture)"


class ShapeError(ValueError):
    """The options of one choice give different shapes."""


class Chooser(Extracted):
    """The base of the kinds of choice: a gate, which the supernet sets for a forward pass.

    Attributes:
        name: what files call the choice; None stands for its path in the network. Choosers of the
            same name are one choice.
        gate: the pick, or the weights of a mixture; None before there is one.
    """

    name: str | None
    gate: Gate

    def __init__(self, option_names: Sequence[str], name: str | None = None) -> None:
        super().__init__()
        if not option_names:
            raise ValueError(f"{type(self).__name__} needs at least one option, got none")
        if name is not None and (not isinstance(name, str) or not name):
            raise ValueError(f"the name of a choice must be a text, got {name!r}")
        self.option_names = tuple(option_names)
        self.name = name
        self.gate = None if len(option_names) > 1 else 0  # a single option is always taken

    def gated(self) -> int | Tensor:
        if self.gate is None:
            raise RuntimeError(
                f"this {type(self).__name__} has no pick yet: call the network through "
                f"paretonas.nn.Supernet(network), with an architecture or with gates; {RECOMPUTED}"
            )
        return self.gate

    def decided(self) -> int:
        """The pick, if this is not a mixture."""
        gate = self.gated()
        assert isinstance(gate, int)
        return gate

    def ranks(self) -> Sequence[int]:
        """A number for each option, which is larger for a larger one."""
        return range(len(self.option_names))

    def uses(self, part: str) -> frozenset[int] | None:
        """The picks that use one of its options, blocks or branches; None for a choice of none."""
        return None


class OneOf(Chooser):
    """A choice among modules that take the same arguments and give the same shape.

    The arguments and the outputs are tensors, or nests of tensors: lists, tuples and dicts.

    >>> block = OneOf({"conv3": nn.Conv2d(8, 8, 3, padding=1), "skip": nn.Identity()})

    Args:
        options: the modules, by the name of the option.
        name: choices of the same name are one choice. Stacked cells may share their picks so; their
            weights are their own.

    Raises:
        ValueError: the name of an option cannot be that of a module.
        ShapeError: in a forward pass through a mixture, if the options' outputs differ in their
            nests, in shapes, or in values that are not floating point.
    """

    def __init__(self, options: Mapping[str, nn.Module], name: str | None = None) -> None:
        super().__init__(list(options), name)
        self.options = nn.ModuleDict()
        for option, module in options.items():
            try:
                self.options[option] = module
            except KeyError as error:
                raise ValueError(
                    "the options of a OneOf are modules by name, so a name must not be empty, have "
                    f"a dot, or be an attribute of torch.nn.ModuleDict; got {option!r}"
                ) from error

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the pick; in a mixture run all options and return their weighted sum."""
        gate = self.gated()
        if isinstance(gate, int):
            return self.options[self.option_names[gate]](*args, **kwargs)
        outputs = {}
        for name in self.option_names:
            # Each gets a copy, since an in-place option would change the input of the others.
            own, named = _copy((args, kwargs))
            outputs[name] = self.options[name](*own, **named)
        return mixed(gate, outputs, "the options of a OneOf must give")

    def extracted(self, memo: Extraction) -> nn.Module:
        """The option that is picked."""
        option: nn.Module = memo.copy_of(self.options[self.option_names[self.decided()]])
        return option

    def ranks(self) -> Sequence[int]:
        """The parameters of each option."""
        options = (self.options[name] for name in self.option_names)
        return [sum(p.numel() for p in option.parameters()) for option in options]

    def uses(self, part: str) -> frozenset[int]:
        """The pick of an option."""
        return frozenset({self.option_names.index(part)})

    def takes_more(self) -> bool:
        """Whether all options take more than one positional argument, or keyword arguments."""
        return all(_takes_more(option) for option in self.options.values())


class Depth(Chooser):
    """A choice of the number of blocks that run, one after the other.

    The first block gets all arguments. Each later block gets the output of the block before it in
    place of the first argument, and all further arguments unchanged: ``depth(x, mask=mask)``. The
    first argument may be a nest of tensors; a tuple is passed on as one argument.

    Args:
        blocks: modules that keep the shape of their first argument. The first `at_least` of them,
            which always run, may change it.
        at_least: the smallest number; the options are at_least, ..., len(blocks).
        name: choices of the same name are one choice.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], at_least: int = 1, name: str | None = None
    ) -> None:
        if not 0 <= at_least <= len(blocks):
            raise ValueError(f"at_least must be in [0, {len(blocks)}], got {at_least}")
        super().__init__([str(count) for count in range(at_least, len(blocks) + 1)], name)
        self.blocks = nn.ModuleList(blocks)
        self.at_least = at_least

    def forward(self, x: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Run the picked number of blocks; in a mixture run all and weigh the output of each."""
        gate = self.gated()
        if isinstance(gate, int):
            for block in self.blocks[: self.at_least + gate]:
                x = block(x, *args, **kwargs)
            return x
        outputs = [x]
        for block in self.blocks:
            outputs.append(block(_copy(outputs[-1]), *args, **kwargs))  # it may work in place
        ends = dict(zip(self.option_names, outputs[self.at_least :], strict=True))
        return mixed(gate, ends, "the blocks of a Depth must keep")

    def extracted(self, memo: Extraction) -> nn.Module:
        """The blocks that run, one after the other."""
        plain = Stack() if self.takes_more() else nn.Sequential()
        memo[id(self)] = plain  # first this, since the blocks may refer to it
        plain.training = self.training
        for block in self.blocks[: self.at_least + self.decided()]:
            plain.append(memo.copy_of(block))
        return plain

    def uses(self, part: str) -> frozenset[int]:
        """The picks with a block."""
        first = max(0, int(part) + 1 - self.at_least)
        return frozenset(range(first, len(self.option_names)))

    def takes_more(self) -> bool:
        """Whether all blocks take more than one positional argument, or keyword arguments."""
        return len(self.blocks) > 0 and all(map(_takes_more, self.blocks))


class Stack(nn.Sequential):
    """What a `Depth` becomes if its blocks take further arguments: each block gets them.

    Torch has no such module. So a network with one in it, when it is pickled as a whole, needs
    paretonas to be loaded. Its weights have the names of a `torch.nn.Sequential`; they and
    exported files do not need paretonas.
    """

    def forward(self, input: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the blocks; each gets the output of the one before it, and the further arguments."""
        for block in self:
            input = block(input, *args, **kwargs)
        return input


def _takes_more(module: nn.Module) -> bool:
    if isinstance(module, OneOf | Depth):
        return module.takes_more()
    kinds = [parameter.kind for parameter in inspect.signature(module.forward).parameters.values()]
    return len(kinds) > 1 or Parameter.VAR_POSITIONAL in kinds


def _copy(nest: Any) -> Any:
    return mapped(Tensor.clone, nest)


def mixed(gate: Tensor, outputs: Mapping[str, Any], rule: str) -> Any:
    """The weighted sum of outputs, by the names of their options, leaf by leaf.

    Raises:
        ShapeError: the nests or shapes differ, or values that are not floating point.
    """
    flat, nests = zip(*map(tree_flatten, outputs.values()), strict=True)
    alike = [(nest, [*map(_shape, leaves)]) for leaves, nest in zip(flat, nests, strict=True)]
    if any(each != alike[0] for each in alike):
        listed = ", ".join(f"{name} {_shape(output)}" for name, output in outputs.items())
        raise ShapeError(f"{rule} one shape, got {listed}")
    found = []
    for leaves in zip(*flat, strict=True):
        first = leaves[0]
        if isinstance(first, Tensor) and (first.is_floating_point() or first.is_complex()):
            total = (g * y for g, y in zip(gate, leaves, strict=True))
            found.append(sum(total, torch.zeros_like(first)))
        elif all(_equal(first, leaf) for leaf in leaves):
            found.append(first)
        else:
            raise ShapeError(
                f"{rule} the same values where they are not floating-point tensors, since other "
                f"values cannot be mixed, but {', '.join(outputs)} differ in values of the type "
                f"{_kind(first)}"
            )
    return tree_unflatten(found, nests[0])


def _shape(value: Any) -> Any:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    if isinstance(value, dict):
        return {name: _shape(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return (list if isinstance(value, list) else tuple)(map(_shape, value))
    return _kind(value)


def _kind(value: Any) -> str:
    return str(value.dtype) if isinstance(value, Tensor) else type(value).__name__


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        both = isinstance(one, Tensor) and isinstance(other, Tensor)
        return both and torch.equal(one, other)
    return one is other or bool(one == other)
