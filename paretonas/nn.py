"""Drop-in modules that hold a choice inside any `torch.nn.Module`, and the supernet over them.

Three kinds of choice: `OneOf` among modules, `Width` among numbers of channels, `Depth` among
numbers of blocks. A choice is named by its path in the network (``network.block1.op`` is
``"block1.op"``). The elastic layers below are torch's own, with a `Width` allowed wherever torch
takes a number of channels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from .cell import Structure
from .data import Data
from .space import Architecture, Choice, encode
from .training import Recipe

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "Depth",
    "Linear",
    "NetworkSpace",
    "OneOf",
    "Supernet",
    "Width",
]

Gate = int | Tensor | None


class ShapeError(ValueError):
    """Options of one choice that give different shapes."""


class _Chooser(nn.Module):
    """What the three kinds of choice share: a gate that the supernet sets for a forward pass."""

    gate: Gate

    def __init__(self, option_names: Sequence[str]) -> None:
        super().__init__()
        if not option_names:
            raise ValueError(f"{type(self).__name__} needs at least one option, got none")
        self.option_names = tuple(option_names)
        self.gate = None if len(option_names) > 1 else 0  # one option is no choice: it is taken

    def gated(self) -> int | Tensor:
        if self.gate is None:
            raise RuntimeError(
                f"this {type(self).__name__} has no pick yet: call the network through "
                "paretonas.nn.Supernet(network), with an architecture or with gates"
            )
        return self.gate


class OneOf(_Chooser):
    """A choice among modules that take the same input and give the same shape.

    >>> block = OneOf({"conv3": nn.Conv2d(8, 8, 3, padding=1), "skip": nn.Identity()})

    Raises:
        ShapeError: in a forward pass through a mixture, where the options' shapes differ.
    """

    def __init__(self, options: Mapping[str, nn.Module]) -> None:
        super().__init__(list(options))
        self.options = nn.ModuleDict(options)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gated()
        if isinstance(gate, int):
            return self._run(self.option_names[gate], x)
        outputs = [self._run(name, x) for name in self.option_names]
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


class Depth(_Chooser):
    """A choice of how many of some blocks run, one after the other.

    Args:
        blocks: modules that keep the shape of their input.
        at_least: the smallest number that may run; the options are this, ..., len(blocks).
    """

    def __init__(self, blocks: Sequence[nn.Module], at_least: int = 1) -> None:
        if not 0 <= at_least <= len(blocks):
            raise ValueError(f"at_least must be in [0, {len(blocks)}], got {at_least}")
        super().__init__([str(count) for count in range(at_least, len(blocks) + 1)])
        self.blocks = nn.ModuleList(blocks)
        self.at_least = at_least

    def forward(self, x: Tensor) -> Tensor:
        gate = self.gated()
        last = self.at_least + gate if isinstance(gate, int) else len(self.blocks)
        outputs = [x]
        for block in self.blocks[:last]:
            outputs.append(block(outputs[-1]))
        if isinstance(gate, int):
            return outputs[-1]
        ends = outputs[self.at_least :]
        shapes = {tuple(y.shape) for y in ends}
        if len(shapes) > 1:
            raise ShapeError(f"the blocks of a Depth must keep one shape, got {sorted(shapes)}")
        return sum((g * y for g, y in zip(gate, ends, strict=True)), torch.zeros_like(ends[0]))


class Width(_Chooser):
    """A choice among numbers of channels, shared by every layer that is given this object.

    >>> width = Width(8, 16)
    >>> stem = Conv2d(1, width, 3)

    Under a mixture all channels run, each weighted by the probability that it exists.
    """

    def __init__(self, *widths: int) -> None:
        if any(width < 1 for width in widths) or list(widths) != sorted(set(widths)):
            raise ValueError(f"widths must be positive and increasing, got {list(widths)}")
        super().__init__([str(width) for width in widths])
        self.widths = widths

    @property
    def channels(self) -> int:
        """How many channels the present pick has; under a mixture, all of them."""
        gate = self.gated()
        return self.widths[gate] if isinstance(gate, int) else self.widths[-1]

    def mask(self, y: Tensor, axis: int) -> Tensor:
        """`y` with each channel of `axis` weighted by the probability that it exists."""
        gate = self.gate
        if not isinstance(gate, Tensor):
            return y
        index = torch.arange(self.widths[-1], device=y.device)
        limits = torch.tensor(self.widths, device=y.device)
        exists = (index[None, :] < limits[:, None]).to(y.dtype)
        shape = [1] * y.ndim
        shape[axis] = -1
        return y * (gate.to(y.dtype) @ exists).reshape(shape)


Channels = int | Width


def _most(channels: Channels) -> int:
    return channels.widths[-1] if isinstance(channels, Width) else channels


def _now(channels: Channels) -> int:
    return channels.channels if isinstance(channels, Width) else channels


class _Elastic(nn.Module):
    """What the elastic layers share: `plain()` is torch's own layer at the present picks."""

    _channels: tuple[Channels, Channels]  # of the input, of the output

    def _masked(self, y: Tensor, axis: int) -> Tensor:
        outputs = self._channels[1]
        return outputs.mask(y, axis) if isinstance(outputs, Width) else y

    def plain(self) -> nn.Module:
        raise NotImplementedError


