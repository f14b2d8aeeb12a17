"""Units: channels that are kept or removed as one, and why some of them are fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from .recording import Held, Operation

Axis = NDArray[np.int64]
"""The unit of each position along an axis; 0 for a position that is fixed."""


class Units:
    """The units along the axes of tensors, and which of them are the same or fixed.

    Args:
        turns: for an operation, by its index, that can be cut along one of several axes: which of
            them is taken, the largest (0) by default.

    Attributes:
        sites: the operations that can be cut along one of several axes: the sizes of these axes,
            and the units.
    """

    _step: Operation  # that is understood at the moment
    _index: int

    def __init__(self, turns: Mapping[int, int]) -> None:
        self._turns = turns
        self._count = self._known = 1  # units, and those of parameters and buffers
        self._labels: dict[int, tuple[Axis, ...]] = {}
        self._ties: list[tuple[Axis, Axis]] = []
        self._fixed: list[tuple[Axis, str]] = []
        self._none: dict[int, Axis] = {}
        self.sites: dict[int, tuple[tuple[int, ...], Axis]] = {}

    def of(self, held: Held) -> tuple[Axis, ...]:
        """The units along each axis of a tensor, as they were given out."""
        label = self._labels.get(held.index)
        if label is None:
            label = self._labels[held.index] = tuple(map(self._nothing, held.shape))
        return label

    def found(self, held: Held) -> tuple[Axis, ...]:
        """The units along each axis of a tensor: equal numbers are coupled, 0 is fixed."""
        return tuple(self._same[axis] for axis in self.of(held))

    def same(self, units: Axis) -> Axis:
        """The units that these ones are coupled with; 0 if fixed."""
        return self._same[units]

    def reason(self, units: Axis) -> str:
        """Why the first of these fixed units is fixed."""
        roots = {int(root) for root in np.unique(self._root[units]) if root}
        found = (why for root, why in self._why.items() if root in roots)
        return next(found, "its size is fixed")

    def _fresh(self, length: int) -> Axis:
        if length < 2:
            return self._nothing(length)
        self._count += length
        return np.arange(self._count - length, self._count)

    def _nothing(self, length: int) -> Axis:
        if length not in self._none:
            self._none[length] = np.zeros(length, np.int64)
        return self._none[length]

    def _tie(self, a: Axis, b: Axis, why: str = "") -> None:
        if a is b:
            return
        fixed = (a == 0) | (b == 0)
        if fixed.any():
            why = why or f"it meets a size that is no width in {self._here}"
            self._fix(a[fixed], why)
            self._fix(b[fixed], why)
            a, b = a[~fixed], b[~fixed]
        if len(a):
            self._ties.append((a, b))

    def _fix(self, axis: Axis, why: str = "") -> None:
        axis = axis[axis != 0]
        if len(axis):
            self._fixed.append((axis, why or f"of {self._here}"))

    def _settle(self) -> None:
        """Find the units that are the same, and those that are fixed."""
        root = np.arange(self._count)
        if self._ties:
            pairs = np.stack([np.concatenate(side) for side in zip(*self._ties, strict=True)])
            one, other = np.unique(pairs, axis=1)
            while True:
                low = np.minimum(root[one], root[other])
                found = root.copy()
                np.minimum.at(found, root[one], low)
                np.minimum.at(found, root[other], low)
                while not np.array_equal(found, found[found]):
                    found = found[found]
                if np.array_equal(found, root):
                    break
                root = found
        self._root = root
        self._why: dict[int, str] = {}
        for units, why in self._fixed:
            for each in np.unique(root[units]):
                self._why.setdefault(int(each), why)
        self._same = root.copy()
        self._same[np.isin(root, [0, *self._why]) | (root >= self._known)] = 0

    @property
    def _here(self) -> str:
        where = f"{self._step.module!r}" if self._step.module else "the network's own forward"
        return f"{self._step.name} in {where}"

    def _broadcast(self, held: Sequence[Held], shape: Sequence[int]) -> tuple[Axis, ...]:
        label = []
        for place in range(-len(shape), 0):
            axes = [
                self.of(h)[place]
                for h in held
                if len(h.shape) >= -place and h.shape[place] == shape[place] > 1
            ]
            for axis in axes[1:]:
                self._tie(axes[0], axis)
            label.append(self._first(axes) if axes else self._nothing(shape[place]))
        return tuple(label)

    def _first(self, axes: Sequence[Axis]) -> Axis:
        """The one of tied axes that says most: of a parameter, or else fixed."""
        known = (axis for axis in axes if self._is_known(axis))
        return next(known, next((axis for axis in axes if not axis.any()), axes[0]))

    def _is_known(self, axis: Axis) -> bool:
        """Whether an axis has units of parameters, and not only those of a new tensor."""
        return bool(((axis > 0) & (axis < self._known)).any())

    def _alike(self, units: Axis, axis: int) -> None:
        """Tie units along an axis of a matrix of units."""
        first = np.broadcast_to(units.take([0], axis), units.shape)
        rest = [slice(None), slice(None)]
        rest[axis] = slice(1, None)
        self._tie(first[tuple(rest)].reshape(-1), units[tuple(rest)].reshape(-1))

    def _turn(self, sizes: Sequence[int], units: Axis) -> int:
        """Which of several axes is cut: the largest, or the turn that is asked for."""
        order = sorted(range(len(sizes)), key=lambda place: -sizes[place])
        self.sites[self._index] = tuple(sizes), units
        return order[self._turns.get(self._index, 0) % len(order)]
