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
ALIKE = 1e-12  # part of their size by which costs differ that are equal but for rounding


@dataclass(frozen=True)
class Warp:
    """z = (cost - mean) / spread, or the same of log(cost - floor), where costs have a long tail.

    The floor lies below the lowest cost, by a part of their range, so that zeros, ties and negative
    costs are no special cases. Costs are counted in a `unit` first, so that no square overflows.

    Attributes:
        floor: below which there is no cost; None where no logarithm is taken.
        mean: of what is to be standardized.
        spread: likewise.
        unit: of the three numbers above.
    """

    floor: float | None
    mean: float
    spread: float
    unit: float = 1.0

    @classmethod
    def of(cls, costs: Float[Matrix, " k"], shift: float | None) -> Warp:
        """The warp that standardizes these costs; `shift` is the part of the range, or None."""
        scale = unit(costs)
        costs = costs / scale
        most, reach = float(np.abs(costs).max()), float(np.ptp(costs))
        if reach <= ALIKE * most:
            reach = max(1.0, most)
        floor = None if shift is None else float(costs.min()) - shift * reach
        raw = costs if floor is None else np.log(costs - floor)
        spread = float(raw.std())
        alike = spread <= ALIKE * (reach if floor is None else 1.0)
        return cls(floor, float(raw.mean()), 1.0 if alike else spread, scale)

    def __call__(self, costs: Float[Matrix, " k"]) -> Float[Matrix, " k"]:
        """Costs on the new scale."""
        costs = costs / self.unit
        raw = costs if self.floor is None else np.log(costs - self.floor)
        warped: Matrix = (raw - self.mean) / self.spread
        return warped

    def undo(self, warped: Float[Tensor, "*k"]) -> Float[Tensor, "*k"]:
        """The costs themselves; differentiable."""
        raw = warped * self.spread + self.mean
        costs = raw if self.floor is None else raw.clamp_max(self._largest).exp() + self.floor
        return costs * self.unit

    def log_jacobian(self, costs: Float[Matrix, " k"]) -> float:
        """The log of the density of costs in their unit, less that of their warped values."""
        log = -len(costs) * np.log(self.spread)
        if self.floor is None:
            return float(log)
        return float(log - np.log(costs / self.unit - self.floor).sum())

    def shortfall(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Matrix
    ) -> Float[Matrix, "k b"]:
        """E[max(0, threshold - cost)], where warped costs are normal: (k,) of them, (b,) of these.

        With a logarithm this is the price of an option to sell (Black and Scholes 1973).
        """
        thresholds = thresholds / self.unit
        middle, width = mean * self.spread + self.mean, deviation * self.spread
        if self.floor is None:
            return normal_shortfall(middle, width, thresholds) * self.unit
        over = np.maximum(thresholds - self.floor, 1e-300)
        middle, width = middle[:, None], width[:, None]
        u = (np.log(over) - middle) / width
        expected = np.exp(np.minimum(middle + 0.5 * width**2, self._largest))
        return np.maximum(0.0, over * _below(u) - expected * _below(u - width)) * self.unit

    @property
    def _largest(self) -> float:
        """The logarithm of the largest cost that is told apart: about 1e304 in any unit."""
        return 700.0 - max(0.0, float(np.log(self.unit)))


def unit(values: Matrix) -> float:
    """A power of two to count values in, of which neither squares nor cubes leave the floats.

    It is 1 for all values between 1e-38 and 1e38, and divides and multiplies others exactly.
    """
    most = float(np.abs(values).max(initial=0.0))
    exponent = int(np.frexp(most)[1])
    return 2.0 ** (256 * max(-3, min(3, round(exponent / 256))))


def normal_shortfall(
    mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Float[Matrix, " b"]
) -> Float[Matrix, "k b"]:
    """E[max(0, threshold - cost)] of normal costs."""
    below, deviation = thresholds - mean[:, None], deviation[:, None]
    u = below / deviation
    density = np.exp(-0.5 * np.square(u)) / np.sqrt(2 * np.pi)
    return np.asarray(below * _below(u) + deviation * density)


def _below(u: Matrix) -> Matrix:
    """The normal distribution function."""
    return np.asarray(torch.special.ndtr(torch.from_numpy(u)).numpy())
