"""An objective whose costs all stand in one table of the network's parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from .base import DifferentiableObjective
from .cost_table import CostTable


@dataclass(frozen=True)
class TableObjective(DifferentiableObjective):
    """What a cost table says, for distributions and for one architecture.

    Attributes:
        table: the cost of each part.
        name: of the objective.
        unit: of the table's costs.
    """

    table: CostTable
    name: str
    unit: str

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected cost under each distribution."""
        return self.table.total(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture."""
        return self.table.total_at(architecture)
