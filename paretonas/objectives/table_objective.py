"""An objective whose costs come from one cost table of the network's parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .base import DifferentiableObjective
from .cost_table import CostTable


@dataclass(frozen=True)
class TableObjective(DifferentiableObjective):
    """The costs of a cost table, for distributions and for one architecture.

    Attributes:
        table: the cost of each part.
        name: the name of the objective.
        unit: the unit of the table's costs.
    """

    table: CostTable
    name: str = "cost"  # without a default, the property of the protocol would stand here
    unit: str = ""

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected cost under each distribution."""
        return self.table.total(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture."""
        return self.table.total_at(architecture)
