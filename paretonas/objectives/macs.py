"""The multiply-accumulates of an architecture, and its floating-point operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from torch import nn

from ..nn import Supernet
from .operations import count_macs
from .parts import hints, observer
from .table_objective import TableObjective
from .tabulate import cost_table


@dataclass(frozen=True)
class Macs(TableObjective):
    """Multiply-accumulates of one forward pass on one example, as papers of mobile networks count.

    Some papers call them multiply-adds, others FLOPs: 217 million for MobileNetV3-Large (Howard et
    al., 2019, arXiv:1905.02244), 4.1 billion for ResNet-50. Convolutions, matrix products,
    recurrent layers and attention count; additions, norms and activations do not.

    Attributes:
        table: the multiply-accumulates of each part.
        each: how much one of them counts.
    """

    name: str = "macs"
    each: ClassVar[int] = 1  # how much a multiply-accumulate counts

    @classmethod
    def of(cls, supernet: Supernet, example: Any) -> Self:
        """Count those of a supernet's architectures.

        Args:
            supernet: the network with choices.
            example: the inputs of one forward pass, a batch of one: a tensor, or any nest of them.
        """
        observe = observer(supernet, example)
        table = cost_table(
            supernet.choices,
            lambda a: {part: cls.each * macs for part, macs in observe(a).macs.items()},
            unit="",
            hints=hints(supernet),
        )
        return cls(table)

    def measure(self, network: nn.Module, example: Any) -> float:
        """Count those of a network."""
        return self.each * count_macs(network, example)


@dataclass(frozen=True)
class Flops(Macs):
    """Floating-point operations of one forward pass: two for each multiply-accumulate.

    This is how torch counts (`torch.utils.flop_counter`), and NVIDIA's specifications.

    Attributes:
        table: the operations of each part.
        each: how many operations a multiply-accumulate has.
    """

    name: str = "flops"
    each: ClassVar[int] = 2
