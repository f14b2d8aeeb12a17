"""How many parameters an architecture has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn import Supernet
from ..space import Choice
from .base import Objective
from .cost_table import CostTable, Slot
from .parts import observer
from .tabulate import Dependence, tabulate


@dataclass(frozen=True)
class Parameters(Objective):
    """The number of parameters, a sum over the parts of the network.

    Attributes:
        table: the parameters of each part.
    """

    table: CostTable
    name: str = "parameters"
    unit: str = ""

    @classmethod
    def of(cls, supernet: Supernet, example: Tensor) -> Parameters:
        """Count those of a supernet's architectures.

        Raises:
            ValueError: a part depends on more than 4096 combinations of picks.
        """
        observe = observer(supernet, example)
        found = tabulate(supernet.choices, lambda a: observe(a).parameters)
        return cls(CostTable(supernet.choices, slots(supernet.choices, found), unit=""))

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected number under each distribution."""
        return self.table.total(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The number of one architecture."""
        return self.table.total_at(architecture)


def slots(choices: tuple[Choice, ...], found: Mapping[str, Dependence]) -> list[Slot]:
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
