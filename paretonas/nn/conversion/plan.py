"""What of a network becomes a choice: candidates first, then what the network runs with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd, prod
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from ...forward import copied
from ..choices import Chooser, Depth
from ..elastic import Elastic, sizes_in
from ..importance import Importance, order
from ..sizes import Kernel, Size, Width
from .couplings import Couplings
from .cut import Around, taken_names
from .elasticize import RefusedError, elasticize
from .groups import Group, Groups, ScatteredError
from .mixtures import differing
from .recording import ForwardPass, Held
from .trials import TrialFailure, Trials, choosers, exact_output, output, same
from .units import Axis

MOST_ROUNDS = 64  # in which groups that must agree are gathered
MOST_SUMMED = 64  # picks of the choices in a module that is a sum over them in a mixture
KINDS = ("kernel", "depth")  # the ends of the names of such choices


@dataclass
class ConversionPlan:
    """The choices of a network; `built` makes them.

    Attributes:
        network: a copy of the user's network.
        example: the arguments of a forward pass.
        expected: the network's output for them.
        traced: the recorded pass.
        kept: the paths of modules that stay as they are.
        fractions: the options of widths.
        fixed: why something stays fixed, by the path of a layer or the name of a choice.
    """

    network: nn.Module
    example: Any
    expected: Any
    traced: ForwardPass
    kept: set[str]
    fractions: Sequence[float]
    fixed: dict[str, str] = field(default_factory=dict)
    _blocks: dict[str, list[str]] = field(default_factory=dict)  # by the path of a Sequential
    _kernels: dict[str, Kernel] = field(default_factory=dict)  # by the path of a convolution
    _numbers: dict[str, dict[str, Any]] = field(default_factory=dict)  # attributes of modules
    _read: frozenset[str] = frozenset()  # modules whose tensors are used by others
    _summed: set[str] = field(default_factory=set)  # modules that are a sum over picks in a mixture

    def __post_init__(self) -> None:
        self._read = self.traced.read
        keep = [name for name in self.traced.held if self._is_kept(name)]
        self._couplings = best_couplings(self.traced, keep)
        self._groups = Groups(self._couplings.held)
        for group in self._groups.found:
            self._widen([group])
        for axes in self._couplings.held.values():
            for axis in axes:
                self._unscatter(axis)

    # Candidates

    def _widen(self, groups: Sequence[Group]) -> None:
        """Let one width decide these groups."""
        count = gcd(*(len(group.units) for group in groups))
        numbers = _numbers(count, self.fractions)
        if len(numbers) < 2:
            for group in groups:
                self._fix(group, f"it has no more than {len(group.units)} parts that can be cut")
            return
        width = Width(*numbers, name=groups[0].name)
        for group in groups:
            group.size = width * (len(group.units) // count)

    def _fix(self, group: Group, reason: str) -> None:
        group.size, group.reason = None, group.reason or reason

    def _unscatter(self, axis: Axis) -> None:
        while True:
            try:
                self._groups.size(axis)
                return
            except ScatteredError as error:
                self._fix(error.group, str(error))

    def arrange(self, importance: Importance) -> None:
        """Order the channels of each group, in all tensors, by their importance.

        A group whose order changes what the network gives, such as one of which the network keeps
        values from an earlier pass, keeps its order.
        """
        scores, held = importance(copied(self.network)), self._couplings.held
        groups = [group for group in self._groups.found if group.size is not None]
        moves = [(group, group.units[order(group, scores, held)]) for group in groups]
        before = exact_output(self.network, self.example)
        for group, new in moves:
            self._move(group, group.units, new)
        if same(exact_output(self.network, self.example), before):
            return
        for group, new in moves:
            self._move(group, new, group.units)
        for group, new in moves:
            self._move(group, group.units, new)
            if not same(exact_output(self.network, self.example), before):
                self._move(group, new, group.units)

    def _move(self, group: Group, before: Axis, after: Axis) -> None:
        """Put the channels of some units where those of others are."""
        own = dict([*self.network.named_parameters(), *self.network.named_buffers()])
        with torch.no_grad():
            for name in group.tensors:
                for place, axis in enumerate(self._couplings.held[name]):
                    index = np.arange(len(axis))
                    _rearrange(index, axis, before, after)
                    if name in own and (index != np.arange(len(axis))).any():
                        where = torch.from_numpy(index).to(own[name].device)
                        own[name].copy_(own[name].index_select(place, where))

    def find_kernels(self, sizes: Sequence[int]) -> None:
        """Convolutions with a larger kernel, which is padded by its half."""
        for path, module in self.network.named_modules():
            if not isinstance(module, _ConvNd) or isinstance(module, _ConvTransposeNd):
                continue
            largest, *others = {*module.kernel_size}
            smaller = [size for size in sizes if size < largest]
            same = tuple(d * (largest // 2) for d in module.dilation)
            if others or not smaller or self._is_kept(path):
                continue
            name = f"{path}.kernel".lstrip(".")
            if module.padding != same or largest % 2 == 0:
                self.fixed[name] = f"the kernel is not padded by its half, but by {module.padding}"
            else:
                self._kernels[path] = Kernel(*smaller, largest, name=name)

    def find_blocks(self) -> None:
        """Residual blocks of a Sequential, one after the other, that keep shape and channels.

        The first block is not left out: it is one that changes the shape, or the run keeps one.
        """
        for path, module in self.network.named_modules():
            if type(module) is not nn.Sequential or self._is_kept(path):
                continue
            names, run = list(module._modules), list[str]()
            for before, name in zip(["", *names], names, strict=False):
                kinds = {type(module._modules.get(each)) for each in (before, name)}
                if (len(kinds) == 1 or not run) and self._keeps(f"{path}.{name}".lstrip(".")):
                    run.append(name)
                elif run:
                    break
            place = names.index(run[0]) if run else 0
            entry = place > 0 and type(module._modules[names[place - 1]]) is type(
                module._modules[run[0]]
            )
            if len(run) > 1 or entry:
                self._blocks[path] = run
        blocks, self._blocks = self._blocks, {}
        for path, run in blocks.items():
            self._blocks[path] = run
            if not self._runs_as_before():
                del self._blocks[path]
                name = f"{path}.depth".lstrip(".")
                self.fixed[name] = "the network uses its blocks by their places"

    def _runs_as_before(self) -> bool:
        try:
            return same(output(self.built(), self.example), self.expected)
        except Exception:  # of whatever kind: it is the user's code that runs
            return False

    def _keeps(self, path: str) -> bool:
        calls = self.traced.calls.get(path, [])
        if len(calls) != 1 or any(_inside(kept, path) for kept in self.kept):
            return False
        if not calls[0].given or len(calls[0].made) != 1:
            return False
        before, (after,) = calls[0].given[0], calls[0].made
        if before.shape != after.shape or before == after:
            return False
        residual = any(
            step.name == "add"
            and _inside(step.module, path)
            and step.results[0].shape == after.shape
            for step in self.traced.steps
        )
        pairs = zip(self._couplings.found(before), self._couplings.found(after), strict=True)
        return residual and all(np.array_equal(one, other) for one, other in pairs)

    # What the network runs with

    def try_all(self) -> None:
        """Keep the choices with which the network runs; those that must agree become one."""
        with self._trials() as trials:
            if trials.all_run():
                return
            found = {c: trials.failure({c}) for c in trials.choosers.values()}
        failures = {chooser: failure for chooser, failure in found.items() if failure}
        waiting = [self._group_of(c) for c in failures if isinstance(c, Width)]
        for chooser, failure in failures.items():
            self._drop(chooser, str(failure))
        for group in [*waiting]:
            if group in waiting:
                cluster = self._together(group, waiting)
                waiting = [other for other in waiting if other not in cluster]
        with self._trials() as trials:
            if trials.all_run():
                return
            small: set[Chooser] = set()
            for chooser in trials.choosers.values():
                alone, beside = trials.failure({chooser}), trials.failure(small | {chooser})
                if alone or beside:
                    self._drop(chooser, str(alone or beside))
                else:
                    small.add(chooser)

    def _together(self, group: Group, waiting: Sequence[Group]) -> list[Group]:
        """Groups that the network runs with if one width decides them all; empty if none.

        The cluster grows where the network fails: by numbers that are attributes of the module
        there, such as the size of a head, and by the other groups there.
        """
        cluster, before = [group], (self._numbers, self._read)
        failure = self._tied(cluster)
        for _ in range(MOST_ROUNDS):
            if failure is None:
                return cluster
            moved = self._understood(failure, cluster)
            if moved is not failure:
                failure = moved
                continue
            more = [g for g in waiting if g not in cluster and self._is_in(g, failure.path)]
            if not more:
                break
            cluster += more
            failure = self._tied(cluster)
        self._numbers, self._read = before
        for each in cluster:
            each.size = None
        return []

    def _understood(self, failure: TrialFailure, cluster: Sequence[Group]) -> TrialFailure | None:
        """What fails next, if something about the module that fails can be understood.

        It may use the tensors of the modules inside it, or have an attribute that is a size.
        """
        path, before = failure.path, (self._numbers, self._read)
        if path not in dict(self.network.named_modules()):
            return failure
        inside = {p for p, _ in self.network.named_modules() if _inside(p, path)}
        reads = inside - self._read - {""} if len(inside) > 1 else set()
        exact, multiples = (self._attributes(path, cluster, exact=exact) for exact in (True, False))
        guesses: list[tuple[str, dict[str, Any], bool]] = [(path, exact, False)] if exact else []
        guesses += [(path, {}, True)] if reads else []
        guesses += [(path, exact | multiples, False)] if multiples else []
        guesses += [(path, {name: exact[name]}, False) for name in exact if len(exact) > 1]
        if (caller := self._caller(path)) is not None:  # which makes what a layer of torch is given
            outer = self._attributes(caller, cluster, exact=True)
            guesses += [(caller, outer, False)] if outer else []
            guesses += [(caller, {name: outer[name]}, False) for name in outer if len(outer) > 1]
        for path, numbers, reader in guesses:
            known = self._numbers.get(path, {})
            self._numbers = self._numbers | {path: known | numbers}
            self._read = self._read | (reads if reader else set())
            found = self._tied(cluster)
            if found is None or found.path != failure.path:
                return found
            self._numbers, self._read = before
        return failure

    def _caller(self, path: str) -> str | None:
        """The nearest module around a layer of torch that is not torch's."""
        while path and type(self.network.get_submodule(path)).__module__.startswith("torch."):
            path = path.rpartition(".")[0]
            if not type(self.network.get_submodule(path)).__module__.startswith("torch."):
                return path
        return None

    def _tied(self, cluster: Sequence[Group]) -> TrialFailure | None:
        """Why the network does not run if one width decides these groups."""
        self._widen(cluster)
        if cluster[0].size is None:
            return TrialFailure("", "no common width")
        (width,) = cluster[0].size.leaves
        with self._trials() as trials:
            if not _has(trials.choosers.values(), width):
                return TrialFailure("", "a layer has no elastic form")
            picks = range(len(width.numbers) - 1)
            return next(filter(None, (trials.failure_at({width}, pick) for pick in picks)), None)

    def _attributes(self, path: str, cluster: Sequence[Group], *, exact: bool) -> dict[str, Any]:
        """Numbers of a module that may be sizes of these groups: the units that they count.

        Args:
            path: of the module.
            cluster: the groups.
            exact: whether the number is that of all channels along an axis, or that of all units;
                otherwise it is a multiple of the latter.
        """
        counted: dict[int, Axis] = {}
        for group in cluster:
            mine = [name for name in group.tensors if _inside(name, path)]
            axes = [a for name in mine for a in self._couplings.held[name]]
            axes = [axis for axis in axes if np.isin(axis, group.units).any()]
            for axis in [*axes, *([group.units] if mine else [])]:
                counted.setdefault(len(axis), axis)
            most = max(map(len, axes), default=0) // len(group.units)
            for times in () if exact else range(2, most + 1):
                counted.setdefault(times * len(group.units), np.tile(group.units, times))

        def units(value: Any) -> Any:
            if isinstance(value, list | tuple) and type(value) in (list, tuple):
                return type(value)(map(units, value))
            return counted.get(value, value) if type(value) is int and value > 1 else value

        known = self._numbers.get(path, {})
        found = {}
        for name, value in vars(self.network.get_submodule(path)).items():
            if name not in known and any(isinstance(u, np.ndarray) for u in _leaves(units(value))):
                found[name] = units(value)
        return found

    def _is_in(self, group: Group, path: str) -> bool:
        return any(_inside(name, path) for name in group.tensors)

    def _group_of(self, chooser: Chooser) -> Group:
        return next(
            g for g in self._groups.found if g.size is not None and _has(g.size.leaves, chooser)
        )

    def _drop(self, chooser: Chooser, reason: str) -> None:
        for group in self._groups.found:
            if group.size is not None and _has(group.size.leaves, chooser):
                self._fix(group, reason)
        self._numbers = {
            path: own
            for path, own in self._numbers.items()
            if any(self._is_cut(axis) for axis in _leaves(own.values()))
        }
        for found in (self._kernels, self._blocks):
            own = {path: [f"{path}.{kind}".lstrip(".") for kind in KINDS] for path in found}
            for path in [path for path, names in own.items() if chooser.name in names]:
                del found[path]
                self.fixed[str(chooser.name)] = reason

    def _is_cut(self, axis: Any) -> bool:
        return isinstance(axis, np.ndarray) and isinstance(self._groups.size(axis), Size)

    def _is_kept(self, path: str) -> bool:
        return any(_inside(path, kept) for kept in self.kept)

    # Mixtures

    def find_sums(self) -> None:
        """Modules of which a mixture is a sum over picks, so that one-hot it is exactly the pick.

        That is the innermost module where zeros in place of missing channels are not enough, unless
        it has too many picks.
        """
        blocks, self._blocks = self._blocks, {}  # which would change the paths
        known: set[str] = set()
        sums = {""}
        while sums:
            network = self.built()
            around = {path: self._sized(units) for path, units in self._around.items()}
            picks = {p: _picks(network.get_submodule(p), each) for p, each in around.items()}
            around = {path: each for path, each in around.items() if picks[path] > 1}
            found = differing(network, self.example, around, known)
            known |= {path for path, differs in found.items() if not differs}
            more = {path for path, differs in found.items() if differs} - self._summed
            sums = {path for path in more if picks[path] <= MOST_SUMMED and self._can_sum(path)}
            for path in more - sums:  # those around it differ, too
                known |= {outer for outer in around if _inside(path, outer)}
            self._summed |= sums
        self._blocks = blocks

    def _can_sum(self, path: str) -> bool:
        return not taken_names(self.network.get_submodule(path))

    @cached_property
    def _around(self) -> dict[str, list[list[Sequence[Axis]]]]:
        """The units along the axes of what modules take and give, where each call has the same."""
        found = {}
        for path, calls in self.traced.calls.items():
            first, *rest = ([self._units(c.given), self._units(c.made)] for c in calls)
            plain = type(self.network.get_submodule(path)) in (nn.Sequential, nn.ModuleList)
            if not plain and all(_alike(first, other) for other in rest):
                with suppress(ScatteredError):
                    self._sized(first)
                    found[path] = first
        return found

    def _units(self, tensors: Sequence[Held]) -> list[Sequence[Axis]]:
        return [self._couplings.found(held) for held in tensors]

    def _sized(self, around: Sequence[Sequence[Sequence[Axis]]]) -> Around:
        size = self._groups.size
        ins, outs = (
            [[size(axis) if axis.any() else len(axis) for axis in label] for label in labels]
            for labels in around
        )
        return ins, outs

    # The result

    @cached_property
    def _places(self) -> dict[str, int]:
        """The axis of the input that the channels of a norm are, where it is not the last."""
        found = {}
        for path, (first, *_) in self.traced.calls.items():
            axes = self._couplings.held.get(f"{path}.weight".lstrip("."), ())
            if not first.given or len(axes) != 1 or not axes[0].any():
                continue
            alike = [np.array_equal(a, axes[0]) for a in self._couplings.found(first.given[0])]
            if True in alike and not alike[-1]:
                found[path] = alike.index(True) - len(alike)
        return found

    def _trials(self) -> Trials:
        return Trials(self.built(), self.example, self.expected)

    def built(self) -> nn.Module:
        """A network with the choices, at their largest options."""
        while True:
            network = copied(self.network)
            try:
                network = elasticize(
                    network,
                    self._couplings.held,
                    self._groups.size,
                    self._kernels,
                    self._numbers,
                    self._read,
                    self._places,
                    {path: self._sized(self._around[path]) for path in self._summed},
                )
                break
            except RefusedError as refusal:
                self._refused(refusal)
        for path, run in reversed(self._blocks.items()):  # inner ones first
            owner = network.get_submodule(path)
            at_least = int(next(iter(owner._modules)) == run[0])
            blocks = [owner._modules[name] for name in run]
            made = Depth(blocks, at_least, name=f"{path}.depth".lstrip("."))  # type: ignore[arg-type]
            owner._modules = {
                name: made if name == run[0] else child
                for name, child in owner._modules.items()
                if name not in run[1:]
            }
        for chooser in choosers(network).values():
            chooser.gate = len(chooser.option_names) - 1
        return network

    def _refused(self, refusal: RefusedError) -> None:
        dropped = self._kernels.pop(refusal.path, None) is not None
        if refusal.path in self._numbers:
            self._numbers = {p: own for p, own in self._numbers.items() if p != refusal.path}
            dropped = True
        for group in self._groups.found:
            if group.size is not None and {*group.tensors} & {*refusal.tensors}:
                self._fix(group, f"{refusal.path!r} cannot be cut: {refusal}")
                dropped = True
        if not dropped:
            raise refusal

    def elastic_share(self) -> float:
        """The share of the parameters in tensors that some choice cuts or leaves out."""
        names = {name for g in self._groups.found if g.size is not None for name in g.tensors}
        names |= {f"{path}.weight".lstrip(".") for path in self._kernels}
        blocks = [f"{p}.{name}".lstrip(".") for p, run in self._blocks.items() for name in run]
        total = elastic = 0
        for name, parameter in self.network.named_parameters():
            total += parameter.numel()
            if name in names or any(_inside(name, block) for block in blocks):
                elastic += parameter.numel()
        return elastic / max(1, total)

    def reasons(self) -> dict[str, str]:
        """Why layers keep the channels that they make, by path."""
        cut = {name for g in self._groups.found if g.size is not None for name in g.tensors}
        found = {
            g.name: g.reason for g in self._groups.found if g.size is None and g.name not in cut
        }
        for name, _ in self.network.named_parameters():
            held, path = self.traced.held.get(name), name.rpartition(".")[0] or name
            if held is None or len(held.shape) < 2 or path in found:
                continue
            units = self._outputs(self.network.get_submodule(name.rpartition(".")[0]), held)
            free = {*self._couplings.same(units).tolist()} - {0}
            if len(units) > 1 and not free:
                found[path] = self._couplings.reason(units)
            elif len(units) > 1 and len(free) < 2 and name not in cut:
                found[path] = "all its channels belong together"
        return found | self.fixed

    def _outputs(self, module: nn.Module, held: Held) -> Axis:
        second = isinstance(module, nn.Embedding | nn.EmbeddingBag | _ConvTransposeNd)
        return self._couplings.of(held)[int(second)]


