"""The metric of a task, in the user's own direction and unit."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeGuard

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from .direction import turned

__all__ = ["Metric", "Streaming"]


# Columns of the files of a run.
RESERVED = frozenset(
    (
        "id",
        "loss",
        "origin",
        "epochs",
        "step",
        "phase",
        "seconds",
        "hypervolume",
        "stationarity_gap",
    )
)


class Streaming(Protocol):
    """A metric that sees one batch after the other, as those of torchmetrics and torcheval do."""

    def update(self, output: Any, target: Any) -> object:
        """Take a batch into account."""
        ...

    def compute(self) -> Any:
        """The value over all batches so far."""
        ...


@dataclass(frozen=True)
class Metric:
    """A measure of quality that files, pages and messages show in its own direction and unit.

    >>> rmse = Metric("rmse", lambda output, target: (output - target).square().mean().sqrt())
    >>> rmse.column, Metric("top1", maximize=True, unit="percent", best=100).column
    ('rmse', 'top1_percent')

    Attributes:
        name: the name, such as ``"miou"``.
        function: computes the value from the outputs and the targets of a whole split, joined along
            their first dimension and on the CPU. Or an object with ``update(output, target)`` and
            ``compute()``, which sees batch after batch, or its class. None if the task computes
            the value itself.
        maximize: whether larger values are better.
        unit: the unit, such as ``"percent"``; empty for a plain number.
        worst: the worst value that still counts, the reference of the hypervolume.
        best: the best possible value, if there is one; the search then models the distance to it on
            a logarithmic scale. By default 0 if the metric is minimized.
        resolution: the smallest difference that counts, such as that of one example; None if it is
            not known.

    Raises:
        ValueError: the name or the unit is not a word, or a number is not finite.
        TypeError: the function cannot be called and has no ``update`` and ``compute``.
    """

    name: str
    function: Callable[..., Any] | Streaming | None = None
    maximize: bool = False
    unit: str = ""
    worst: float | None = None
    best: float | None = None
    resolution: float | None = None

    def __post_init__(self) -> None:
        for what, word in (("name", self.name), ("unit", self.unit or "none")):
            if not isinstance(word, str) or not re.fullmatch(r"[A-Za-z]\w*", word):
                raise ValueError(
                    f"the {what} of a metric is a word of letters, digits and '_', got {word!r}"
                )
        if self.column in RESERVED or self.column.startswith(("test_", "cosine_")):
            raise ValueError(f"a metric cannot be called {self.column!r}: files use this name")
        if not isinstance(self.maximize, bool):
            raise TypeError(f"maximize must be True or False, got {self.maximize!r}")
        if self.function is not None and not (callable(self.function) or _streams(self.function)):
            raise TypeError(
                f"the function of the metric {self.name!r} must be callable, or have update and "
                f"compute, got {self.function!r}"
            )
        if self.best is None and not self.maximize:
            object.__setattr__(self, "best", 0.0)
        for what in ("worst", "best", "resolution"):
            value = getattr(self, what)
            if value is not None and (isinstance(value, str) or not math.isfinite(value)):
                raise ValueError(
                    f"the {what} value of {self.name} must be a finite number, got {value!r}"
                )
        worst, best = self.worst, self.best
        if worst is not None and best is not None and self.cost(worst) < self.cost(best):
            raise ValueError(
                f"the worst value of {self.name}, {self.worst}, is better than the best, "
                f"{self.best}"
            )
        if self.resolution is not None and self.resolution <= 0:
            raise ValueError(
                f"the resolution of {self.name} must be positive, got {self.resolution}"
            )

    @property
    def column(self) -> str:
        """The name in files, with the unit, such as ``"error_percent"``."""
        return f"{self.name}_{self.unit}" if self.unit else self.name

    def cost(self, value: float) -> float:
        """The value as a cost: lower is better."""
        return turned(value, self.maximize)

    def value(self, cost: float) -> float:
        """The value of a cost; the inverse of `cost`."""
        return turned(cost, self.maximize)

    def begin(self, device: torch.device | str = "cpu") -> Streaming:
        """A fresh object that sees batches, which are on a device, and computes the value.

        Raises:
            TypeError: the metric has no function.
        """
        function = self.function
        if function is None:
            raise TypeError(f"the metric {self.name!r} has no function to compute it")
        if _streams(function) and not isinstance(function, type):
            fresh = copy.deepcopy(function)
            reset = getattr(fresh, "reset", None)
            if callable(reset):
                reset()
            return _on(fresh, device)
        if isinstance(function, type):
            return _on(function(), device)
        assert callable(function)
        return _Whole(self.name, function)


class _Whole:
    """Collects outputs and targets, and calls a function on all of them."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name, self._function = name, function
        self._seen: list[tuple[Any, Any]] = []

    def update(self, output: Any, target: Any) -> None:
        self._seen.append(
            tree_map(lambda v: v.detach().cpu() if isinstance(v, Tensor) else v, (output, target))
        )

    def compute(self) -> Any:
        try:
            output, target = tree_map(self._joined, *self._seen)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"the metric {self._name!r} cannot join the outputs of all batches: {error}; give "
                "an object with update(output, target) and compute() instead of a function"
            ) from error
        return self._function(output, target)

    @staticmethod
    def _joined(*parts: Any) -> Any:
        if not isinstance(parts[0], Tensor):
            return parts[0]
        return torch.cat(parts) if parts[0].ndim else torch.stack(parts)


def _on(metric: Any, device: torch.device | str) -> Streaming:
    """The same metric, with its tensors on a device, if it has any."""
    move = getattr(metric, "to", None)
    if callable(move):
        move(device)
    streaming: Streaming = metric
    return streaming


def _streams(function: object) -> TypeGuard[Streaming]:
    return callable(getattr(function, "update", None)) and callable(
        getattr(function, "compute", None)
    )
