"""The protocols of objectives, with and without a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from ..point import Cell


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


@runtime_checkable
class ComparedObjective(Protocol):
    """An objective whose measurements of several networks are only comparable if made together."""

    @property
    def column(self) -> str:
        """The name of the objective in files, with its unit, such as ``"latency_ms"``."""
        ...

    def measure_all(
        self, networks: Sequence[nn.Module], example: Any, *, seconds: float
    ) -> Sequence[Mapping[str, Cell]]:
        """What `MeasuredObjective.measure` gives, for each network, in about so many seconds.

        A search calls it at its end, with the networks of all points.
        """
        ...


@runtime_checkable
class MeasuredObjective(Protocol):
    """An objective that is measured on trained networks.

    It needs no `exact`. If it is also a `DifferentiableObjective`, `exact` predicts what is
    measured, and points report the prediction as ``latency_table_ms``. It may have an attribute
    ``noisy``, which is True if two measurements of one network differ, as with a clock.
    """

    @property
    def column(self) -> str:
        """The name of the objective in files, with its unit, such as ``"latency_ms"``."""
        ...

    def measure(self, network: nn.Module, example: Any) -> float | Mapping[str, Cell]:
        """The value of a trained network, as files show it, also if it is maximized.

        Args:
            network: as it was trained, on the device of the training; it must stay as it is.
            example: the inputs of one forward pass: a batch of one, on the CPU.

        Returns:
            The value; or a mapping that has it under the name of the column. What else is in the
            mapping is only reported; its names begin with the objective's: ``latency_spread_ms``.
        """
        ...


AnyObjective = Objective | MeasuredObjective
"""An objective of whatever kind: it has a column, and gives a cost or is measured."""


def is_noisy(objective: object) -> bool:
    """Whether two measurements of one network differ: its attribute ``noisy``, if it has one."""
    return bool(getattr(objective, "noisy", False))


def name_of(objective: AnyObjective) -> str:
    """The name without the unit, if the objective has one; otherwise its column."""
    return str(getattr(objective, "name", objective.column))


def table_column(objective: DifferentiableObjective) -> str:
    """The column of what is predicted, where the column itself is measured.

    For ``latency_ms`` this is ``latency_table_ms``.
    """
    return "_".join(filter(None, (objective.name, "table", objective.unit)))


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
