"""The supernet (one-shot model) over the choices of a network, and the space that builds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from ..arguments import call
from ..cell import Structure
from ..data import Data
from ..forward import copied, seeded, without_collection
from ..space import Architecture, Choice, decode, encode
from ..tasks import Task
from ..tasks.classification import task_of
from ..training import Recipe
from .choices import Chooser
from .conversion.converted import Converted
from .elastic import Elastic
from .extraction import Extracted, Extraction
from .norms import Tracking
from .start import Started, checked_state, read_state

Needs = tuple[tuple[int, frozenset[int]], ...]  # (choice, the picks that keep a place in use)


@dataclass(frozen=True)
class _Place:
    """The places of a choice.

    Attributes:
        name: of the choice.
        choosers: the modules that share it; several, if they were given the same name.
        needs: for each place in the network, the picks that it needs to be reached.
    """

    name: str
    choosers: tuple[Chooser, ...]
    needs: tuple[Needs, ...]


class Supernet(nn.Module):
    """A network with choices, run as one architecture or as a mixture of all (weight sharing).

    If the network is in training mode and some of its modules are in evaluation mode, these stay in
    evaluation mode. All other batch norms normalize by the current batch, since the running
    statistics of one path are useless for another. Their stored statistics do not change, so that
    extracted networks get the original ones.

    Args:
        network: any module that contains choices, such as `OneOf`, `Width` or `Depth`. It is not
            copied.
        constructor: builds such a network, for `fresh`. Without it `fresh` uses a copy of `network`
            that is made together with the supernet.

    Attributes:
        choices: in the order of `network.named_modules()`. The name is the one that the choice was
            given, or else its path; for a size that is no attribute of a module, the path of the
            first layer that uses it and the name of the argument.
        aside: the (choice, option) pairs that were set aside, by their indices, and the reasons.

    Raises:
        ValueError: the network has no choice, or a choice or an elastic layer was changed in a way
            that a plain network cannot reproduce.
    """

    def __init__(
        self, network: nn.Module, constructor: Callable[[], nn.Module] | None = None
    ) -> None:
        super().__init__()
        self._constructor = constructor or partial(copied, copied(network))
        self.network = network
        self._places, self._index_of = _places(network)
        self.aside: dict[tuple[int, int], str] = {}
        self.choices = tuple(
            Choice(place.name, place.choosers[0].option_names) for place in self._places
        )
        if not self.choices:
            raise ValueError(
                "a search space needs a choice: put a paretonas.nn OneOf, Width or Depth with at "
                f"least two options into the network, found none in {type(network).__name__}"
            )
        known = set(network.modules())
        untouched = []
        for path, module in network.named_modules():
            if isinstance(module, Extracted):
                module.refuse_changes(path)
            if any(map(is_lazy, module.parameters(recurse=False))):
                raise ValueError(
                    f"the {type(module).__name__} at {path!r} has no size yet: give its sizes, or "
                    "run the network once on an example in its constructor"
                )
            if isinstance(module, Elastic):
                untouched += [f"{path}.{name}".lstrip(".") for name in module.untouched()]
        self._untouched = frozenset(untouched)
        self._resting = tuple(m for m in known if network.training and not m.training)
        norms = (m for m in known - set(self._resting) if isinstance(m, _NormBase | Tracking))
        self._norms = tuple(norms)

    def train(self, mode: bool = True) -> Supernet:
        """Set the mode of all modules except those that stay in evaluation mode."""
        super().train(mode)
        for module in self._resting:
            module.training = False
        return self

    def forward(self, inputs: Any, gates: Mapping[str, str] | Sequence[Tensor]) -> Any:
        """Run one architecture, or a mixture: `gates` is then one tensor (options,) per choice.

        The inputs are a tensor, or a nest of tensors; see `paretonas.tasks.Arguments`.
        """
        with self.path(gates) as network:
            return call(network, inputs)

    @contextmanager
    def path(self, gates: Mapping[str, str] | Sequence[Tensor]) -> Iterator[nn.Module]:
        """The network itself, which runs one architecture or a mixture inside this context."""
        with self.picked(gates), self._batch_at_hand():
            yield self.network

    @contextmanager
    def picked(self, gates: Mapping[str, str] | Sequence[Tensor]) -> Iterator[None]:
        """All choices have these picks or gates inside this context."""
        values: Sequence[int | Tensor] = (
            encode(self.choices, gates) if isinstance(gates, Mapping) else gates
        )
        if len(values) != len(self.choices):
            raise ValueError(
                f"gates are one tensor per choice: {len(self.choices)} choices, got {len(values)}"
            )
        before = [(chooser, chooser.gate) for place in self._places for chooser in place.choosers]
        for place, value in zip(self._places, values, strict=True):
            for chooser in place.choosers:
                chooser.gate = value
        try:
            yield
        finally:
            for chooser, gate in before:
                chooser.gate = gate

    @contextmanager
    def _batch_at_hand(self) -> Iterator[None]:
        """Batch norms normalize by the current batch; their running statistics do not change."""
        held = [(n, n.running_mean, n.running_var, n.track_running_stats) for n in self._norms]
        for norm in self._norms:
            norm.running_mean = norm.running_var = None
            norm.track_running_stats = False
        try:
            yield
        finally:
            for norm, mean, var, tracks in held:
                norm.running_mean, norm.running_var, norm.track_running_stats = mean, var, tracks

    def extract(self, architecture: Mapping[str, str]) -> nn.Module:
        """The architecture as a plain network of torch's layers, with copies of the shared weights.

        Layers that share parameters still share them. Batch norms have the running statistics of
        the original network; an elastic batch norm is replaced by one with torch's initial
        statistics. So train the network, or run some batches in training mode, before you use its
        evaluation mode.

        Raises:
            ValueError: a module was changed after the supernet was made in a way that a plain
                network cannot reproduce, or layers that share a parameter take different parts of
                it.
        """
        return self._extract(architecture, seed=0)  # all initial values are replaced

    def fresh(self, architecture: Mapping[str, str], *, seed: int) -> nn.Module:
        """The architecture as a plain, untrained network; no global state changes.

        It has the result of the constructor with this seed: pretrained and frozen weights, the
        constructor's own initialization, buffers, the modes of modules. There is one exception. If
        an elastic layer is smaller than its largest size, and the constructor did not change
        torch's initial values of a parameter, torch initializes that parameter again for the
        smaller size.

        Without a constructor, it has the weights that `network` had when the supernet was made. The
        seed then affects only the parameters that are initialized again.

        Raises:
            ValueError: as `extract`, or the constructor builds a network with other choices.
        """
        supernet = built(self._constructor, seed)
        if supernet.choices != self.choices:
            raise ValueError(
                "the constructor of the network must give the same choices each time, got "
                f"{[c.name for c in supernet.choices]}, before {[c.name for c in self.choices]}"
            )
        moved = dict(_tensors(self))
        for name, own in _tensors(supernet):
            like = moved.get(name)  # None for a buffer that only the new network has
            if like is not None:  # the device and the type that this supernet was moved to
                own.data = own.data.to(like.device, like.dtype)
        named = dict(supernet.network.named_parameters())
        untouched = {id(p) for name, p in named.items() if name in supernet._untouched}
        return supernet._extract(architecture, seed=seed * 1_000_003 + 1, untouched=untouched)

    def _extract(
        self, architecture: Mapping[str, str], *, seed: int, untouched: Collection[int] = ()
    ) -> nn.Module:
        for path, module in self.network.named_modules():
            if isinstance(module, Extracted):
                module.refuse_changes(path)
        # Torch initializes every new layer.
        with self.picked(architecture), seeded(seed), without_collection():
            return Extraction(self.network, untouched).plain()

    def extreme(self, *, largest: bool) -> Architecture:
        """The architecture of the largest, or the smallest, option of each choice.

        Of numbers and depths that is the last option, or the first; of modules the one with the
        most parameters, or the fewest; of connections the one with the most tensors, or the fewest.
        """
        picks = []
        for index, ranks in enumerate(self._ranks):
            left = self.left(index)
            picks.append((max if largest else min)(left, key=lambda pick: ranks[pick]))
        return self.canonical(decode(self.choices, picks))

    @cached_property
    def _ranks(self) -> list[Sequence[int]]:
        return [place.choosers[0].ranks() for place in self._places]

    @cached_property
    def _inner(self) -> list[int]:
        """The choices that some architectures do not use, by index."""
        return [i for i, place in enumerate(self._places) if all(place.needs)]

    def canonical(self, architecture: Mapping[str, str]) -> Architecture:
        """The architecture with every pick that its network does not use set to the first option.

        Two architectures that differ only inside an option that is not taken are the same network.
        An option that was set aside is replaced by the first option that was not.
        """
        picks, before = list(encode(self.choices, architecture)), None
        changing = sorted({*self._inner, *(choice for choice, _ in self.aside)})
        while picks != before:  # a choice may come before one that decides whether it is reached
            before = picks.copy()
            for index in changing:
                unused = not self._reaches(self._places[index], picks)
                if unused or (index, picks[index]) in self.aside:
                    picks[index] = self.left(index)[0]
        names = [choice.options[pick] for choice, pick in zip(self.choices, picks, strict=True)]
        return Architecture(dict(zip((c.name for c in self.choices), names, strict=True)))

    def set_aside(self, choice: str, option: str, reason: str) -> None:
        """Never use an option again: `canonical` replaces it by another one.

        If an inner choice loses its last option, the outer options around it are also set aside.

        Raises:
            ValueError: the choice is not inside another choice and has no option left.
        """
        index = next(i for i, known in enumerate(self.choices) if known.name == choice)
        pick = self.choices[index].options.index(option)
        if self.left(index) != [pick]:
            self.aside[index, pick] = reason
        elif all(self._places[index].needs):
            for needs in self._places[index].needs:
                outer, picks = needs[-1]
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
        """The options (at least one) of a choice that were not set aside; all by index."""
        every = range(len(self.choices[index].options))
        return [pick for pick in every if (index, pick) not in self.aside]

    def reaching(self, index: int, pick: int, picks: Sequence[int]) -> list[int]:
        """The picks with the fewest changes so that a choice is reached and takes a pick."""
        found = []
        for needs in self._places[index].needs:
            changed = list(picks)
            changed[index] = pick
            for outer, allowed in needs:
                if changed[outer] not in allowed:
                    changed[outer] = min(allowed & {*self.left(outer)}, default=min(allowed))
            found.append(changed)
        return min(found, key=lambda c: sum(a != b for a, b in zip(c, picks, strict=True)))

    def inside(self, index: int, pick: int) -> list[int]:
        """The choices inside an option, by index; they may also be inside other options."""
        return [
            inner
            for inner, place in enumerate(self._places)
            if any(outer == index and pick in allowed for n in place.needs for outer, allowed in n)
        ]

    def choices_in(self, module: nn.Module) -> list[int]:
        """The choices inside a module of the network, and in the sizes of its layers, by index."""
        index = {c: i for i, place in enumerate(self._places) for c in place.choosers}
        found: dict[int, None] = {}
        for inner in module.modules():
            leaves = inner.leaves if isinstance(inner, Elastic) else [inner]
            found |= dict.fromkeys(index[leaf] for leaf in leaves if leaf in index)
        return sorted(found)

    def conditions(self) -> dict[str, list[dict[str, list[str]]]]:
        """For each choice that an architecture may not use, the options of other choices it needs.

        One of several conditions must hold: a choice of one name may be in several places.
        """
        return {
            place.name: [
                {
                    self.choices[c].name: [self.choices[c].options[i] for i in sorted(p)]
                    for c, p in needs
                }
                for needs in place.needs
            ]
            for place in map(self._places.__getitem__, self._inner)
        }

    def needs_of(self, path: str) -> Needs:
        """The picks that use a place in the network, as (choice, picks)."""
        return _needs(self.network, path, self._index_of)

    def reached(self, architecture: Mapping[str, str]) -> list[int]:
        """The choices that the architecture's network uses, by index."""
        picks = encode(self.choices, architecture)
        return [i for i, place in enumerate(self._places) if self._reaches(place, picks)]

    def taken(self, architecture: Mapping[str, str]) -> list[tuple[int, int]]:
        """The picks that the architecture's network uses, as (choice, option)."""
        picks = encode(self.choices, architecture)
        return [(index, picks[index]) for index in self.reached(architecture)]

    def _reaches(self, place: _Place, picks: Sequence[int]) -> bool:
        return any(all(picks[c] in allowed for c, allowed in needs) for needs in place.needs)


