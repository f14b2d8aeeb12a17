"""The memory that an architecture needs to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..graph import network_graph, peak_memory
from ..nn import Supernet
from ..space import Architecture
from .base import DifferentiableObjective
from .cost_table import CostTable
from .parts import hints, observer
from .profile import Progress
from .tabulate import cost_table


@dataclass(frozen=True)
class Memory(DifferentiableObjective):
    """Parameters and buffers plus the peak of live activations, in KiB.

    The peak is the maximum over the network's parts of the bytes alive while the part runs: its own
    results, and results that a later part needs. `paretonas.graph.peak_memory` defines it; both
    give the same number for every architecture. Under a distribution, the expectation of each part
    is computed first, then the maximum over the parts.

    The table of activations is approximate where what is alive depends on too many choices of a
    cell. `measure` looks at a trained network itself.

    Attributes:
        parameters: the bytes of each part's parameters and buffers.
        activations: the largest number of bytes alive while each part runs.
    """

    parameters: CostTable
    activations: CostTable
    name: str = "memory"
    unit: str = "kib"

    @classmethod
    def of(cls, supernet: Supernet, example: Any, progress: Progress | None = None) -> Memory:
        """Tabulate the memory of a supernet's architectures; runs a few hundred of them once.

        Args:
            supernet: the network with choices.
            example: an input with the shape and batch size of the later use: a tensor, or any nest
                of tensors.
            progress: called with the number of architectures that were looked at, and 0.
        """
        observe, choices = observer(supernet, example), supernet.choices
        known, numbers = hints(supernet), count(1)

        def live_bytes(architecture: Architecture) -> Mapping[str, float]:
            if progress is not None:
                progress(next(numbers), 0)
            return observe(architecture).live

        def held_bytes(architecture: Architecture) -> Mapping[str, float]:
            return observe(architecture).parameter_bytes

        live = cost_table(choices, live_bytes, unit="bytes", hints=known)
        held = cost_table(choices, held_bytes, unit="bytes", hints=known)
        return cls(held, live)

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The expected parameters plus the largest expected activations of each distribution."""
        held = self.parameters.total(probabilities)
        return (held + self.activations.peak(probabilities)) / 1024

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The memory of one architecture."""
        held = self.parameters.total_at(architecture)
        return (held + self.activations.peak_at(architecture)) / 1024

    def measure(self, network: nn.Module, example: Any) -> float:
        """The memory of a network."""
        return peak_memory(network_graph(network, example)) / 1024