class _Conv(_Elastic):
    """The elastic part of `Conv1d` and `Conv2d`."""

    weight: Tensor
    bias: Tensor | None
    _torch: type[nn.Module]
    _functional: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: Channels = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(groups, Width) and not groups is in_channels is out_channels:
            raise ValueError(
                "groups may be a Width only where in_channels and out_channels are the same Width"
            )
        if isinstance(groups, int) and groups > 1 and isinstance(in_channels, Width):
            raise ValueError(
                f"with a Width for in_channels, groups must be 1 or that Width, got {groups}"
            )
        self._settings = {"stride": stride, "padding": padding, "dilation": dilation}
        self._kernel_size = kernel_size
        self._grouped = groups if isinstance(groups, int) else None
        full = self._torch(
            _most(in_channels),
            _most(out_channels),
            kernel_size,
            groups=_most(groups),
            bias=bias,
            **self._settings,
        )
        self.weight = full.get_parameter("weight")
        self.bias = full.get_parameter("bias") if bias else None
        self._channels = (in_channels, out_channels)

    def _slices(self) -> tuple[Tensor, Tensor | None, int]:
        inputs, outputs = (_now(c) for c in self._channels)
        groups = inputs if self._grouped is None else self._grouped
        weight: Tensor = self.weight[:outputs, : inputs // groups]
        bias = None if self.bias is None else self.bias[:outputs]
        return weight, bias, groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, groups = self._slices()
        y = type(self)._functional(x, weight, bias, groups=groups, **self._settings)
        return self._masked(y, 1)

    def plain(self) -> nn.Module:
        weight, bias, groups = self._slices()
        layer = self._torch(
            weight.shape[1] * groups,
            weight.shape[0],
            self._kernel_size,
            groups=groups,
            bias=bias is not None,
            device=weight.device,
            dtype=weight.dtype,
            **self._settings,
        )
        return _load(layer, weight=weight, bias=bias)


class Conv1d(_Conv):
    """`torch.nn.Conv1d` whose channels may be a `Width`; ``groups=width`` is depthwise."""

    _torch = nn.Conv1d
    _functional = staticmethod(functional.conv1d)


class Conv2d(_Conv):
    """`torch.nn.Conv2d` whose channels may be a `Width`; ``groups=width`` is depthwise.

    >>> width = Width(8, 16)
    >>> depthwise = Conv2d(width, width, 3, padding=1, groups=width, bias=False)

    Raises:
        ValueError: `groups` that could not divide the channels at every pick.
    """

    _torch = nn.Conv2d
    _functional = staticmethod(functional.conv2d)


class Linear(_Elastic):
    """`torch.nn.Linear` whose features may be a `Width`."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: Channels, out_features: Channels, bias: bool = True) -> None:
        super().__init__()
        full = nn.Linear(_most(in_features), _most(out_features), bias=bias)
        self.weight, self.bias = full.weight, full.bias
        self._channels = (in_features, out_features)

    def _slices(self) -> tuple[Tensor, Tensor | None]:
        inputs, outputs = (_now(c) for c in self._channels)
        return self.weight[:outputs, :inputs], None if self.bias is None else self.bias[:outputs]

    def forward(self, x: Tensor) -> Tensor:
        return self._masked(functional.linear(x, *self._slices()), -1)

    def plain(self) -> nn.Module:
        weight, bias = self._slices()
        layer = nn.Linear(
            weight.shape[1],
            weight.shape[0],
            bias=bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        return _load(layer, weight=weight, bias=bias)


class _ElasticBatchNorm(_Elastic):
    """The elastic part of `BatchNorm1d` and `BatchNorm2d`.

    In a supernet it normalizes by the batch at hand: running statistics of one path mean nothing
    to another. The plain layer that `Supernet.extract` puts in its place keeps them again.
    """

    weight: Tensor | None
    bias: Tensor | None
    _torch: type[_BatchNorm]

    def __init__(
        self, num_features: Channels, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True
    ) -> None:
        super().__init__()
        full = self._torch(_most(num_features), affine=affine)
        self.weight, self.bias = full.weight, full.bias
        self.eps, self.momentum = eps, momentum
        self._channels = (num_features, num_features)

    def _slices(self) -> tuple[Tensor | None, Tensor | None, int]:
        count = _now(self._channels[0])
        if self.weight is None or self.bias is None:
            return None, None, count
        return self.weight[:count], self.bias[:count], count

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, _ = self._slices()
        y = functional.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        return self._masked(y, 1)

    def plain(self) -> nn.Module:
        weight, bias, count = self._slices()
        layer = self._torch(
            count,
            eps=self.eps,
            momentum=self.momentum,
            affine=weight is not None,
            device=None if weight is None else weight.device,
            dtype=None if weight is None else weight.dtype,
        )
        return _load(layer, weight=weight, bias=bias)


class BatchNorm1d(_ElasticBatchNorm):
    """`torch.nn.BatchNorm1d` whose features may be a `Width`."""

    _torch = nn.BatchNorm1d


class BatchNorm2d(_ElasticBatchNorm):
    """`torch.nn.BatchNorm2d` whose features may be a `Width`."""

    _torch = nn.BatchNorm2d


def _load(layer: nn.Module, **parameters: Tensor | None) -> nn.Module:
    with torch.no_grad():
        for name, value in parameters.items():
            if value is not None:
                layer.get_parameter(name).copy_(value)
    return layer


@dataclass(frozen=True)
class _Place:
    """Where a choice sits: its module's path, and the picks without which it is not reached."""

    path: str
    needs: tuple[tuple[int, frozenset[int]], ...]  # (choice, the picks that keep it in use)


class Supernet(nn.Module):
    """A network with choices in it, run as one architecture or as a mixture of all.

    Args:
        network: any module that holds `OneOf`, `Width` or `Depth` modules.

    Attributes:
        choices: one per choosing module, in the order of `network.named_modules()`.
        aside: the (choice, option) that were set aside, by their indices, and why.

    Raises:
        ValueError: no choice in the network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._places = tuple(_places(network))
        self.aside: dict[tuple[int, int], str] = {}
        self.choices = tuple(
            Choice(place.path, self._chooser(place).option_names) for place in self._places
        )
        if not self.choices:
            raise ValueError(
                "a search space needs a choice: put a paretonas.nn OneOf, Width or Depth with at "
                f"least two options into the network, found none in {type(network).__name__}"
            )
        known = set(network.modules())
        for path, module in network.named_modules():
            if isinstance(module, _Elastic) and not known.issuperset(
                c for c in module._channels if isinstance(c, Width)
            ):
                raise ValueError(
                    f"the Width of {path!r} is not part of the network: make it an attribute, as "
                    "in self.width = Width(8, 16)"
                )
            if isinstance(module, _BatchNorm):  # the batch at hand, as in the elastic layers
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def _chooser(self, place: _Place) -> _Chooser:
        module = self.network.get_submodule(place.path)
        assert isinstance(module, _Chooser)
        return module

    def forward(self, x: Tensor, gates: Mapping[str, str] | Sequence[Tensor]) -> Tensor:
        """Run one architecture, or the mixture that `gates` (one (options,) a choice) describes."""
        with self._set(gates):
            y: Tensor = self.network(x)
        return y

    @contextmanager
    def _set(self, gates: Mapping[str, str] | Sequence[Tensor]) -> Iterator[None]:
        values: Sequence[int | Tensor] = (
            encode(self.choices, gates) if isinstance(gates, Mapping) else gates
        )
        if len(values) != len(self.choices):
            raise ValueError(
                f"gates are one tensor per choice: {len(self.choices)} choices, got {len(values)}"
            )
        choosers = [self._chooser(place) for place in self._places]
        for chooser, value in zip(choosers, values, strict=True):
            chooser.gate = value
        try:
            yield
        finally:
            for chooser in choosers:
                chooser.gate = None

    def extract(self, architecture: Mapping[str, str]) -> nn.Module:
        """The architecture as a plain network of torch's own layers, with copies of the weights.

        Batch norms keep running statistics again and start without any: train the network, or
        run some batches through it in training mode, before its evaluation mode is of use.
        """
        # Torch's layers draw fresh weights when they are made, which here are thrown away.
        with self._set(architecture), torch.random.fork_rng(devices=[]):
            return _plain(self.network, {})

    def canonical(self, architecture: Mapping[str, str]) -> Architecture:
        """The architecture with every pick that its network never reaches set to the first option.

        Two architectures that differ only inside an option that is not taken are one network. An
        option that was set aside gives way to the first that was not.
        """
        picks = list(encode(self.choices, architecture))
        for index, place in enumerate(self._places):
            if (index, picks[index]) in self.aside or not self._reaches(place, picks):
                picks[index] = self.left(index)[0]
        names = [choice.options[pick] for choice, pick in zip(self.choices, picks, strict=True)]
        return Architecture(dict(zip((c.name for c in self.choices), names, strict=True)))

    def set_aside(self, choice: str, option: str, reason: str) -> None:
        """Never take an option again: `canonical` puts another one in its place.

        The last option of a choice inside another takes with it the outer options that reach it.

        Raises:
            ValueError: the choice is not inside another and has no option left.
        """
        index = next(i for i, known in enumerate(self.choices) if known.name == choice)
        pick = self.choices[index].options.index(option)
        if self.left(index) != [pick]:
            self.aside[index, pick] = reason
        elif self._places[index].needs:
            outer, picks = self._places[index].needs[-1]
            for other in sorted(picks & {*self.left(outer)}):
                above = self.choices[outer]
                self.set_aside(above.name, above.options[other], f"{choice}={option}: {reason}")
        else:
            found = {
                name: self.aside.get((index, i), reason)
                for i, name in enumerate(self.choices[index].options)
            }
            listed = "; ".join(f"{name}: {why}" for name, why in found.items())
            raise ValueError(f"choice {choice!r} has no option left that runs: {listed}")

    def left(self, index: int) -> list[int]:
        """The options of a choice that were not set aside, at least one; both by index."""
        every = range(len(self.choices[index].options))
        return [pick for pick in every if (index, pick) not in self.aside]

    def reaching(self, index: int, pick: int, picks: Sequence[int]) -> list[int]:
        """The picks changed as little as is needed for a choice to be reached and take a pick."""
        changed = list(picks)
        changed[index] = pick
        for outer, allowed in self._places[index].needs:
            if changed[outer] not in allowed:
                changed[outer] = min(allowed & {*self.left(outer)}, default=min(allowed))
        return changed

    def inside(self, index: int, pick: int) -> list[int]:
        """The choices that are reached only if a choice takes this pick or others, by index."""
        return [
            inner
            for inner, place in enumerate(self._places)
            if any(outer == index and pick in allowed for outer, allowed in place.needs)
        ]

    def reached(self, architecture: Mapping[str, str]) -> list[int]:
        """The choices that decide about the architecture's network, by index."""
        picks = encode(self.choices, architecture)
        return [i for i, place in enumerate(self._places) if self._reaches(place, picks)]

    def _reaches(self, place: _Place, picks: Sequence[int]) -> bool:
        return all(picks[choice] in allowed for choice, allowed in place.needs)


def _places(network: nn.Module) -> Iterator[_Place]:
    """Every choosing module with two options or more, outer ones before those inside them."""
    index_of: dict[str, int] = {}
    for path, module in network.named_modules():
        if not isinstance(module, _Chooser) or len(module.option_names) < 2:
            continue
        needs = []
        for outer, choice in index_of.items():
            inner = path.removeprefix(f"{outer}.").split(".") if path != outer else []
            if not path.startswith(f"{outer}.") or len(inner) < 2:
                continue
            chooser = network.get_submodule(outer)
            if isinstance(chooser, OneOf):
                needs.append((choice, frozenset({chooser.option_names.index(inner[1])})))
            elif isinstance(chooser, Depth):
                first = max(0, int(inner[1]) + 1 - chooser.at_least)
                needs.append((choice, frozenset(range(first, len(chooser.option_names)))))
        index_of[path] = len(index_of)
        yield _Place(path, tuple(needs))


def _plain(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy with every choice decided by its gate and every elastic layer made torch's own.

    `memo` is that of `copy.deepcopy`: what is shared stays shared, and what is not picked is not
    copied.
    """
    if id(module) not in memo:
        memo[id(module)] = _made_plain(module, memo)
    plain: nn.Module = memo[id(module)]
    return plain


def _made_plain(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    if isinstance(module, OneOf):
        gate = module.gated()
        assert isinstance(gate, int)
        return _plain(module.options[module.option_names[gate]], memo)
    if isinstance(module, Depth):
        gate = module.gated()
        assert isinstance(gate, int)
        blocks = list(module.blocks)[: module.at_least + gate]
        return nn.Sequential(*(_plain(block, memo) for block in blocks))
    if isinstance(module, _Elastic):
        return module.plain()
    if isinstance(module, _BatchNorm):
        return _tracking(module)
    widths = []
    for name, child in module.named_children():
        if isinstance(child, Width):
            widths.append(name)
        else:
            _plain(child, memo)
    plain = copy.deepcopy(module, memo)  # finds its children in the memo
    for name in widths:
        delattr(plain, name)
    return plain


def _tracking(norm: _BatchNorm) -> nn.Module:
    """A batch norm as torch makes it, with running statistics and the same affine weights."""
    fresh = type(norm)(norm.num_features, eps=norm.eps, momentum=norm.momentum, affine=norm.affine)
    if norm.affine:
        fresh = fresh.to(norm.weight)
    return _load(fresh, weight=norm.weight, bias=norm.bias) if norm.affine else fresh


@dataclass(frozen=True)
class NetworkSpace:
    """A search space made of a network with choices, the data to search on, and a recipe.

    Attributes:
        name: what files and tables call the space.
        network: builds the network that holds the choices, with fresh weights.
        data: loads the examples.
        recipe: how an architecture of this space is trained properly.
        structure: how the choices are wired, if that is known.
    """

    name: str
    network: Callable[[], nn.Module]
    data: Callable[[], Data]
    recipe: Recipe = field(default_factory=Recipe)
    structure: Structure | None = None

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices in the network, which is built once to find them."""
        return self.supernet().choices

    def supernet(self, seed: int = 0) -> Supernet:
        """A supernet with fresh weights, the same for the same seed; no global state changes."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Supernet(self.network())
