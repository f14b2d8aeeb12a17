"""The latency of an architecture on a device, from a latency table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..devices import measure_latency
from ..finalists import Finalist
from ..nn import Supernet
from ..point import Cell, Point
from ..space import Architecture
from .base import DifferentiableObjective
from .profile import Progress, profile
from .table_objective import TableObjective


@dataclass(frozen=True)
class Latency(TableObjective):
    """Milliseconds from a latency table of the network's parts, measured in place and calibrated.

    `exact` also uses the table, because a search evaluates thousands of architectures. The search
    times the architectures that it keeps with `paretonas.devices.measure_latency`.

    Attributes:
        table: the milliseconds of each part.
    """

    name: str = "latency"
    unit: str = "ms"

    @classmethod
    def profile(
        cls,
        supernet: Supernet,
        example: Any,
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


@dataclass(frozen=True, eq=False)
class TimedLatency(DifferentiableObjective):
    """The latency of an architecture from a table, and the measured latency of a trained network.

    Attributes:
        latency: the latency from the table.
        example: the inputs of one forward pass: a tensor, or any nest of tensors.
        device: the device of the measurement.
        threads: the number of CPU threads of the measurement.
        known: points that were measured before. An architecture that is trained again keeps its
            latency, since a second measurement would only draw other noise.
    """

    latency: Latency
    example: Any
    device: str | torch.device = "cpu"
    threads: int = 1
    known: Mapping[Architecture, Point] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the table's objective."""
        return self.latency.name

    @property
    def unit(self) -> str:
        """The unit of the table's objective."""
        return self.latency.unit

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected milliseconds under each distribution, from the table."""
        return self.latency.relaxed(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The milliseconds of one architecture, from the table."""
        return self.latency.exact(architecture)

    def measure_network(self, finalist: Finalist) -> tuple[float, dict[str, Cell]]:
        """The measured median milliseconds of a trained network; the table's value is reported."""
        before = self.known.get(finalist.architecture)
        if before is not None and self.column in before.objectives:
            told = ("latency_table_ms", "latency_spread_ms")
            kept = {name: before.reported[name] for name in told if name in before.reported}
            return before.objectives[self.column], kept
        measured = measure_latency(
            finalist.network, self.example, threads=self.threads, device=self.device
        )
        reported: dict[str, Cell] = {
            "latency_table_ms": self.exact(finalist.architecture),
            "latency_spread_ms": measured.spread_ms,
        }
        return measured.median_ms, reported
