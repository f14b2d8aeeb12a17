"""The latency of an architecture on a device: from a latency table, and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ..devices import Backend, find_backend
from ..devices.timer import measure_together
from ..forward import device_of, seeded
from ..nn import Supernet
from ..point import Cell
from .profile import Progress, profile
from .table_objective import TableObjective

ALONE_SECONDS = 0.2


@dataclass(frozen=True)
class Latency(TableObjective):
    """Milliseconds from a latency table of the network's parts, measured in place and calibrated.

    `exact` also uses the table, because a search evaluates thousands of architectures. The trained
    networks of a search are timed: each when it was trained, and at the end all together.

    Attributes:
        table: the milliseconds of each part.
        device: where networks are timed; None: where they are.
        threads: the number of CPU threads with which they are timed.
        backend: what runs them; see `paretonas.devices.find_backend`.
        noisy: two measurements of one network differ.
    """

    name: str = "latency"
    unit: str = "ms"
    device: str | torch.device | None = None
    threads: int = 1
    backend: str = "torch"
    noisy: ClassVar[bool] = True

    @classmethod
    def profile(
        cls,
        supernet: Supernet,
        example: Any,
        *,
        device: str | torch.device = "cpu",
        threads: int = 1,
        backend: str | None = None,
        cache: bool = True,
        progress: Progress | None = None,
    ) -> Latency:
        """Measure the table on a device; see `paretonas.objectives.profile.profile`."""
        table = profile(
            supernet,
            example,
            device=device,
            threads=threads,
            backend=backend,
            cache=cache,
            progress=progress,
        )
        return cls(table, device=device, threads=threads, backend=table.about["backend"])

    @property
    def backend_column(self) -> str:
        """The column in files that names what runs the networks, such as ``"latency_backend"``."""
        return f"{self.name}_backend"

    def measure(self, network: nn.Module, example: Any) -> dict[str, Cell]:
        """Time a network: the milliseconds of a forward pass, their spread, and the backend.

        The spread is that of `paretonas.devices.Measurement`.
        """
        return self.measure_all([network], example, seconds=ALONE_SECONDS)[0]

    def measure_all(
        self, networks: Sequence[nn.Module], example: Any, *, seconds: float
    ) -> list[dict[str, Cell]]:
        """Time networks alternately, so that their order can be trusted."""
        runner = self._runner(networks[0]) if networks else None
        if runner is None:
            return []
        with seeded(0, *networks):  # copies may share a generator with them
            found = measure_together(
                [runner.loading(network, example) for network in networks],
                threads=self.threads,
                device=runner.device,
                seconds=seconds,
            )
        return [
            {
                self.column: one.median_ms,
                f"{self.name}_spread_ms": one.spread_ms,
                self.backend_column: self.backend,
            }
            for one in found
        ]

    def _runner(self, network: nn.Module) -> Backend:
        place = device_of(network) if self.device is None else self.device
        return find_backend(self.backend, place, self.threads)
