"""Logarithms of costs, seen as the costs themselves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .warp import normal_shortfall

Matrix = NDArray[np.float64]

LEAST = 0.5  # no cost is believed to be below this part of the lowest that was measured
SPAN = 20.0  # logarithms that are farther apart stay logarithms


@dataclass(frozen=True)
class Unlogged:
    """z = (exp(cost - low) - mean) / spread.

    Parameters and latencies are sums over the operations of a network, and what is linear in
    features is their sum, not its logarithm, even where it is the logarithm that counts.

    Attributes:
        low: the lowest of the logarithms.
        mean: of what is to be standardized.
        spread: likewise.
    """

    low: float
    mean: float
    spread: float

    @classmethod
    def of(cls, costs: Float[Matrix, " k"]) -> Unlogged | None:
        """The warp that standardizes these costs; None if they are alike or too far apart."""
        low, reach = float(costs.min()), float(np.ptp(costs))
        if not 0 < reach < SPAN:
            return None
        raw = np.exp(costs - low)
        return cls(low, float(raw.mean()), float(raw.std()))

    def __call__(self, costs: Float[Matrix, " k"]) -> Float[Matrix, " k"]:
        """Costs on the new scale."""
        warped: Matrix = (np.exp(costs - self.low) - self.mean) / self.spread
        return warped

    def undo(self, warped: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        """The logarithms of costs; differentiable."""
        raw = warped * self.spread + self.mean
        return raw.clamp_min(LEAST).log() + self.low

    def log_jacobian(self, costs: Float[Matrix, " k"]) -> float:
        """The log of the density of costs, less that of their warped values."""
        return float((costs - self.low).sum() - len(costs) * np.log(self.spread))

    def shortfall(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Matrix
    ) -> Float[Matrix, "k b"]:
        """E[max(0, threshold - cost)], where warped costs are normal: (k,) of them, (b,) of these.

        An unlogged cost is taken as lognormal, with the mean and the variance that it has.
        """
        middle = np.maximum(mean * self.spread + self.mean, LEAST)
        variance = np.log1p(np.square(deviation * self.spread / middle))
        return normal_shortfall(
            np.log(middle) - 0.5 * variance + self.low, np.sqrt(variance), thresholds
        )
