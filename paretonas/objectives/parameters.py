"""The number of parameters of an architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..nn import Supernet
from .parts import hints, observer
from .table_objective import TableObjective
from .tabulate import cost_table


@dataclass(frozen=True)
class Parameters(TableObjective):
    """The number of parameters, a sum over the parts of the network.

    Attributes:
        table: the parameters of each part.
    """

    name: str = "parameters"
    unit: str = ""

    @classmethod
    def of(cls, supernet: Supernet, example: Any) -> Parameters:
        """Count the parameters of a supernet's architectures."""
        observe = observer(supernet, example)
        table = cost_table(
            supernet.choices,
            lambda a: observe(a).parameters,
            unit="",
            hints=hints(supernet),
        )
        return cls(table)
