"""Find the choices that each slot of a cost depends on, and its value for every combination.

Whole architectures are observed; each observation gives the values of all slots. The dependences of
each slot are guessed first: from the structure of a network, or, if nothing is known, from changes
of single picks around a few random architectures. If two observations then differ although the
guess says that they are equal, there is a further dependence; bisection between the two
observations finds it. Options that turn out to be equal are merged at the end. A dependence that
has an effect in very few architectures can stay hidden.

What is alive while a part of a densely connected cell runs may depend on all of its choices. Where
numbers are tabulated, such a slot becomes approximate: it keeps its first guess, with mean values.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, product
from math import prod
from random import Random

import torch

from ..space import Architecture, Choice, decode, encode
from .cost_table import CostTable, Slot

__all__ = ["cost_table"]

Picks = tuple[int, ...]
Values = Mapping[str, Hashable]  # slot -> value; a missing slot has the value None

Classes = list[list[int]]  # for each choice, the class of each option

BASES = 2  # random architectures of which all neighbors are observed, if nothing is known
FEW = 256  # architectures, if a space has no more: all are looked at
MOST_OBSERVED = 200  # architectures, until further dependences are given up
NEAR = 48  # architectures that are looked at around one that refutes a guess
CHECKS = 24  # consecutive architectures that the finished table must predict
MOST_COMBINATIONS = 4096


@dataclass(frozen=True)
class Hints:
    """What is known of the slots before any architecture is observed.

    Attributes:
        guess: the classes of options that a slot likely depends on, by its name; may be wrong.
        looks: architectures that together have every slot.
    """

    guess: Callable[[str], Classes]
    looks: Sequence[Architecture]


@dataclass
class Dependence:
    """The dependence of a slot on the choices.

    Attributes:
        classes: for each choice, the class of each option; options of one class are equivalent.
        values: for each combination of classes, the value and the picks that were observed.
        approximate: whether there are further dependences, and the values are means.
    """

    classes: Classes
    values: dict[Picks, tuple[Hashable, Picks]] = field(default_factory=dict)
    approximate: bool = False

    def settle(self, seen: Sequence[tuple[Picks, Hashable]]) -> None:
        """Give up further dependences: the value of a combination is the mean of its numbers."""
        numbers = [
            (self.key(picks), 0.0 if value is None else float(str(value))) for picks, value in seen
        ]
        whole = sum(number for _, number in numbers) / len(numbers)
        for key in product(*(range(max(group) + 1) for group in self.classes)):
            own = [number for other, number in numbers if other == key]
            self.values[key] = (sum(own) / len(own) if own else whole), ()

    def key(self, picks: Picks) -> Picks:
        """The combination of classes of an architecture."""
        return tuple([group[pick] for group, pick in zip(self.classes, picks, strict=True)])

    def axes(self) -> list[int]:
        """The choices that the slot depends on."""
        return [index for index, group in enumerate(self.classes) if max(group) > 0]

    def merge(self) -> None:
        """Options that have the same values beside all others become one class."""
        for axis in self.axes():
            rows: dict[int, dict[Picks, Hashable]] = {}
            for key, (value, _) in self.values.items():
                rows.setdefault(key[axis], {})[key[:axis] + key[axis + 1 :]] = value
            first: list[dict[Picks, Hashable]] = []
            merged = {}
            for kind in self.classes[axis]:  # in the order of the options
                if rows[kind] not in first:
                    first.append(rows[kind])
                merged[kind] = first.index(rows[kind])
            self.classes[axis] = [merged[kind] for kind in self.classes[axis]]
            self.values = {
                (*key[:axis], merged[key[axis]], *key[axis + 1 :]): found
                for key, found in self.values.items()
            }

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
    choices: Sequence[Choice],
    observe: Callable[[Architecture], Values],
    *,
    hints: Hints | None = None,
    approximate: bool = False,
    seed: int = 0,
) -> dict[str, Dependence]:
    """Every slot's dependence on the choices, complete over all combinations.

    Args:
        choices: the choices of the space.
        observe: returns the values of all slots of one architecture; it must be deterministic.
        hints: what the structure of a network tells.
        approximate: whether a slot of numbers may be, which depends on too much.
        seed: the seed of the random architectures; with the same seed, tables for several costs
            observe mostly the same architectures.

    Raises:
        ValueError: a slot has more than 4096 combinations, and may not be approximate.
    """
    return _Table(choices, observe, Random(seed), hints, approximate).fill()


def slots(choices: Sequence[Choice], found: Mapping[str, Dependence]) -> list[Slot]:
    """Slots of a cost table from tabulated numbers; a part that does not run costs 0."""
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
    hints: Hints | None = None,
) -> CostTable:
    """The cost table of numbers that can be observed for each part of an architecture.

    A part that depends on too many choices gets mean numbers, and the table says so: `about` has
    the names of such parts under ``approximate``.

    Args:
        choices: the choices of the space.
        observe: returns the numbers of all parts of one architecture.
        unit: of the numbers.
        hints: what the structure of a network tells, as `paretonas.objectives.parts.hints` does.
    """
    found = tabulate(choices, observe, hints=hints, approximate=True)
    means = [name for name, slot in found.items() if slot.approximate]
    about = {"approximate": means} if means else {}
    return CostTable(choices, slots(choices, found), unit=unit, about=about)


class _Table:
    def __init__(
        self,
        choices: Sequence[Choice],
        observe: Callable[[Architecture], Values],
        rng: Random,
        hints: Hints | None,
        approximate: bool,
    ) -> None:
        self.choices = choices
        self.sizes = [len(choice.options) for choice in choices]
        self.observe = observe
        self.rng = rng
        self.hints, self.approximate = hints, approximate
        self.seen: dict[Picks, Values] = {}
        self.slots: dict[str, Dependence] = {}
        self.refuted: list[int] = []  # the choices that a further dependence was found on

    def fill(self) -> dict[str, Dependence]:
        if prod(self.sizes) <= FEW:
            for picks in product(*map(range, self.sizes)):
                self._learn(picks)
        elif self.hints is None:
            for _ in range(BASES):
                self._perturb(self._random())
            for picks in list(self.seen):
                self._learn(picks)
        else:
            looks = [encode(self.choices, architecture) for architecture in self.hints.looks]
            for picks in looks or [self._random()]:
                self._learn(picks)
            if sum(self.sizes) <= NEAR:
                for base in [self._random() for _ in range(BASES)]:
                    for picks in self._near(base, first=()):
                        self._learn(picks)
        self._complete()
        unlike = 0
        tests = self._alike()
        while unlike < CHECKS:
            unlike += 1
            picks = next(tests, ()) or self._random()
            before, known = len(self.refuted), len(self.slots)
            if self._learn(picks) or len(self.slots) > known:  # also a part that is new
                unlike = 0
                for near in self._near(picks, first=self.refuted[before:]):
                    self._learn(near)  # further dependences are likely near this one
                self._complete()
        for name, slot in self.slots.items():
            if slot.approximate:
                slot.settle([(picks, values.get(name)) for picks, values in self.seen.items()])
            slot.merge()
        return self.slots

    def _alike(self) -> Iterator[Picks]:
        """Architectures that pick one option in all choices that have it, such as all skips."""
        names = dict.fromkeys(option for choice in self.choices for option in choice.options)
        for name in names:
            yield tuple(
                choice.options.index(name) if name in choice.options else pick
                for choice, pick in zip(self.choices, self._random(), strict=True)
            )

    def _near(self, base: Picks, first: Iterable[int]) -> Iterator[Picks]:
        """Architectures with one other pick, at most `NEAR`; those of some choices come first."""
        rest = self.rng.sample(range(len(self.sizes)), len(self.sizes))
        changes = (
            (i, option) for i in dict.fromkeys([*first, *rest]) for option in range(self.sizes[i])
        )
        for index, option in islice(changes, NEAR):
            yield (*base[:index], option, *base[index + 1 :])

    def _random(self) -> Picks:
        return tuple(self.rng.randrange(size) for size in self.sizes)

    def _values(self, picks: Picks) -> Values:
        if picks not in self.seen:
            self.seen[picks] = self.observe(decode(self.choices, picks))
            for name in [name for name in self.seen[picks] if name not in self.slots]:
                slot = self.slots[name] = Dependence(self._guessed(name))
                self._rebuild(name, slot)
        return self.seen[picks]

    def _guessed(self, name: str) -> Classes:
        return self.hints.guess(name) if self.hints else [[0] * size for size in self.sizes]

    def _give_up(self, name: str, slot: Dependence) -> None:
        slot.approximate, slot.classes = True, self._guessed(name)
        slot.values.clear()

    def _perturb(self, base: Picks) -> None:
        """Refine the classes of every slot by changing one pick of `base` at a time."""
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
        """Enter an observation into the table of every slot; return whether a guess was wrong."""
        before = len(self.refuted)
        self._values(picks)
        for name, slot in list(self.slots.items()):
            self._enter(name, slot, picks)
        return len(self.refuted) > before

    def _enter(self, name: str, slot: Dependence, picks: Picks) -> bool:
        if slot.approximate:
            return False
        value = self._values(picks).get(name)
        known, witness = slot.values.setdefault(slot.key(picks), (value, picks))
        if known == value:
            return False
        if self.approximate and len(self.seen) >= MOST_OBSERVED:
            self._give_up(name, slot)
            return False
        index, option = self._difference(name, picks, witness)
        self.refuted.append(index)
        slot.classes[index][option] = max(slot.classes[index]) + 1
        self._rebuild(name, slot)
        return True

    def _rebuild(self, name: str, slot: Dependence) -> None:
        slot.values.clear()
        for picks in list(self.seen):
            if self._enter(name, slot, picks):
                return  # a finer dependence was found, and all observations are entered

    def _difference(self, name: str, one: Picks, other: Picks) -> tuple[int, int]:
        """A choice and an option of `one` that alone change the slot's value."""
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
            missing = {
                name: list(slot.missing())
                for name, slot in self.slots.items()
                if not slot.approximate
            }
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
            if count > MOST_COMBINATIONS and self.approximate:
                self._give_up(name, slot)
            elif count > MOST_COMBINATIONS:
                on = ", ".join(self.choices[index].name for index in slot.axes())
                raise ValueError(
                    f"the cost of {name!r} depends on {len(slot.axes())} choices ({on}), "
                    f"{count} combinations; a table holds at most {MOST_COMBINATIONS}"
                )
