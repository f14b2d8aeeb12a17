"""The three kinds of choice: among modules, among numbers of blocks, among numbers of channels."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .extraction import Extracted, Extraction

Gate = int | Tensor | None


class ShapeError(ValueError):
    """The options of one choice give different shapes."""


class Chooser(Extracted):
    """The base of the three kinds of choice: a gate, which the supernet sets for a forward pass."""

    gate: Gate

    def __init__(self, option_names: Sequence[str]) -> None:
        super().__init__()
        if not option_names:
            raise ValueError(f"{type(self).__name__} needs at least one option, got none")
        self.option_names = tuple(option_names)
        self.gate = None if len(option_names) > 1 else 0  # a single option is always taken

    def gated(self) -> int | Tensor:
        if self.gate is None:
            raise RuntimeError(
                f"this {type(self).__name__} has no pick yet: call the network through "
                "paretonas.nn.Supernet(network), with an architecture or with gates"
            )
        return self.gate

    def decided(self) -> int:
        """The pick, if this is not a mixture."""
        gate = self.gated()
        assert isinstance(gate, int)
        return gate


class OneOf(Chooser):
    """A choice among modules that take the same input and give the same shape.

    >>> block = OneOf({"conv3": nn.Conv2d(8, 8, 3, padding=1), "skip": nn.Identity()})

    Attributes:
        options: the modules, by the name of the option.

    Raises:
        ShapeError: in a forward pass through a mixture, if the options' shapes differ.
    """

    def __init__(self, options: Mapping[str, nn.Module]) -> None:
        super().__init__(list(options))
        self.options = nn.ModuleDict(options)

    def forward(self, x: Tensor) -> Tensor:
        """Run the pick; in a mixture run all options and return their weighted sum."""
        gate = self.gated()
        if isinstance(gate, int):
            return self._run(self.option_names[gate], x)
        # Each gets a copy, since an in-place option would change the input of the others.
        outputs = [self._run(name, _copy(x)) for name in self.option_names]
        shapes = {name: tuple(y.shape) for name, y in zip(self.option_names, outputs, strict=True)}
        if len(set(shapes.values())) > 1:
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ShapeError(f"the options of a OneOf must give one shape, got {listed}")
        return sum(
            (g * y for g, y in zip(gate, outputs, strict=True)), torch.zeros_like(outputs[0])
        )

    def _run(self, option: str, x: Tensor) -> Tensor:
        y: Tensor = self.options[option](x)
        return y

    def extracted(self, memo: Extraction) -> nn.Module:
        """The option that is picked."""
        option: nn.Module = copy.deepcopy(self.options[self.option_names[self.decided()]], memo)
        return option


class Depth(Chooser):
    """A choice of the number of blocks that run, one after the other.

    Args:
        blocks: modules that keep the shape of their input.
        at_least: the smallest number; the options are at_least, ..., len(blocks).
    """

    def __init__(self, blocks: Sequence[nn.Module], at_least: int = 1) -> None:
        if not 0 <= at_least <= len(blocks):
            raise ValueError(f"at_least must be in [0, {len(blocks)}], got {at_least}")
        super().__init__([str(count) for count in range(at_least, len(blocks) + 1)])
        self.blocks = nn.ModuleList(blocks)
        self.at_least = at_least

    def forward(self, x: Tensor) -> Tensor:
        """Run the picked number of blocks; in a mixture run all and weigh the output of each."""
        gate = self.gated()
        if isinstance(gate, int):
            for block in self.blocks[: self.at_least + gate]:
                x = block(x)
            return x
        outputs = [x]
        for block in self.blocks:
            outputs.append(block(_copy(outputs[-1])))  # the block may work in place
        ends = outputs[self.at_least :]
        shapes = {tuple(y.shape) for y in ends}
        if len(shapes) > 1:
            raise ShapeError(f"the blocks of a Depth must keep one shape, got {sorted(shapes)}")
        return sum((g * y for g, y in zip(gate, ends, strict=True)), torch.zeros_like(ends[0]))

    def extracted(self, memo: Extraction) -> nn.Module:
        """The blocks that run, one after the other."""
        plain = nn.Sequential()
        memo[id(self)] = plain  # first this, since the blocks may refer to it
        plain.training = self.training
        for block in self.blocks[: self.at_least + self.decided()]:
            plain.append(copy.deepcopy(block, memo))
        return plain


class Width(Chooser):
    """A choice among numbers of channels; all layers with the same object share the choice.

    >>> import paretonas
    >>> width = Width(8, 16)
    >>> stem = paretonas.nn.Conv2d(1, width, 3)

    In a mixture all channels run, each weighted by the probability that it exists.

    Attributes:
        widths: the numbers of channels, increasing.
    """

    def __init__(self, *widths: int) -> None:
        if any(width < 1 for width in widths) or list(widths) != sorted(set(widths)):
            raise ValueError(f"widths must be positive and increasing, got {list(widths)}")
        super().__init__([str(width) for width in widths])
        self.widths = widths

    @property
    def channels(self) -> int:
        """The number of channels of the current pick; in a mixture, the largest number."""
        gate = self.gated()
        return self.widths[gate] if isinstance(gate, int) else self.widths[-1]

    def mask(self, y: Tensor, axis: int) -> Tensor:
        """`y`, with each channel of `axis` multiplied by the probability that it exists."""
        gate = self.gate
        if not isinstance(gate, Tensor):
            return y
        index = torch.arange(self.widths[-1], device=y.device)
        limits = torch.tensor(self.widths, device=y.device)
        exists = (index[None, :] < limits[:, None]).to(y.dtype)
        shape = [1] * y.ndim
        shape[axis] = -1
        return y * (gate.to(y.dtype) @ exists).reshape(shape)

    def extracted(self, memo: Extraction) -> None:
        """None: extracted layers have plain numbers of channels."""


def _copy(x: Any) -> Any:
    return tree_map(lambda value: value.clone() if isinstance(value, Tensor) else value, x)
