"""Channels that one width decides, and the sizes that they make of an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..sizes import Size
from .units import Axis

Part = tuple["Group | None", int]  # a group whose units are repeated so often, or fixed positions


@dataclass(eq=False)
class Group:
    """Units that are interchangeable: they are in the same tensors, equally often.

    Attributes:
        name: the path of the layer that makes these channels.
        units: by the order in which a smaller width loses them, the last ones first.
        tensors: the names of the tensors that have these units along an axis.
        size: how many of the units are kept; None if all are, always.
        reason: why all are kept.
    """

    name: str
    units: Axis
    tensors: list[str]
    size: Size | None = None
    reason: str = ""


@dataclass
class Groups:
    """The groups of a network.

    Args:
        held: the unit along each axis of each tensor; see `couplings.Couplings`.

    Attributes:
        found: the groups, in the order in which the network makes their channels.
    """

    held: Mapping[str, Sequence[Axis]]
    found: list[Group] = field(default_factory=list)

    def __post_init__(self) -> None:
        most = max((int(a.max()) for axes in self.held.values() for a in axes if len(a)), default=0)
        # Units with the same sum are in the same axes: one random number for each axis.
        rng, marks = np.random.default_rng(0), np.zeros(most + 1, np.uint64)
        first: dict[int, str] = {}
        order: dict[int, None] = {}
        for name, axes in self.held.items():
            for axis in axes:
                mark = rng.integers(2**64, dtype=np.uint64)
                units, at, counts = np.unique(axis, return_index=True, return_counts=True)
                marks[units] += mark * counts.astype(np.uint64)
                for unit in units[np.argsort(at)].tolist():
                    if unit:
                        order.setdefault(unit)
                        first.setdefault(unit, name)
        kinds: dict[int, list[int]] = {}
        for unit in order:
            kinds.setdefault(int(marks[unit]), []).append(unit)
        self._group = np.full(most + 1, -1)
        for alike in kinds.values():
            if len(alike) > 1:
                self._group[alike] = len(self.found)
                name = first[alike[0]].rpartition(".")[0] or first[alike[0]]
                others = sum(group.name.partition(":")[0] == name for group in self.found)
                name = f"{name}:{others + 1}" if others else name
                self.found.append(Group(name, np.array(alike), []))
        for name, axes in self.held.items():
            inside = {int(i) for axis in axes for i in np.unique(self._group[axis])} - {-1}
            for index in sorted(inside):
                self.found[index].tensors.append(name)

    def parts(self, axis: Axis) -> list[Part]:
        """An axis as groups in a row.

        Raises:
            ScatteredError: the units of a group are not one after the other.
        """
        found: list[Part] = []
        place = 0
        while place < len(axis):
            index = self._group[axis[place]]
            stop = place + 1
            if index < 0:
                while stop < len(axis) and self._group[axis[stop]] < 0:
                    stop += 1
                found.append((None, stop - place))
            else:
                while stop < len(axis) and axis[stop] == axis[place]:
                    stop += 1
                group, times = self.found[index], stop - place
                stop = place + times * len(group.units)
                if not np.array_equal(axis[place:stop], np.repeat(group.units, times)):
                    raise ScatteredError(group)
                found.append((group, times))
            place = stop
        return found

    def size(self, axis: Axis) -> int | Size:
        """The size of an axis."""
        parts = self.parts(axis)
        period = next(n for n in range(1, len(parts) + 1) if parts == parts[:n] * (len(parts) // n))
        sizes: list[int | Size] = []
        for group, times in parts[:period]:
            if group is None:
                sizes.append(times)
            elif group.size is None:
                sizes.append(len(group.units) * times)
            else:
                sizes.append(group.size * times)
        whole = sizes[0]
        for size in sizes[1:]:
            whole = whole + size
        return len(parts) // period * whole


class ScatteredError(ValueError):
    """The channels of a group are mixed with those of another one."""

    def __init__(self, group: Group) -> None:
        super().__init__(f"its channels are not one after the other in {group.name}")
        self.group = group
