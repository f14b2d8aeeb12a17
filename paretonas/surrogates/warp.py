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
ROUNDING = 1e-12  # relative difference up to which costs are equal
LEAST = 0.5  # a cost is predicted to be at least this part of the lowest that was measured
SPAN = 20.0  # logarithms that are farther apart than this are not warped


@dataclass(frozen=True)
class Warp:
    """z = (cost - mean) / spread, or the same of log(cost - floor) for costs with a long tail.

    The floor is below the lowest cost by a part of their range, so zeros, ties and negative costs
    are no special cases. Costs are divided by a `unit` first, so that no square overflows.

    Attributes:
        floor: no cost is below it; None if no logarithm is taken.
        mean: of the costs or their logarithms.
        spread: their standard deviation.
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
        if reach <= ROUNDING * most:
            reach = max(1.0, most)
        floor = None if shift is None else float(costs.min()) - shift * reach
        raw = costs if floor is None else np.log(costs - floor)
        spread = float(raw.std())
        alike = spread <= ROUNDING * (reach if floor is None else 1.0)
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
        """The log of the density of costs in their unit, minus that of their warped values."""
        log = -len(costs) * np.log(self.spread)
        if self.floor is None:
            return float(log)
        return float(log - np.log(costs / self.unit - self.floor).sum())

    def expected_improvement(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Matrix
    ) -> Float[Matrix, "k b"]:
        """The expected improvement E[max(0, threshold - cost)] of k costs, their warps normal.

        With a logarithm this is the price of a put option (Black and Scholes 1973).
        """
        thresholds = thresholds / self.unit
        middle, width = mean * self.spread + self.mean, deviation * self.spread
        if self.floor is None:
            return normal_expected_improvement(middle, width, thresholds) * self.unit
        over = np.maximum(thresholds - self.floor, 1e-300)
        middle, width = middle[:, None], width[:, None]
        u = (np.log(over) - middle) / width
        expected = np.exp(np.minimum(middle + 0.5 * width**2, self._largest))
        return (
            np.maximum(0.0, over * _normal_cdf(u) - expected * _normal_cdf(u - width)) * self.unit
        )

    def log_probability_below(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], threshold: float
    ) -> Float[Matrix, " k"]:
        """The logarithm of the probability that a cost is below a threshold, its warp normal."""
        scaled = threshold / self.unit
        raw = scaled if self.floor is None else float(np.log(max(scaled - self.floor, 1e-300)))
        return _log_normal_cdf(((raw - self.mean) / self.spread - mean) / deviation)

    @property
    def _largest(self) -> float:
        """The logarithm of the largest cost that is represented, about 1e304 in any unit."""
        return 700.0 - max(0.0, float(np.log(self.unit)))


@dataclass(frozen=True)
class ExponentialWarp:
    """z = (exp(cost - low) - mean) / spread, where costs are logarithms.

    Parameters and latencies are sums over the operations of a network. The sum is linear in the
    features and its logarithm is not, so the sum is modeled also where the logarithm counts.

    Attributes:
        low: the lowest of the logarithms.
        mean: of the exponentials.
        spread: their standard deviation.
    """

    low: float
    mean: float
    spread: float

    @classmethod
    def of(cls, costs: Float[Matrix, " k"]) -> ExponentialWarp | None:
        """The warp that standardizes these costs; None if they are equal or too far apart."""
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

    def expected_improvement(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Matrix
    ) -> Float[Matrix, "k b"]:
        """The expected improvement E[max(0, threshold - cost)] of k costs, their warps normal.

        The exponential of a cost is approximated by a lognormal variable with the same mean and
        variance.
        """
        middle = np.maximum(mean * self.spread + self.mean, LEAST)
        variance = np.log1p(np.square(deviation * self.spread / middle))
        return normal_expected_improvement(
            np.log(middle) - 0.5 * variance + self.low, np.sqrt(variance), thresholds
        )

    def log_probability_below(
        self, mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], threshold: float
    ) -> Float[Matrix, " k"]:
        """The logarithm of the probability that a cost is below a threshold, its warp normal."""
        raw = float(np.exp(min(threshold - self.low, 700.0)))
        return _log_normal_cdf(((raw - self.mean) / self.spread - mean) / deviation)


def unit(values: Matrix) -> float:
    """A power of two; values divided by it have squares and cubes that neither over- nor underflow.

    It is 1 for all values between 1e-38 and 1e38. Division by it is exact.
    """
    most = float(np.abs(values).max(initial=0.0))
    exponent = int(np.frexp(most)[1])
    return 2.0 ** (256 * max(-3, min(3, round(exponent / 256))))


def normal_expected_improvement(
    mean: Float[Matrix, " k"], deviation: Float[Matrix, " k"], thresholds: Float[Matrix, " b"]
) -> Float[Matrix, "k b"]:
    """The expected improvement E[max(0, threshold - cost)] of normal costs (Jones et al. 1998)."""
    below, deviation = thresholds - mean[:, None], deviation[:, None]
    u = below / deviation
    density = np.exp(-0.5 * np.square(u)) / np.sqrt(2 * np.pi)
    return np.asarray(below * _normal_cdf(u) + deviation * density)


def _log_normal_cdf(u: Matrix) -> Matrix:
    return np.asarray(torch.special.log_ndtr(torch.from_numpy(u)).numpy())


def _normal_cdf(u: Matrix) -> Matrix:
    """The normal distribution function."""
    return np.asarray(torch.special.ndtr(torch.from_numpy(u)).numpy())