def built(constructor: Callable[[], nn.Module], seed: int) -> Supernet:
    """The supernet over a network that is built with a seed; no global state changes."""
    with seeded(seed):
        # A copy, since a constructor may return the same network each time.
        return Supernet(copied(constructor()), constructor)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())


def _places(network: nn.Module) -> tuple[tuple[_Place, ...], dict[str, int]]:
    """Every choice with two options or more, in order, and their indices by the paths of places.

    Raises:
        ValueError: choosers of the same name have different options, or no architecture reaches a
            choice.
    """
    paths: dict[Chooser, list[str]] = {}  # which name it
    readers: dict[Chooser, list[str]] = {}  # further layers that use a size
    named = list(network.named_modules(remove_duplicate=False))
    attributes = {module for _, module in named if isinstance(module, Chooser)}
    for path, module in named:
        if module in attributes:
            paths.setdefault(module, []).append(path)
        if isinstance(module, Elastic):
            for leaf, argument in module.leaves.items():
                held = readers if leaf in attributes else paths
                held.setdefault(leaf, []).append(f"{path}.{argument}".lstrip("."))
    shared: dict[str, list[Chooser]] = {}
    for chooser, places in paths.items():
        if len(chooser.option_names) > 1:
            shared.setdefault(chooser.name or places[0], []).append(chooser)
    index_of: dict[str, int] = {}  # by path, outer paths first
    for index, (name, choosers) in enumerate(shared.items()):
        index_of |= {path: index for chooser in choosers for path in paths[chooser]}
        for chooser in choosers[1:]:
            if chooser.option_names != choosers[0].option_names:
                raise ValueError(
                    f"choices of the name {name!r} must have the same options, got "
                    f"{list(choosers[0].option_names)} and {list(chooser.option_names)}"
                )
    index_of = dict(sorted(index_of.items(), key=lambda item: item[0].count(".")))
    found = []
    for name, choosers in shared.items():
        places = [p for c in choosers for p in (*paths[c], *readers.get(c, ()))]
        needs = list(dict.fromkeys(_needs(network, path, index_of) for path in places))
        needs = [each for each in needs if all(picks for _, picks in each)]
        if not needs:
            raise ValueError(
                f"no architecture reaches the choice {name!r}: it is inside different options of "
                "choices of one name, which always have the same pick"
            )
        # A place that is reached whenever another one is makes the other one idle.
        idle = {one for one in needs for other in needs if one != other and _implies(one, other)}
        used = tuple(each for each in needs if each not in idle)
        found.append(_Place(name, tuple(choosers), used))
    return tuple(found), index_of


