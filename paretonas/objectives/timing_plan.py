"""What must be timed for a latency table, and the table that the times make.

The times may come from this machine (`paretonas.objectives.profile`) or from another one
(`paretonas.objectives.runner`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..arguments import tensors
from ..nn import Supernet
from ..space import Architecture, Choice, decode
from .cost_table import CostTable, Slot
from .node_times import places
from .parts import hints, observer
from .tabulate import Dependence, Values, slots, tabulate

Signature = tuple[str, ...]  # operations that a part runs, in order


class TimingPlan:
    """The operations whose time a latency table of a supernet needs.

    Operations of the same kinds on the same shapes need one time, in whatever part.

    Args:
        supernet: the network with choices.
        example: the inputs of one forward pass.
        look: called with the number of architectures that were looked at.
    """

    def __init__(
        self, supernet: Supernet, example: Any, look: Callable[[int], object] = lambda _: None
    ) -> None:
        self.supernet, self.example = supernet, example
        self._observe, self._look, self._numbers = observer(supernet, example), look, count(1)
        self._hints = hints(supernet)
        self._parts = self._tabulated(lambda parts: parts.runs)

    @cached_property
    def _places(self) -> dict[str, Dependence]:
        return self._tabulated(places)

    def about(self) -> dict[str, Any]:
        """The shapes of the inputs, and a digest of all operations of the space."""
        return {
            "input": shapes(self.example),
            "operations": _digest(self.supernet.choices, self._parts),
        }

    def parts(self) -> dict[Signature, tuple[str, Architecture]]:
        """For parts that are timed alone: an architecture, and the part in it."""
        return self._wanted(self._parts)

    def in_networks(self) -> dict[Signature, Architecture]:
        """For places whose time whole networks tell: an architecture that has it."""
        return {run: architecture for run, (_, architecture) in self._wanted(self._places).items()}

    def table_of_parts(
        self, times: Mapping[Signature, float], about: Mapping[str, Any]
    ) -> CostTable:
        """The table of parts that were timed alone, in milliseconds."""
        return self._table(self._parts, times, {**about, "parts": "alone"})

    def table_of_nodes(
        self, times: Mapping[Signature, float], about: Mapping[str, Any]
    ) -> CostTable:
        """The table of places in whole networks, in milliseconds; gaps are filled in."""
        return self._table(self._places, times, {**about, "parts": "nodes"})

    def _tabulated(self, own: Callable[[Any], Values]) -> dict[str, Dependence]:
        def seen(architecture: Architecture) -> Values:
            self._look(next(self._numbers))
            return own(self._observe(architecture))

        return tabulate(self.supernet.choices, seen, hints=self._hints)

    def _wanted(self, found: Mapping[str, Dependence]) -> dict[Signature, tuple[str, Architecture]]:
        wanted: dict[Signature, tuple[str, Architecture]] = {}
        for part, value, picks in _signatures(found):
            wanted.setdefault(value, (part, decode(self.supernet.choices, picks)))
        return wanted

    def _table(
        self,
        found: Mapping[str, Dependence],
        times: Mapping[Signature, float],
        about: Mapping[str, Any],
    ) -> CostTable:
        choices = self.supernet.choices
        return CostTable(choices, _slots(choices, found, times), unit="ms", about=about)


def shapes(example: Any) -> list[Any]:
    """The shape of a tensor; for a nest the shapes of its tensors."""
    if isinstance(example, Tensor):
        return list(example.shape)
    return [list(tensor.shape) for tensor in tensors(example)]


def _signatures(
    found: Mapping[str, Dependence],
) -> list[tuple[str, Signature, tuple[int, ...]]]:
    """The operations of all parts, each with an architecture that runs it."""
    return [
        (part, value, picks)
        for part, dependence in found.items()
        for value, picks in dependence.values.values()
        if isinstance(value, tuple)
    ]


def _slots(
    choices: Sequence[Choice], found: Mapping[str, Dependence], times: Mapping[Signature, float]
) -> list[Slot]:
    """The slots of a table; what was not measured is filled in."""
    made: dict[str, Dependence] = {}
    for part, slot in found.items():
        runs = {key: value for key, (value, _) in slot.values.items() if isinstance(value, tuple)}
        known = {key: times[value] for key, value in runs.items() if value in times}
        guess = _main_effects(known) if len(known) < len(runs) else None
        values: dict[tuple[int, ...], tuple[Hashable, tuple[int, ...]]] = {
            key: (known[key] if key in known else guess(key) if key in runs and guess else None, ())
            for key in slot.values
        }
        made[part] = Dependence(slot.classes, values)
    return slots(tuple(choices), made)


def _main_effects(known: Mapping[tuple[int, ...], float]) -> Callable[[tuple[int, ...]], float]:
    """Guesses a time by the main effects of the known ones, in logarithms; 0 if none is known."""
    if not known:
        return lambda key: 0.0
    logs = {key: math.log(max(value, 1e-6)) for key, value in known.items()}
    mean = sum(logs.values()) / len(logs)
    groups = sorted({(axis, group) for key in known for axis, group in enumerate(key)})
    column = {pair: index for index, pair in enumerate(groups)}

    def row(key: tuple[int, ...]) -> NDArray[np.float64]:
        found = np.zeros(len(groups))
        for pair in enumerate(key):
            if pair in column:
                found[column[pair]] = 1.0
        return found

    rows = np.array([row(key) for key in logs])
    rest = np.array([value - mean for value in logs.values()])
    effects = np.linalg.solve(rows.T @ rows + 1e-3 * np.eye(len(groups)), rows.T @ rest)
    return lambda key: math.exp(mean + float(row(key) @ effects))


def _digest(choices: Sequence[Choice], found: Mapping[str, Dependence]) -> str:
    described = [
        (name, slot.classes, sorted((key, value) for key, (value, _) in slot.values.items()))
        for name, slot in sorted(found.items())
    ]
    return digest(repr((choices, described)))


def digest(text: str) -> str:
    """A short name for a text, which no other text has."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