def best_couplings(traced: ForwardPass, keep: Sequence[str]) -> Couplings:
    """The couplings with the most free channels, over what can be cut along one of several axes."""
    turns: dict[int, int] = {}
    best = Couplings(traced, turns, keep)
    kinds: dict[tuple[int, ...], list[int]] = {}
    for index, (sizes, units) in best.sites.items():
        if len({*best.same(units).tolist()} - {0}) < 2:
            kinds.setdefault(sizes, []).append(index)
    for sizes, indices in kinds.items():
        for turn in range(1, len(sizes)):
            turned = turns | dict.fromkeys(indices, turn)
            other = Couplings(traced, turned, keep)
            if other.free > best.free:
                turns, best = turned, other
    return best


def _picks(module: nn.Module, around: Around) -> int:
    """How many picks of sizes there are in a module and around it."""
    found = {leaf for size in sizes_in(around) for leaf in size.leaves}
    for inner in module.modules():
        found |= {*inner.leaves} if isinstance(inner, Elastic) else set()
    return prod(len(leaf.numbers) for leaf in found)


def _has(choosers: Iterable[Chooser], chooser: Chooser) -> bool:
    """Whether a choice is one of several; two widths of one number are equal, and not the same."""
    return any(one is chooser for one in choosers)


def _alike(one: Any, other: Any) -> bool:
    """Whether two nests of axes are the same."""
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    return len(one) == len(other) and all(map(_alike, one, other))


