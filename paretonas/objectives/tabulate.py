"""Find out which choices each slot of a cost depends on, and its value at every combination.

Whole architectures are observed, and each observation tells about all slots at once. Perturbing
single picks around a few random architectures gives a first guess of what a slot depends on;
after that, any two observations that the guess calls alike and that differ are a proof of a
dependence, which halving the difference between the two finds. A dependence that shows in very few
architectures can stay hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from random import Random

import torch

from ..space import Architecture, Choice, decode
from .cost_table import CostTable, Slot

__all__ = ["cost_table"]

Picks = tuple[int, ...]
Values = Mapping[str, Hashable]  # slot -> value; a slot that is not there has the value None

BASES = 2  # random architectures whose every neighbor is observed
CHECKS = 24  # architectures in a row that the finished table must predict
MOST_COMBINATIONS = 4096


@dataclass
class Dependence:
    """What a slot depends on.

    Attributes:
        classes: for each choice, the class of each option; options of one class do not differ.
        values: for each combination of classes, the value and the picks that showed it.
    """

    classes: list[list[int]]
    values: dict[Picks, tuple[Hashable, Picks]] = field(default_factory=dict)

    def key(self, picks: Picks) -> Picks:
        """The combination of classes that an architecture falls into."""
        return tuple([group[pick] for group, pick in zip(self.classes, picks, strict=True)])

    def axes(self) -> list[int]:
        """The choices that the slot depends on."""
        return [index for index, group in enumerate(self.classes) if max(group) > 0]

    def missing(self) -> Iterator[Picks]:
        """Picks for combinations without a value, with -1 where a choice does not matter."""
        ranges = [range(max(group) + 1) for group in self.classes]
        for key in product(*ranges):
            if key not in self.values:
                yield tuple(
                    group.index(c) if max(group) else -1
                    for group, c in zip(self.classes, key, strict=True)
                )


def tabulate(
    choices: Sequence[Choice], observe: Callable[[Architecture], Values], *, seed: int = 0
) -> dict[str, Dependence]:
    """Every slot's dependence on the choices, complete over all combinations.

    Args:
        choices: the space's.
        observe: the values of all slots of one architecture; the same whenever it is asked.
        seed: of the random architectures; tables for several costs with one seed observe mostly
            the same ones.

    Raises:
        ValueError: a slot has more than 4096 combinations.
    """
    return _Table(choices, observe, Random(seed)).fill()


def slots(choices: Sequence[Choice], found: Mapping[str, Dependence]) -> list[Slot]:
    """Slots of a cost table from tabulated numbers; a part that does not run costs nothing."""
    made = []
    for name, dependence in found.items():
        axes = dependence.axes()
        groups = {}
        for index in axes:
            classes, options = dependence.classes[index], choices[index].options
            groups[choices[index].name] = tuple(
                tuple(o for o, kind in zip(options, classes, strict=True) if kind == group)
                for group in range(max(classes) + 1)
            )
        shape = [len(group) for group in groups.values()]
        values = torch.zeros(shape, dtype=torch.float64)
        for key, (value, _) in dependence.values.items():
            place = tuple(key[index] for index in axes)
            values[place] = 0.0 if value is None else float(str(value))
        if bool((values != 0).any()):
            made.append(Slot(name, groups, values))
    return made


def cost_table(
    choices: Sequence[Choice],
    observe: Callable[[Architecture], Mapping[str, float]],
    *,
    unit: str,
) -> CostTable:
    """The cost table of numbers that one look at an architecture shows for each of its parts.

    Raises:
        ValueError: a slot has more than 4096 combinations.
    """
    return CostTable(choices, slots(choices, tabulate(choices, observe)), unit=unit)


class _Table:
    def __init__(
        self,
        choices: Sequence[Choice],
        observe: Callable[[Architecture], Values],
        rng: Random,
    ) -> None:
        self.choices = choices
        self.sizes = [len(choice.options) for choice in choices]
        self.observe = observe
        self.rng = rng
        self.seen: dict[Picks, Values] = {}
        self.slots: dict[str, Dependence] = {}
        self.refuted = 0  # how many times a slot turned out to depend on more than was thought

    def fill(self) -> dict[str, Dependence]:
        for _ in range(BASES):
            self._perturb(self._random())
        for picks in list(self.seen):
            self._learn(picks)
        self._complete()
        unlike = 0
        tests = self._alike()
        while unlike < CHECKS:
            unlike += 1
            picks = next(tests, ()) or self._random()
            if self._learn(picks):
                unlike = 0
                for near in self._near(picks):  # one surprise is seldom alone
                    self._learn(near)
                self._complete()
        return self.slots

    def _alike(self) -> Iterator[Picks]:
        """Architectures whose choices all pick one option where they can, such as all skips."""
        names = dict.fromkeys(option for choice in self.choices for option in choice.options)
        for name in names:
            yield tuple(
                choice.options.index(name) if name in choice.options else pick
                for choice, pick in zip(self.choices, self._random(), strict=True)
            )

    def _near(self, base: Picks) -> Iterator[Picks]:
        for index, size in enumerate(self.sizes):
            for option in range(size):
                yield (*base[:index], option, *base[index + 1 :])

    def _random(self) -> Picks:
        return tuple(self.rng.randrange(size) for size in self.sizes)

    def _values(self, picks: Picks) -> Values:
        if picks not in self.seen:
            self.seen[picks] = self.observe(decode(self.choices, picks))
            for name in [name for name in self.seen[picks] if name not in self.slots]:
                slot = self.slots[name] = Dependence([[0] * size for size in self.sizes])
                self._rebuild(name, slot)
        return self.seen[picks]

    def _perturb(self, base: Picks) -> None:
        """Refine every slot's classes by what changing one pick of `base` does."""
        changed = [
            [self._values((*base[:index], option, *base[index + 1 :])) for option in range(size)]
            for index, size in enumerate(self.sizes)
        ]
        for name, slot in self.slots.items():
            for index, values in enumerate(changed):
                kinds = [
                    (old, value.get(name))
                    for old, value in zip(slot.classes[index], values, strict=True)
                ]
                order = list(dict.fromkeys(kinds))
                slot.classes[index] = [order.index(kind) for kind in kinds]
            slot.values.clear()

    def _learn(self, picks: Picks) -> bool:
        """Enter an observation into every slot's table; true if it refuted a dependence."""
        before = self.refuted
        self._values(picks)
        for name, slot in list(self.slots.items()):
            self._enter(name, slot, picks)
        return self.refuted > before

    def _enter(self, name: str, slot: Dependence, picks: Picks) -> bool:
        value = self._values(picks).get(name)
        known, witness = slot.values.setdefault(slot.key(picks), (value, picks))
        if known == value:
            return False
        self.refuted += 1
        index, option = self._difference(name, picks, witness)
        slot.classes[index][option] = max(slot.classes[index]) + 1
        self._rebuild(name, slot)
        return True

    def _rebuild(self, name: str, slot: Dependence) -> None:
        slot.values.clear()
        for picks in list(self.seen):
            if self._enter(name, slot, picks):
                return  # entered all of them, at a finer dependence

    def _difference(self, name: str, one: Picks, other: Picks) -> tuple[int, int]:
        """A choice and an option of `one` which, alone, change the slot's value."""
        apart = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        while len(apart) > 1:
            half = set(apart[: len(apart) // 2])
            middle = tuple(
                b if i in half else a for i, (a, b) in enumerate(zip(one, other, strict=True))
            )
            if self._values(middle).get(name) != self._values(one).get(name):
                other = middle
            else:
                one = middle
            apart = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        return apart[0], one[apart[0]]

    def _complete(self) -> None:
        """Observe architectures until every slot has a value for every combination."""
        while True:
            self._refuse_large()
            missing = {name: list(slot.missing()) for name, slot in self.slots.items()}
            if not any(missing.values()):
                return
            picks = [-1] * len(self.sizes)
            for name in sorted(missing, key=lambda name: -len(missing[name])):
                fits = next(
                    (
                        wanted
                        for wanted in missing[name]
                        if all(w in (-1, p) or p == -1 for w, p in zip(wanted, picks, strict=True))
                    ),
                    None,
                )
                if fits is not None:
                    picks = [w if p == -1 else p for w, p in zip(fits, picks, strict=True)]
            blank = self._random()
            self._learn(tuple(r if p == -1 else p for r, p in zip(blank, picks, strict=True)))

    def _refuse_large(self) -> None:
        for name, slot in self.slots.items():
            count = prod(max(group) + 1 for group in slot.classes)
            if count > MOST_COMBINATIONS:
                on = ", ".join(self.choices[index].name for index in slot.axes())
                raise ValueError(
                    f"the cost of {name!r} depends on {len(slot.axes())} choices ({on}), "
                    f"{count} combinations; a table holds at most {MOST_COMBINATIONS}"
                )
