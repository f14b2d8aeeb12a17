"""The energy of a forward pass, from the meter of the processor or of the GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from ..devices import Backend, find_backend, find_device
from ..devices.energy import Meter, find_meter, measure_energy
from ..devices.onnx_session import NotInOnnxError
from ..devices.timer import Load
from ..forward import seeded
from ..point import Cell

ALONE_SECONDS = 0.5


@dataclass(frozen=True)
class Energy:
    """Millijoules of a forward pass of a trained network, while it is repeated.

    This is all that the meter counts meanwhile: also what other programs use, and what the
    processor or the GPU draws when it has nothing to do. So a network that takes longer takes more.

    Attributes:
        meter: counts the energy of the device.
        device: where networks run.
        threads: the number of CPU threads.
        backend: what runs them; None: as `paretonas.devices.default_backend`, or torch for networks
            that ONNX cannot hold.
        column: its name in files.
        noisy: two measurements of one network differ.
    """

    meter: Meter
    device: torch.device
    threads: int = 1
    backend: str | None = None
    column: ClassVar[str] = "energy_mj"
    noisy: ClassVar[bool] = True

    @classmethod
    def on(
        cls, device: torch.device | str = "cpu", threads: int = 1, backend: str | None = None
    ) -> Energy:
        """The energy on a device, by its own meter.

        Raises:
            ValueError: it has no meter that can be read, or there is no such device or backend.
            ModuleNotFoundError: a package is missing; the message has the pip line.
        """
        place = find_device(device) if isinstance(device, str) else device
        found = cls(find_meter(place), place, threads, backend)
        found._runner()
        return found

    def measure(self, network: nn.Module, example: Any) -> dict[str, Cell]:
        """The energy of a forward pass, its spread, and the backend."""
        return self.measure_all([network], example, seconds=ALONE_SECONDS)[0]

    def measure_all(
        self, networks: Sequence[nn.Module], example: Any, *, seconds: float
    ) -> list[dict[str, Cell]]:
        """Measure networks alternately, so that their order can be trusted."""
        with seeded(0, *networks):  # copies may share a generator with them
            runner, loads = self._loads(networks, example)
            found = measure_energy(
                loads, self.meter, device=self.device, threads=self.threads, seconds=seconds
            )
        return [
            {
                self.column: one.millijoules,
                "energy_spread_mj": one.spread,
                "energy_backend": runner.name,
            }
            for one in found
        ]

    def _runner(self) -> Backend:
        return find_backend(self.backend, self.device, self.threads)

    def _loads(self, networks: Sequence[nn.Module], example: Any) -> tuple[Backend, list[Load]]:
        runner = self._runner()
        try:
            return runner, [runner.loading(network, example) for network in networks]
        except NotInOnnxError:
            if self.backend is not None:
                raise
        runner = find_backend("torch", self.device, self.threads)
        return runner, [runner.loading(network, example) for network in networks]
