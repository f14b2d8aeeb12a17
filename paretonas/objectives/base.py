"""What the searches ask of an objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Objective(Protocol):
    """A cost that can be found out for one architecture, and may have no gradient.

    All that a sampler needs; a `DifferentiableObjective` is one of these.
    """

    @property
    def column(self) -> str:
        """What tables call it: the name with the unit, such as ``"latency_ms"``."""
        ...

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture; raises, or is not finite, where there is none."""
        ...


@runtime_checkable
class DifferentiableObjective(Protocol):
    """A cost, minimized, in two forms that agree where every distribution is one-hot.

    Distributions are flat: the probabilities of all options of all choices side by side, K in
    all, as `paretonas.relaxation.probabilities` makes them from alpha.

    Attributes:
        name: such as ``"latency"``.
        unit: such as ``"ms"``; empty for a plain count.
    """

    @property
    def name(self) -> str:
        """What the objective is called in constraints and on axes."""
        ...

    @property
    def unit(self) -> str:
        """What its values are counted in."""
        ...

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The cost of each distribution, differentiable, in their dtype.

        A search on a supernet asks in float32, a sampler in float64.
        """
        ...

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture."""
        ...

    @property
    def column(self) -> str:
        """What tables call it: the name with the unit, such as ``"latency_ms"``."""
        return f"{self.name}_{self.unit}" if self.unit else self.name
