"""The number of parameters of an architecture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from ..nn import Supernet
from .base import DifferentiableObjective
from .cost_table import CostTable
from .parts import observer
from .tabulate import cost_table


@dataclass(frozen=True)
class Parameters(DifferentiableObjective):
    """The number of parameters, a sum over the parts of the network.

    Attributes:
        table: the parameters of each part.
    """

    table: CostTable
    name: str = "parameters"
    unit: str = ""

    @classmethod
    def of(cls, supernet: Supernet, example: Tensor) -> Parameters:
        """Count the parameters of a supernet's architectures.

        Raises:
            ValueError: a part depends on more than 4096 combinations of picks.
        """
        observe = observer(supernet, example)
        return cls(cost_table(supernet.choices, lambda a: observe(a).parameters, unit=""))

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected number under each distribution."""
        return self.table.total(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The number of one architecture."""
        return self.table.total_at(architecture)
