"""How long an architecture takes on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..devices import measure_latency
from ..finalists import Finalist
from ..nn import Supernet
from ..point import Cell
from .base import DifferentiableObjective
from .profile import Progress, profile
from .table_objective import TableObjective


@dataclass(frozen=True)
class Latency(TableObjective):
    """Milliseconds by a table of the network's parts, measured in place and calibrated.

    `exact` is the table's number too: a search looks at thousands of architectures, and times
    those that it keeps with `paretonas.devices.measure_latency`.

    Attributes:
        table: the milliseconds of each part.
    """

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


@dataclass(frozen=True, eq=False)
class TimedLatency(DifferentiableObjective):
    """The latency by a table, and of a trained network the latency that is measured on it.

    Attributes:
        latency: by the table.
        example: the input of one forward pass.
        device: where a network is timed.
        threads: CPU threads that it is timed with.
    """

    latency: Latency
    example: Tensor
    device: str | torch.device = "cpu"
    threads: int = 1

    @property
    def name(self) -> str:
        """As the table's."""
        return self.latency.name

    @property
    def unit(self) -> str:
        """As the table's."""
        return self.latency.unit

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected milliseconds under each distribution, by the table."""
        return self.latency.relaxed(probabilities)

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The milliseconds of one architecture, by the table."""
        return self.latency.exact(architecture)

    def measure(self, finalist: Finalist) -> tuple[float, dict[str, Cell]]:
        """The median milliseconds of a trained network; the table's are reported besides."""
        measured = measure_latency(
            finalist.network, self.example, threads=self.threads, device=self.device
        )
        reported: dict[str, Cell] = {
            "latency_table_ms": self.exact(finalist.architecture),
            "latency_spread_ms": measured.spread_ms,
        }
        return measured.median_ms, reported
