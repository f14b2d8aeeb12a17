"""The target of a search: the best metric at one cost, such as ``latency=2ms``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..constraint import Constraint
from ..objectives import DifferentiableObjective
from ..surrogates.alpha import rays

__all__ = ["Target"]

NEAR = 0.9  # costs below this part of the target are no better than it
LEAST = 0.02  # the preference for a cost that is no target
_READS = "a target reads NAME=NUMBER[UNIT], as in latency=2ms"


@dataclass(frozen=True)
class Target:
    """A cost at which the best metric is wanted.

    It is a limit. A cost of less than 90 % of it counts as 90 %, so that nothing is gained by less,
    and the other costs hardly count: the search looks below the target and near to it.

    >>> target = Target.parse("latency=1500us", ["error_percent", "latency_ms"], ["error_percent"])
    >>> str(target), str(target.constraint)
    ('latency_ms=1.5', 'latency_ms<=1.5')

    Attributes:
        column: of the cost.
        value: the cost, in the unit of the column.

    Raises:
        ValueError: the value is not above 0.
    """

    column: str
    value: float

    def __post_init__(self) -> None:
        if not self.value > 0:
            raise ValueError(f"a target must be above 0, got {self}")

    @classmethod
    def parse(
        cls, text: str, columns: Sequence[str], metrics: Sequence[str], measured: Sequence[str] = ()
    ) -> Target:
        """Read ``NAME=NUMBER[UNIT]``; names and units are those of `Constraint.parse`.

        Args:
            text: the target.
            columns: of all objectives.
            metrics: those of them that are improved at this cost.
            measured: those of them that are only measured, whether they are minimized or maximized.

        Raises:
            ValueError: it reads otherwise, names several costs, a metric, what is only measured, or
                what there is not.
        """
        if re.search("[<>]", text):
            raise ValueError(f"{_READS}; {text.strip()!r} is a limit: give it as a constraint")
        if "," in text:
            raise ValueError(
                f"a search has one target, and further limits are constraints, got {text!r}"
            )
        if not re.fullmatch(r"[^=]+=[^=]+", text):
            raise ValueError(f"{_READS}; got {text.strip()!r}")
        name, _, number = text.partition("=")
        try:
            ((column, value),) = Constraint.parse(f"{name}<={number}", columns).limits.items()
        except ValueError as error:
            if "a constraint reads" in str(error):
                raise ValueError(f"{_READS}; got {text.strip()!r}") from error
            raise
        if column in metrics:
            raise ValueError(
                f"a target is a cost; {column} is what is improved at that cost: give a limit on "
                "it as a constraint"
            )
        if column in measured:
            raise ValueError(
                f"a target is a cost with a gradient; {column} is only measured, on trained "
                "networks: give a limit on it as a constraint"
            )
        return cls(column, value)

    @classmethod
    def of(
        cls,
        value: object,
        columns: Sequence[str],
        metrics: Sequence[str],
        measured: Sequence[str] = (),
    ) -> Target | None:
        """A target from a `Target`, from text that `parse` reads, or from nothing.

        Raises:
            ValueError: it means nothing, or is on no cost.
            TypeError: something else was given.
        """
        if isinstance(value, str):
            return cls.parse(value, columns, metrics, measured)
        if isinstance(value, Target):
            return cls.parse(str(value), columns, metrics, measured)
        if value is None:
            return None
        raise TypeError(f"target must be a Target or a text such as 'latency=2ms', got {value!r}")

    @property
    def constraint(self) -> Constraint:
        """The limit."""
        return Constraint({self.column: self.value})

    def within(self, constraint: Constraint) -> Constraint:
        """The target as one more limit.

        Raises:
            ValueError: another limit on this cost is below it.
        """
        other = constraint.limits.get(self.column, self.value)
        if other < self.value:
            raise ValueError(f"the constraint {constraint} rules out the target {self}")
        limits = {**constraint.limits, self.column: self.value}
        return Constraint(limits, constraint.at_least)

    def aimed(self, costs: Sequence[DifferentiableObjective]) -> list[DifferentiableObjective]:
        """The costs; of that with the target nothing below counts."""
        return [
            AtLeast(cost, NEAR * self.value) if cost.column == self.column else cost
            for cost in costs
        ]

    def rays(self, columns: Sequence[str], metrics: int, count: int) -> Float[Tensor, "r m"]:
        """Preference vectors between the metrics, which are the first columns, and this cost."""
        spread = rays(metrics + 1, count)
        found = torch.full((len(spread), len(columns)), LEAST)
        wanted = [*range(metrics), columns.index(self.column)]
        found[:, wanted] = spread * (1 - LEAST * (len(columns) - len(wanted)))
        return found

    def __str__(self) -> str:
        return f"{self.column}={self.value:.12g}"


@dataclass(frozen=True, eq=False)
class AtLeast(DifferentiableObjective):
    """A cost of which smaller values than `least` count as this."""

    cost: DifferentiableObjective
    least: float

    @property
    def name(self) -> str:
        return self.cost.name

    @property
    def unit(self) -> str:
        return self.cost.unit

    @property
    def column(self) -> str:
        return self.cost.column

    def relaxed(self, probabilities: Float[Tensor, "*r K"]) -> Float[Tensor, "*r"]:
        return self.cost.relaxed(probabilities).clamp_min(self.least)

    def exact(self, architecture: Mapping[str, str]) -> float:
        return max(float(self.cost.exact(architecture)), self.least)
