"""The protocols of objectives, with and without a gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Objective(Protocol):
    """An objective that gives the cost of one architecture; it may have no gradient.

    This is enough for a sampler. A `DifferentiableObjective` is also an `Objective`. Either may
    have an attribute ``maximize``, which is True if larger values are better. Then `exact` and
    `relaxed` give the negative of the value, the cost; `column` is the name of the value, such as
    ``"accuracy"``, and points, files and pages show the value itself.
    """

    @property
    def column(self) -> str:
        """The name of the objective in files, with its unit, such as ``"latency_ms"``."""
        ...

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture; if there is none, it raises or is not finite."""
        ...


@runtime_checkable
class DifferentiableObjective(Protocol):
    """An objective in two forms, which agree if every distribution is one-hot.

    Distributions are flat: the K probabilities of all options of all choices, one after another, as
    `paretonas.relaxation.probabilities` computes them from alpha.

    Attributes:
        name: the name, such as ``"latency"``.
        unit: the unit, such as ``"ms"``; empty for a plain count.
    """

    @property
    def name(self) -> str:
        """The name of the objective in constraints and on axes."""
        ...

    @property
    def unit(self) -> str:
        """The unit of its values."""
        ...

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        """The cost of each distribution, differentiable, in the dtype of the probabilities.

        A search on a supernet uses float32, a sampler float64.
        """
        ...

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The cost of one architecture."""
        ...

    @property
    def column(self) -> str:
        """The name of the objective in files, with its unit, such as ``"latency_ms"``."""
        return f"{self.name}_{self.unit}" if self.unit else self.name


def maximizes(objective: object) -> bool:
    """Whether larger values of an objective are better: its attribute ``maximize``, if it has one.

    Raises:
        TypeError: the attribute is neither True nor False.
    """
    maximize = getattr(objective, "maximize", False)
    if not isinstance(maximize, bool | np.bool_):
        name = getattr(objective, "column", objective)
        raise TypeError(f"maximize of {name} must be True or False, got {maximize!r}")
    return bool(maximize)
