"""Finds the options of a supernet that fail, by changing one pick at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from .arguments import tensors
from .nn import Supernet
from .nn.choices import Chooser
from .point import FAILING, Failure
from .space import Architecture, decode, draw, encode

BASES = 5  # an option is blamed if it fails in this many working architectures
DRAWS = 16  # random architectures, to find some that work
CLIMBS = 3  # local searches from failing architectures to working ones

Reach = tuple[int, ...]  # how far an architecture got; more is further


class Probe:
    """Tries architectures of a supernet and finds the options that make them fail.

    An option is blamed if it fails in several architectures in which another option of its choice
    works. Only the choices that an architecture reaches can fail in it.

    Args:
        supernet: its weights must not change while the probe is in use.
        attempt: runs an architecture; an exception means that it fails.
        recent: architectures that are likely to work.
        seed: the seed of the random architectures.
    """

    def __init__(
        self,
        supernet: Supernet,
        attempt: Callable[[Architecture], object],
        *,
        recent: Sequence[Architecture] = (),
        seed: int = 0,
    ) -> None:
        self.supernet, self.attempt = supernet, attempt
        rng = Random(f"probe {seed}")
        starts = [*recent, *_alike(supernet), *(draw(supernet.choices, rng) for _ in range(DRAWS))]
        self.starts = list(dict.fromkeys(map(supernet.canonical, starts)))
        self._tried: dict[Architecture, tuple[str | None, Reach]] = {}

    def working(self) -> Iterator[Architecture]:
        """Different architectures that work; none if everything fails."""
        found = set()
        for start in self.starts:
            if self._why(start) is None:
                found.add(start)
                yield start
        for start in [start for start in self.starts if start not in found][:CLIMBS]:
            end = self.near(start)
            if end is not None and end not in found:
                found.add(end)
                yield end

    def options(self) -> list[Failure]:
        """Every option of every choice that causes failures."""
        left = range(len(self.supernet.choices))
        unproven = dict.fromkeys((i, j) for i in left for j in self.supernet.left(i))
        for start in self.starts:  # what works in one architecture is not to blame
            if unproven and self._why(start) is None:
                for pick in self.supernet.taken(start):
                    unproven.pop(pick, None)
        return self._blamed(list(unproven))

    def blame(
        self, architecture: Architecture, proven: Iterable[Architecture] = ()
    ) -> list[Failure]:
        """The picks of an architecture that each cause a failure alone; there may be none.

        Args:
            architecture: an architecture that fails.
            proven: architectures that work; the picks that they reach are not blamed.
        """
        innocent = {pick for each in proven for pick in self.supernet.taken(each)}
        taken = self.supernet.taken(architecture)
        return self._blamed([pick for pick in taken if pick not in innocent])

    def near(self, architecture: Architecture) -> Architecture | None:
        """An architecture that works and differs in a few picks; None if none is found."""
        return self._climb(architecture, range(len(self.supernet.choices)))

    def _blamed(self, options: Sequence[tuple[int, int]]) -> list[Failure]:
        found = []
        for index, pick in options:
            reason = self._fault(index, pick)
            if reason is not None:
                choice = self.supernet.choices[index]
                found.append(Failure(Architecture({choice.name: choice.options[pick]}), reason))
        return found

    def _fault(self, index: int, pick: int) -> str | None:
        """Why an option fails in every base where another one works; None if it works in one."""
        reasons = []
        others = [other for other in self.supernet.left(index) if other != pick]
        for base in islice(self.working(), BASES):
            reason = self._with(base, index, pick)
            if reason is None:
                return None
            if any(self._with(base, index, other) is None for other in others):
                reasons.append(reason)
        return reasons[0] if reasons else None

    def _with(self, base: Architecture, index: int, pick: int) -> str | None:
        """Why an option fails in a base, for all picks inside the option; None if it works."""
        picks = encode(self.supernet.choices, base)
        start = decode(self.supernet.choices, self.supernet.reaching(index, pick, picks))
        reason = self._why(start)
        inside = self.supernet.inside(index, pick)
        return None if self._climb(start, inside) is not None else reason

    def _climb(self, start: Architecture, choices: Sequence[int]) -> Architecture | None:
        """Change picks one at a time, each time to get further, until an architecture works."""
        here, (reason, best) = start, self._try(start)
        before: Reach | None = None
        while reason is not None and best != before:
            before = best
            for index in choices:
                name = self.supernet.choices[index].name
                for pick in self.supernet.left(index):
                    option = self.supernet.choices[index].options[pick]
                    near = Architecture({**here, name: option})
                    reason, progress = self._try(near)
                    if reason is None:
                        return self.supernet.canonical(near)
                    if progress > best:
                        here, best = near, progress
        return here if reason is None else None

    def _why(self, architecture: Architecture) -> str | None:
        return self._try(architecture)[0]

    def _try(self, architecture: Architecture) -> tuple[str | None, Reach]:
        same = self.supernet.canonical(architecture)
        if same not in self._tried:
            reason = None
            with _finished(self.supernet) as counts:
                try:
                    self.attempt(same)
                except FAILING as error:  # recorded, not raised
                    reason = Failure.of(same, error).reason
            wrong = 0 if reason is None else -sum(map(_not_finite, self.supernet.parameters()))
            self._tried[same] = reason, (*counts, wrong)
        return self._tried[same]


def _alike(supernet: Supernet) -> Iterator[Architecture]:
    """The architecture of all first options, that of all second options, and so on."""
    sizes = [len(choice.options) for choice in supernet.choices]
    for pick in range(max(sizes)):
        yield decode(supernet.choices, [min(pick, size - 1) for size in sizes])


@contextmanager
def _finished(supernet: Supernet) -> Iterator[list[int]]:
    """Count the choices with finite results, a count for each level of nesting, outermost first."""
    modules = supernet.network.named_modules()
    name_of: dict[nn.Module, str] = {
        m: path for path, m in modules if isinstance(m, Chooser) and len(m.option_names) > 1
    }
    names = list(name_of.values())
    counts = [0] * len(names)
    done: set[str] = set()

    def count(module: nn.Module, _: Any, output: Any) -> None:
        name = name_of.get(module)
        if name is None or name in done:
            return
        if all(bool(tensor.detach().isfinite().all()) for tensor in tensors(output)):
            done.add(name)
            counts[sum(name.startswith(f"{outer}.") for outer in names)] += 1

    # A global hook, since a choice that has a hook of its own cannot be extracted.
    hook = register_module_forward_hook(count)
    try:
        yield counts
    finally:
        hook.remove()


def _not_finite(parameter: Tensor) -> bool:
    return parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all())