def _rearrange(index: Axis, axis: Axis, units: Axis, new: Axis) -> None:
    """Where the channel at each position of an axis comes from, if `units` become `new`."""
    at = np.argsort(axis, kind="stable")
    sorted_units = axis[at]
    first = np.searchsorted(sorted_units, units)
    times = np.searchsorted(sorted_units, units, "right") - first
    if not times.any():
        return
    begin = np.searchsorted(sorted_units, new)
    for repeat in range(int(times[0])):
        index[at[first + repeat]] = at[begin + repeat]


def _numbers(count: int, fractions: Sequence[float]) -> list[int]:
    """The options of a width of so many channels: multiples of 8, 4 or 2 where there are enough."""
    step = next(s for s in (8, 4, 2, 1) if count % s == 0 and (count // s >= 4 or s == 1))
    found = {max(step, round(count * f / step) * step) for f in fractions}
    return sorted(n for n in found | {count} if n <= count)


def _leaves(nest: Any) -> list[Any]:
    if isinstance(nest, np.ndarray) or not isinstance(nest, Iterable) or isinstance(nest, str):
        return [nest]
    return [leaf for part in nest for leaf in _leaves(part)] if _plain(nest) else []


def _plain(nest: Any) -> bool:
    return type(nest) in (list, tuple, type({}.values()))


def _inside(name: str, path: str) -> bool:
    return name == path or path == "" or name.startswith(f"{path}.")
