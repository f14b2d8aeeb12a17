"""Ready metrics; each sees one batch after the other, so that no outputs are kept."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..metric import Metric

__all__ = ["error"]


class _Wrong:
    """Counts wrong answers."""

    def __init__(self, ignore_index: int) -> None:
        self._ignored = ignore_index
        self.reset()

    def reset(self) -> None:
        self._wrong: Any = 0
        self._seen: Any = 0

    def update(self, output: Tensor, target: Tensor) -> None:
        counted = target != self._ignored
        self._wrong = self._wrong + ((output.argmax(dim=1) != target) & counted).sum()
        self._seen = self._seen + counted.sum()

    def compute(self) -> float:
        return 100 * float(self._wrong) / max(1.0, float(self._seen))


def error(
    *, worst: float = 100.0, resolution: float | None = None, ignore_index: int = -100
) -> Metric:
    """Wrong answers in percent: outputs are scores, (batch, classes, ...)."""
    return Metric("error", _Wrong(ignore_index), unit="percent", worst=worst, resolution=resolution)