def _implies(one: Needs, other: Needs) -> bool:
    """Whether a place of some needs is only reached where one of other needs is."""
    picks = dict(one)
    return all(choice in picks and picks[choice] <= allowed for choice, allowed in other)


def _needs(network: nn.Module, path: str, index_of: Mapping[str, int]) -> Needs:
    """The choices around a path, and for each one the picks that use the path.

    Choices that use it whatever their pick are left out.
    """
    found: dict[int, frozenset[int]] = {}
    for outer, choice in index_of.items():
        inner = path.removeprefix(f"{outer}.").split(".") if path != outer else []
        if not path.startswith(f"{outer}.") or len(inner) < 2:
            continue
        chooser = network.get_submodule(outer)
        assert isinstance(chooser, Chooser)
        picks = chooser.uses(inner[1])
        if picks is not None and len(picks) < len(chooser.option_names):
            found[choice] = picks & found.get(choice, picks)  # an outer one may have its name
    return tuple(found.items())


@dataclass(frozen=True, repr=False)
class NetworkSpace:
    """A search space made of a network with choices, a task to train it for, and a recipe.

    Attributes:
        name: the name of the space in files and tables.
        network: builds the network with the choices. Finalists start from its weights: pretrained
            and frozen weights, or its own initialization.
        task: what the networks are trained for: a `Task`, such as a `Supervised`, or a `Data`, for
            the classification of its examples; or a function or class that makes one of these.
        recipe: the full training of an architecture of this space.
        structure: the wiring of the choices, if it is known.
    """

    name: str
    network: Callable[[], nn.Module]
    task: Task | Data | Callable[[], Task | Data]
    recipe: Recipe = field(default_factory=Recipe)
    structure: Structure | None = None

    def __repr__(self) -> str:  # without building the network
        network, task = (getattr(f, "__name__", None) or repr(f) for f in (self.network, self.task))
        return f"NetworkSpace({self.name!r}, {network}, {task}, {self.recipe})"

    def __getstate__(self) -> dict[str, Any]:
        # Another process builds its own network and loads its own examples.
        return {k: v for k, v in self.__dict__.items() if k not in ("choices", "_loaded")}

    @cached_property
    def choices(self) -> tuple[Choice, ...]:
        """The choices in the network, which is built once to find them."""
        return self.supernet().choices

    def supernet(self, seed: int = 0) -> Supernet:
        """A supernet with initial weights, the same for the same seed; no global state changes."""
        return built(self.network, seed)

    def start_from(self, weights: str | os.PathLike[str] | Mapping[str, Tensor]) -> NetworkSpace:
        """The same space, of a network that starts from weights; see `Started`.

        Args:
            weights: a state dict, which is copied, or a file of one: ``.safetensors``, or of
                `torch.save`. Elastic layers have their largest size in it.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged, or a name or a shape does not fit the network.
        """
        if isinstance(weights, Mapping):
            state, source = checked_state(weights, "a state dict"), "the weights"
        else:
            state, source = read_state(weights), os.fspath(weights)
        constructor: Callable[[], nn.Module]
        if isinstance(self.network, Converted):
            constructor = self.network.start_from(state, source)
        else:
            constructor = Started(self.network, state, source)
        started = replace(self, network=constructor)
        started.supernet()  # refuses what does not fit
        return started

    def load_task(self) -> Task:
        """The task; its examples are loaded once.

        Raises:
            TypeError: what should be a task is none.
        """
        return self._loaded

    @cached_property
    def _loaded(self) -> Task:
        task = self.task
        if isinstance(task, type) or (callable(task) and not isinstance(task, Task)):
            task = task()
        if isinstance(task, Data):
            return task_of(task)
        if isinstance(task, type) or not isinstance(task, Task):
            lacks = [name for name in _PARTS_OF_A_TASK if not hasattr(task, name)]
            found = " ".join(repr(task).split())  # one line
            raise TypeError(
                f"the task of the space {self.name!r} must be a Task, such as "
                f"paretonas.tasks.Supervised(...), or a paretonas.Data; got {found:.80}"
                + (f", which has no {', '.join(lacks)}" if 0 < len(lacks) < 5 else "")
            )
        return task


_PARTS_OF_A_TASK = ("metric", "example", "batches", "loss", "evaluate")
