"""How long an architecture takes on a device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..nn import Supernet
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
