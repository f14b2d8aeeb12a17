"""Turn an existing network into one with choices in it, by tracing it; its weights are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ..arguments import call, tensors
from ..forward import copied, evaluating, handed, seeded
from .choices import Chooser, Depth
from .couplings import Axis, Couplings
from .elasticize import Refused, elasticize
from .groups import Group, Groups, Scattered
from .importance import Importance, magnitude, order
from .recording import Pass, recorded
from .sizes import Kernel, SizeChoice, Width

_ROUNDING = 1e-3  # of the largest output: sums over channels in another order


@dataclass(frozen=True)
class Conversion:
    """What became a choice and what stays fixed.

    Attributes:
        choices: the options of each choice, by its name.
        fixed: why a layer stays as it is, by its path.
        elastic: the share of the parameters that some choice removes.
    """

    choices: dict[str, tuple[str, ...]]
    fixed: dict[str, str]
    elastic: float

    def __str__(self) -> str:
        lines = [f"{name}: {', '.join(options)}" for name, options in self.choices.items()]
        lines += [f"{path} stays fixed: {reason}" for path, reason in self.fixed.items()]
        return "\n".join([f"{self.elastic:.0%} of the parameters are elastic", *lines])


def convert(
    model: nn.Module,
    example: Any,
    *,
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    depth: bool = False,
    kernels: Sequence[int] = (),
    keep: Sequence[str | nn.Module] = (),
    importance: Importance = magnitude,
) -> nn.Module:
    """A copy of a network, with choices of width, depth and kernel in it, and with its weights.

    The network runs once on the example. Channels that must agree become one choice; the channels
    of inputs and outputs stay. The channels of each choice are ordered by importance, so that a
    smaller one keeps what matters most. At the largest picks, which it has when it is called as it
    is, it gives what the model gives, to rounding. Each choice is tried at its smallest option, and
    dropped where the network does not run then, such as where its code has a plain number of
    channels.

    >>> from paretonas.nn import convert
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10))
    >>> network = convert(model, torch.zeros(1, 3, 8, 8))
    >>> print(network.conversion)
    98% of the parameters are elastic
    0: 4, 8, 12, 16
    3 stays fixed: it is an output of the network

    Args:
        model: the network, which is not changed. It is traced in evaluation mode.
        example: arguments of one forward pass: a tensor, or a nest of tensors.
        widths: the options of each width, as fractions of the full one.
        depth: whether the later blocks of an `nn.Sequential` of like blocks may be left out.
        kernels: the sizes of smaller kernels of convolutions, such as (3, 5).
        keep: modules, or their paths, which stay as they are.
        importance: the scores of weights that decide the order of channels.

    Returns:
        The network. Its attribute `conversion` says what is a choice and what stays fixed.

    Raises:
        ValueError: the network does not run on the example, there is nothing to choose, or an
            argument is out of its range.
    """
    widths = _checked_widths(widths)
    kernels = _checked_kernels(kernels)
    kept = _paths(model, keep)
    network = copied(model)
    try:
        traced = recorded(_with_weights(copied(model)), example)
        expected = _output(network, example)
    except Exception as error:  # of whatever kind: it is the user's code that runs
        raise ValueError(
            f"the network does not run on the example ({type(error).__name__}: {_line(error)})"
        ) from error
    plan = _Plan(network, example, expected, traced, kept)
    plan.find_widths(widths)
    plan.arrange(importance)
    if depth:
        plan.find_blocks()
    if kernels:
        plan.find_kernels(kernels)
    return plan.network_with_choices()


@dataclass
class _Plan:
    """What will be a choice; it shrinks while the choices are tried."""

    network: nn.Module
    example: Any
    expected: Any
    traced: Pass
    kept: set[str]
    groups: Groups = field(init=False)
    couplings: Couplings = field(init=False)
    blocks: dict[str, list[str]] = field(default_factory=dict)  # of a Sequential, by its path
    kernels: dict[str, Kernel] = field(default_factory=dict)
    fixed: dict[str, str] = field(default_factory=dict)

    def find_widths(self, fractions: Sequence[float]) -> None:
        keep = [n for n in self.traced.held if any(_inside(n, path) for path in self.kept)]
        self.couplings = _best_couplings(self.traced, keep)
        self.groups = Groups(self.couplings.held)
        for group in self.groups.found:
            numbers = _numbers(len(group.units), fractions)
            if len(numbers) > 1:
                self.groups.width(group, numbers)
            else:
                group.reason = f"it has {len(group.units)} channels that can be cut"
        for axes in self.couplings.held.values():
            for axis in axes:
                self._unscatter(axis)

    def _unscatter(self, axis: Axis) -> None:
        try:
            self.groups.size(axis)
        except Scattered:
            for index in {*self.groups._group[axis].tolist()} - {-1}:
                self._fix(self.groups.found[index], "its channels are not one after the other")

    def arrange(self, importance: Importance) -> None:
        """Order the channels of each group, in all tensors, by their importance."""
        held = {*self.couplings.held}
        scores = importance(self.network)
        own = dict([*self.network.named_parameters(), *self.network.named_buffers()])
        gathers: dict[tuple[str, int], Any] = {}
        for group in self.groups.found:
            if group.size is None:
                continue
            new = group.units[order(group, scores, self.couplings.held)]
            for name in group.tensors:
                for place, axis in enumerate(self.couplings.held[name]):
                    moved = _moved(axis, group.units, new)
                    if moved is not None:
                        before = gathers.setdefault((name, place), np.arange(len(axis)))
                        gathers[name, place] = np.where(moved >= 0, moved, before)
        del held
        with torch.no_grad():
            for (name, place), index in gathers.items():
                if name in own:
                    tensor = own[name]
                    where = torch.from_numpy(index).to(tensor.device)
                    tensor.copy_(tensor.index_select(place, where))

    def find_blocks(self) -> None:
        """Runs of residual blocks of a Sequential that keep what goes in: shape and channels."""
        for path, module in self.network.named_modules():
            if type(module) is not nn.Sequential or any(_inside(path, k) for k in self.kept):
                continue
            run: list[str] = []
            names = list(module._modules)
            for before, name in zip(["", *names], names, strict=False):
                like = bool(before) and type(module._modules[before]) is type(module._modules[name])
                if self._keeps(f"{path}.{name}".lstrip(".")) and (like or not run):
                    run.append(name)
                elif run:
                    break
            first = bool(run) and run[0] != names[0] and self._like_before(module, run[0])
            if len(run) > 1 or first:
                self.blocks[path] = run

    @staticmethod
    def _like_before(module: nn.Sequential, name: str) -> bool:
        """Whether the block before is of the same kind: it changes the shape for those after it."""
        names = list(module._modules)
        before = module._modules[names[names.index(name) - 1]]
        return type(before) is type(module._modules[name])

    def _keeps(self, path: str) -> bool:
        calls = self.traced.calls.get(path, [])
        if len(calls) != 1 or any(_inside(k, path) for k in self.kept):
            return False
        before, after = calls[0]
        if before is None or after is None or before.shape != after.shape or before == after:
            return False
        residual = any(
            step.name == "add" and _inside(step.module, path) and step.results[0].shape == after.shape
            for step in self.traced.steps
        )
        pairs = zip(self.couplings.found(before), self.couplings.found(after), strict=True)
        return residual and all(np.array_equal(one, other) for one, other in pairs)

    def find_kernels(self, sizes: Sequence[int]) -> None:
        for path, module in self.network.named_modules():
            if not isinstance(module, _ConvNd) or isinstance(module, _ConvTransposeNd):
                continue
            largest, *others = {*module.kernel_size}
            smaller = [size for size in sizes if size < largest]
            same = tuple(d * (largest // 2) for d in module.dilation)
            if others or not smaller or any(_inside(path, k) for k in self.kept):
                continue
            if module.padding != same or largest % 2 == 0:
                self.fixed[path] = f"its kernel is not padded by its half, but by {module.padding}"
                continue
            self.kernels[path] = Kernel(*smaller, largest, name=f"{path}.kernel")

    def network_with_choices(self) -> nn.Module:
        built = self._built()
        for name, chooser, network in self._each(built):
            reason = self._trial(network, {chooser})
            if reason:
                self._drop(name, chooser, reason)
        return self._finish()

    def _each(self, network: nn.Module) -> Iterator[tuple[str, Chooser, nn.Module]]:
        for name, chooser in _choosers(network).items():
            yield name, chooser, network

    def _finish(self) -> nn.Module:
        network = self._built()
        choosers = _choosers(network)
        small: set[Chooser] = set()
        reason = self._trial(network, {*choosers.values()})
        if reason:
            for name, chooser in choosers.items():
                if (reason := self._trial(network, small | {chooser})):
                    self._drop(name, chooser, f"beside other choices, {reason}")
                else:
                    small.add(chooser)
            network = self._built()
            choosers = _choosers(network)
        if not choosers:
            why = "; ".join(f"{path}: {reason}" for path, reason in self._reasons().items())
            raise ValueError(f"there is nothing to choose in the network: {why or 'no layers'}")
        options = {name: chooser.option_names for name, chooser in choosers.items()}
        network.conversion = Conversion(options, self._reasons(), self._elastic())
        return network

    def _elastic(self) -> float:
        names = {name for g in self.groups.found if g.size is not None for name in g.tensors}
        for path, run in self.blocks.items():
            for block in run:
                start = f"{path}.{block}.".lstrip(".")
                names |= {n for n, _ in self.network.named_parameters() if n.startswith(start)}
        names |= {f"{path}.weight" for path in self.kernels}
        whole = dict(self.network.named_parameters())
        total = sum(p.numel() for p in whole.values())
        return sum(p.numel() for n, p in whole.items() if n in names) / max(1, total)

    def _reasons(self) -> dict[str, str]:
        found = {g.name: g.reason for g in self.groups.found if g.size is None}
        for name, held in self.traced.held.items():
            path = name.rpartition(".")[0] or name
            if not name.endswith("weight") or len(held.shape) < 2:
                continue
            units = self.couplings.of(held)
            outs = units[0]
            if path not in found and not self.couplings.found(held)[0].any() and len(outs) > 1:
                found[path] = self.couplings.reason(outs)
        return found | self.fixed

    def _drop(self, name: str, chooser: Chooser, reason: str) -> None:
        if isinstance(chooser, Width):
            self._fix(next(g for g in self.groups.found if g.size and chooser in g.size.leaves), reason)
        elif isinstance(chooser, Kernel):
            self.fixed[name] = reason
            self.kernels = {path: k for path, k in self.kernels.items() if k is not chooser}
        else:
            self.fixed[name] = reason
            self.blocks.pop(name.removesuffix("depth").removesuffix("."), None)

    def _fix(self, group: Group, reason: str) -> None:
        group.size, group.reason = None, group.reason or reason

    def _built(self) -> nn.Module:
        """A network with the choices that are left, at their largest options."""
        while True:
            network = copied(self.network)
            try:
                network = elasticize(network, self.couplings.held, self.groups.size, self.kernels)
                break
            except Refused as refusal:
                dropped = self.kernels.pop(refusal.path, None) is not None
                for group in self.groups.found:
                    if group.size is not None and {*group.tensors} & {*refusal.tensors}:
                        self._fix(group, str(refusal))
                        dropped = True
                if not dropped:
                    raise
        for path, run in reversed(self.blocks.items()):  # inner ones first
            owner = network.get_submodule(path)
            blocks = [owner._modules[name] for name in run]
            at_least = int(next(iter(owner._modules)) == run[0])
            made = Depth(blocks, at_least, name=f"{path}.depth".lstrip("."))
            owner._modules = {
                name: made if name == run[0] else child
                for name, child in owner._modules.items()
                if name not in run[1:]
            }
        for chooser in _choosers(network).values():
            chooser.gate = len(chooser.option_names) - 1
        return network

    def _trial(self, network: nn.Module, smallest: set[Chooser]) -> str:
        """Why the network does not run with some choices at their smallest; empty if it does."""
        before = {chooser: chooser.gate for chooser in smallest}
        for chooser in smallest:
            chooser.gate = 0
        running = [""]
        try:
            with _stack(network, running):
                found = _output(network, self.example)
        except Exception as error:  # of whatever kind: it is the user's code that runs
            return f"the forward of {running[-1] or 'the network'!r} fails at a smaller size ({_line(error)})"
        finally:
            for chooser, gate in before.items():
                chooser.gate = gate
        shapes = [[t.shape for t in tensors(output)] for output in (found, self.expected)]
        return "" if shapes[0] == shapes[1] else "the output has another shape at a smaller size"


def _best_couplings(traced: Pass, keep: Sequence[str]) -> Couplings:
    """The couplings with the most free channels, over what can be cut along one of several axes."""
    turns: dict[int, int] = {}
    best = Couplings(traced, turns, keep)
    kinds: dict[tuple[int, ...], list[int]] = {}
    for index, (sizes, units) in best.sites.items():
        if not best.same(units).any():
            kinds.setdefault(sizes, []).append(index)
    for sizes, indices in kinds.items():
        for turn in range(1, len(sizes)):
            other = Couplings(traced, turns | dict.fromkeys(indices, turn), keep)
            if other.free > best.free:
                turns, best = turns | dict.fromkeys(indices, turn), other
    return best


def _moved(axis: Axis, units: Axis, new: Axis) -> Any:
    """Where the channel at each position comes from; -1 for other channels; None for no unit."""
    mine = np.isin(axis, units)
    if not mine.any() or np.array_equal(units, new):
        return None
    places: dict[int, list[int]] = {}
    for place in np.flatnonzero(mine).tolist():
        places.setdefault(int(axis[place]), []).append(place)
    moved = np.full(len(axis), -1)
    for old, unit in zip(units.tolist(), new.tolist(), strict=True):
        moved[places[old]] = places[unit]
    return moved


def _choosers(network: nn.Module) -> dict[str, Chooser]:
    found: dict[str, Chooser] = {}
    from .elastic import Elastic

    for module in network.modules():
        if isinstance(module, Depth):
            found[str(module.name)] = module
        if isinstance(module, Elastic):
            found |= {str(leaf.name): leaf for leaf in module.leaves}
    return found


def _numbers(count: int, fractions: Sequence[float]) -> list[int]:
    """The options of a width of so many channels: multiples of 8, 4 or 2 where there are enough."""
    step = next(s for s in (8, 4, 2, 1) if count % s == 0 and (count // s >= 4 or s == 1))
    found = {max(step, round(count * f / step) * step) for f in fractions}
    return sorted(n for n in found | {count} if n <= count)


def _with_weights(network: nn.Module) -> nn.Module:
    """Give norms without a weight one of ones, which says which channels they have."""
    like = next(network.parameters(), torch.ones(1))
    for module in network.modules():
        if getattr(module, "weight", 0) is not None:
            continue
        shape: Any = None
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            shape = module.normalized_shape
        elif isinstance(module, nn.GroupNorm):
            shape = (module.num_channels,)
        elif isinstance(module, _NormBase):
            shape = (module.num_features,)
        if shape is not None:
            module.weight = nn.Parameter(torch.ones(shape).to(like))
    return network


def _output(network: nn.Module, example: Any) -> Any:
    with evaluating(network), seeded(0, network), torch.no_grad():
        return call(network, handed(network, example))


@contextmanager
def _stack(network: nn.Module, running: list[str]) -> Iterator[None]:
    """Note which module runs, so that a failure has a place."""

    def leave(*_: Any) -> None:  # what a hook returns would replace the output
        running.pop()

    hooks = []
    for path, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda *_, p=path: running.append(p)))
        hooks.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _paths(model: nn.Module, keep: Sequence[str | nn.Module]) -> set[str]:
    names = {module: path for path, module in model.named_modules()}
    found = set()
    for each in [keep] if isinstance(keep, str | nn.Module) else keep:
        path = names.get(each) if isinstance(each, nn.Module) else each
        if path not in {*names.values()}:
            what = f"the {type(each).__name__} in keep" if path is None else repr(path)
            raise ValueError(f"{what} is not a module of the network")
        found.add(path)
    return found


def _inside(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}.") or path == ""


def _checked_widths(widths: Sequence[float]) -> list[float]:
    found = [float(width) for width in widths]
    if any(not 0 < width <= 1 for width in found):
        raise ValueError(f"widths must be fractions in (0, 1] of the full width, got {list(widths)}")
    return found


def _checked_kernels(kernels: Sequence[int]) -> list[int]:
    if any(not isinstance(k, int) or k < 1 or k % 2 == 0 for k in kernels):
        raise ValueError(f"kernels must be odd and positive, got {list(kernels)}")
    return sorted({*kernels})


def _line(error: BaseException) -> str:
    return f"{error}".strip().partition("\n")[0][:200] or type(error).__name__
