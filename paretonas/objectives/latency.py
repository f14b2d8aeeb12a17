"""The latency of an architecture on a device: from a latency table, and measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ..devices import measure_latency
from ..forward import device_of
from ..nn import Supernet
from .profile import Progress, profile
from .table_objective import TableObjective


@dataclass(frozen=True)
class Latency(TableObjective):
    """Milliseconds from a latency table of the network's parts, measured in place and calibrated.

    `exact` also uses the table, because a search evaluates thousands of architectures. The trained
    networks of a search are timed, with `paretonas.devices.measure_latency`.

    Attributes:
        table: the milliseconds of each part.
        device: where networks are timed; None: where they are.
        threads: the number of CPU threads with which they are timed.
    """

    name: str = "latency"
    unit: str = "ms"
    device: str | torch.device | None = None
    threads: int = 1
    noisy: ClassVar[bool] = True

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
        table = profile(
            supernet, example, device=device, threads=threads, cache=cache, progress=progress
        )
        return cls(table, device=device, threads=threads)

    def measure(self, network: nn.Module, example: Any) -> dict[str, float]:
        """Time a network: the median milliseconds of a forward pass, and their spread."""
        place = device_of(network) if self.device is None else self.device
        measured = measure_latency(network, example, threads=self.threads, device=place)
        return {self.column: measured.median_ms, f"{self.name}_spread_ms": measured.spread_ms}
