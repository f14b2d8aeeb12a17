"""Scales on which costs look like draws of a Gaussian process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]

SHIFTS = (None, 0.3, 0.05, 0.01)  # None: costs as they are


@dataclass(frozen=True)
class Warp:
    """z = (cost - mean) / spread, or the same of log(cost - floor), where costs have a long tail.

    The floor lies below the lowest cost, by a part of their range, so that zeros, ties and negative
    costs are no special cases.

    Attributes:
        floor: below which there is no cost; None where no logarithm is taken.
        mean: of what is to be standardized.
        spread: likewise.
    """

    floor: float | None
    mean: float
    spread: float

    @classmethod
    def of(cls, costs: Float[Matrix, " k"], shift: float | None) -> Warp:
        """The warp that standardizes these costs; `shift` is the part of the range, or None."""
        reach = float(np.ptp(costs)) or 1.0
        floor = None if shift is None else float(costs.min()) - shift * reach
        raw = costs if floor is None else np.log(costs - floor)
        spread = float(raw.std())
        return cls(floor, float(raw.mean()), spread if spread > 1e-12 * reach else 1.0)

    def __call__(self, costs: Float[Matrix, " k"]) -> Float[Matrix, " k"]:
        """Costs on the new scale."""
        raw = costs if self.floor is None else np.log(costs - self.floor)
        warped: Matrix = (raw - self.mean) / self.spread
        return warped

    def undo(self, warped: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        """The costs themselves; differentiable."""
        raw = warped * self.spread + self.mean
        return raw if self.floor is None else raw.clamp_max(700.0).exp() + self.floor

    def log_jacobian(self, costs: Float[Matrix, " k"]) -> float:
        """The log of the density of costs, less that of their warped values."""
        log = -len(costs) * np.log(self.spread)
        return float(log if self.floor is None else log - np.log(costs - self.floor).sum())

    def shortfall(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Matrix
    ) -> Float[Matrix, "k b"]:
        """E[max(0, threshold - cost)], where warped costs are normal: (k,) of them, (b,) of these.

        With a logarithm this is the price of an option to sell (Black and Scholes 1973).
        """
        middle = (mean * self.spread + self.mean)[:, None]
        width = (deviation * self.spread)[:, None]
        if self.floor is None:
            u = (thresholds - middle) / width
            density = np.exp(-0.5 * np.square(u)) / np.sqrt(2 * np.pi)
            return np.asarray((thresholds - middle) * _below(u) + width * density)
        over = np.maximum(thresholds - self.floor, 1e-300)
        u = (np.log(over) - middle) / width
        expected = np.exp(np.minimum(middle + 0.5 * width**2, 700.0))
        return np.maximum(0.0, over * _below(u) - expected * _below(u - width))


def _below(u: Matrix) -> Matrix:
    """The normal distribution function."""
    return np.asarray(torch.special.ndtr(torch.from_numpy(u)).numpy())
