"""The latency of an architecture on a device, from a latency table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..nn import Supernet
from .base import DifferentiableObjective
from .cost_table import CostTable
from .profile import Progress, profile


@dataclass(frozen=True)
class Latency(DifferentiableObjective):
    """Milliseconds from a latency table of the network's parts, measured in place and calibrated.

    `exact` also uses the table, because a search evaluates thousands of architectures. The search
    times the architectures that it keeps with `paretonas.devices.measure_latency`.

    Attributes:
        table: the milliseconds of each part.
    """

    table: CostTable
    name: str = "latency"
    unit: str = "ms"

    @classmethod
    def profile(
        cls,
        supernet: Supernet,
        example: Tensor,
        *,
        device: str | torch.device = "cpu",
        threads: int = 1,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> Latency:
        """Measure the table on a device; see `paretonas.objectives.profile.profile`."""
        return cls(
            profile(
                supernet, example, device=device, threads=threads, cache=cache, progress=progress
            )
        )

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected milliseconds under each distribution."""
        return self.table.total(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The milliseconds of one architecture."""
        return self.table.total_at(architecture)
