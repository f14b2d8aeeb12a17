"""From the latency table of one device to that of another, by few measured networks.

Devices agree on what makes a network slow, and differ in how much. The costs of the parts on a new
device are unknown; their prior is a Gaussian around the costs on the known device. What may differ
is, from coarse to fine: the factor of all costs; a latency that is in no part; for each kind of
part, such as all convolutions of one size, its factor and the latency of starting it; and the
factor of each part. How much each of these differs is not known either: models are averaged by
their marginal likelihood. All are linear in the costs, so the result is a table.

The same prior says which networks to measure: those that leave the least variance in the latencies
of all others.

References:
    Gaussian prior on linear weights: Rasmussen and Williams 2006, section 2.1. Choosing by the
    variance that is left: Cohn 1996 ("Neural network exploration using optimal experiment design").
    The problem: HELP (Lee et al. 2021, arXiv 2106.08630); latencies of devices as proxies of each
    other (Lu et al. 2021, arXiv 2111.01203); predictors compared (Akhauri and Abdelfattah 2024,
    arXiv 2403.02446).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, diags_array

from ..space import Architecture, draw
from .calibration import Array, Calibration, Parts, changed
from .cost_table import CostTable

__all__ = ["chosen", "transferred"]

NETWORKS = 10
FEWEST = 3
POOL = 400  # architectures among which those to measure are chosen
# Standard deviations, as shares of what they belong to.
FACTOR = 1.0  # of all costs
SHIFT = 0.3  # of the typical latency
KINDS = (0.1, 0.3, 1.0)  # the factor of a kind
STARTING = (0.0, 0.3, 1.0)  # of the mean cost of a part
PARTS = (0.03, 0.1)  # the factor of a part
NOISES = (0.01, 0.03, 0.1)  # of a measured latency
MIDDLE = (KINDS[1], STARTING[1], PARTS[1], NOISES[1])


def transferred(
    table: CostTable,
    architectures: Sequence[Mapping[str, str]],
    ms: ArrayLike,
    *,
    about: Mapping[str, Any] | None = None,
) -> CostTable:
    """The latency table of another device, on which a few networks were measured.

    Its `about` has a `Calibration` by leave-one-out: each network is predicted by the others.

    Args:
        table: the latencies of parts on the known device, in any unit of time.
        architectures: n >= 3 of them, such as `chosen` names, measured on the other device.
        ms: (n,) their latencies in milliseconds.
        about: the origin of these: device, backend, versions.

    Raises:
        ValueError: there are fewer than 3, or not as many latencies, or one is not positive and
            finite; or the table knows none of the latencies, since it is 0 everywhere.
    """
    measured = _checked(ms, architectures)
    parts = Parts.of(table, [Architecture(a) for a in architectures])
    totals = _totals(parts)
    kinds = _kinds(table)

    def fitted(kept: NDArray[np.intp]) -> tuple[Array, float]:
        factor = float(np.median(measured[kept] / totals[kept]))
        prior = _Prior.of(kinds, parts.rows(kept), factor)
        return _lifted(table, *prior.posterior(parts.used[kept], measured[kept]))

    every = np.arange(len(measured))
    costs, shift = fitted(every)
    predicted = np.empty(len(measured))
    for one in every:
        own, constant = fitted(every[every != one])
        predicted[one] = parts.used[one] @ own + constant
    factor = float(np.median((parts.used @ costs) / totals))
    told = Calibration.of("transferred", shift, factor, predicted, measured)
    like = {k: table.about[k] for k in ("device", "backend", "threads") if k in table.about}
    return changed(table, costs, shift, {**(about or {}), "like": like, **told.about()})


def _totals(parts: Parts) -> Array:
    """(n,) what the known table gives each architecture."""
    totals = parts.used @ parts.costs
    if not np.all(totals > 0):
        raise ValueError("the known table must give each architecture a positive latency, got 0")
    return totals


def _lifted(table: CostTable, costs: Array, shift: float) -> tuple[Array, float]:
    """Costs and a constant that are not negative, for the same latencies if that is possible.

    Each architecture has one cost of each slot, so the least one of a slot may as well be in the
    constant, and so may what no choice changes.
    """
    costs, begin = costs.copy(), 0
    for slot in table.slots:
        own = costs[begin : begin + slot.values.numel()]
        begin += len(own)
        least = float(own.min()) if not slot.groups else min(0.0, float(own.min()))
        own -= least
        shift += least
    return costs, max(0.0, shift)


def chosen(
    table: CostTable, count: int = NETWORKS, among: Sequence[Architecture] | None = None
) -> list[Architecture]:
    """The networks to measure on another device: they leave the least variance in all others.

    They are chosen one after another, by the prior of `transferred`, and relative to the latency.

    Args:
        table: the latencies of parts on the known device.
        count: how many; fewer if there are not so many.
        among: the architectures to choose from; by default 400 random ones.

    Raises:
        ValueError: the table gives one of them no latency.
    """
    if among is None:
        rng = Random(0)
        among = [*{draw(table.choices, rng): None for _ in range(POOL)}]
    parts = Parts.of(table, among)
    totals = _totals(parts)
    prior = _Prior.of(_kinds(table), parts, 1.0)
    *scales, noise = MIDDLE
    blocks = prior.blocks(parts.used)
    left = sum(s**2 * b @ b.T for s, b in zip(prior.scales(scales), blocks, strict=True))
    left = left / np.outer(totals, totals)
    found: list[int] = []
    for _ in range(min(count, len(among))):
        gain = (left**2).sum(axis=0) / (left.diagonal() + noise**2)
        gain[found] = -1.0
        best = int(np.argmax(gain))
        found.append(best)
        left = left - np.outer(left[best], left[best]) / (left[best, best] + noise**2)
    return [among[index] for index in found]


def _kinds(table: CostTable) -> csr_array:
    """(N, q) 1 where a part has a group of options; parts that share one are of one kind."""
    rows, columns, numbers, part = list[int](), list[int](), dict[tuple[str, ...], int](), 0
    for slot in table.slots:
        for groups in product(*slot.groups.values()):
            for group in groups:
                rows.append(part)
                columns.append(numbers.setdefault(group, len(numbers)))
            part += 1
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(part, len(numbers)))


def _checked(ms: ArrayLike, architectures: Sequence[Mapping[str, str]]) -> Array:
    measured = np.asarray(ms, dtype=np.float64)
    if measured.shape != (len(architectures),):
        raise ValueError(
            f"there must be one latency for each of {len(architectures)} architectures, got shape "
            f"{measured.shape}"
        )
    if len(measured) < FEWEST:
        raise ValueError(f"at least {FEWEST} networks must be measured, got {len(measured)}")
    for architecture, value in zip(architectures, measured, strict=True):
        if not (np.isfinite(value) and value > 0):
            raise ValueError(
                f"latencies must be positive and finite, got {value} for {architecture}"
            )
    return measured


@dataclass(frozen=True)
class _Prior:
    """What is known of the costs on another device before any network is measured there.

    Attributes:
        mean: (N,) the costs of the known device, times the factor of the other.
        typical: a typical latency on the other device.
        directions: sparse (N, q) matrices of what may be added to the costs, each in units of its
            standard deviation: for the factor of all, the factors of kinds, the starting of parts
            of a kind, and single parts.
    """

    mean: Array
    typical: float
    directions: tuple[csr_array, ...]

    @classmethod
    def of(cls, kinds: csr_array, parts: Parts, factor: float) -> _Prior:
        """From the kinds of the parts of a table, some architectures, and the device's factor."""
        mean = factor * parts.costs
        typical = float(np.median(parts.used @ mean))
        start = typical / max(1.0, float(np.mean(parts.used @ (mean > 0))))
        sizes = diags_array(np.hypot(mean, start))
        directions = (mean[:, None], diags_array(mean) @ kinds, start * kinds, sizes)
        return cls(mean, typical, tuple(csr_array(one) for one in directions))

    def blocks(self, used: Array) -> list[Array]:
        """For each direction, and last for the constant: (n, q) what it adds to latencies."""
        constant = np.full((len(used), 1), self.typical)
        return [*(used @ direction for direction in self.directions), constant]

    @staticmethod
    def scales(sizes: Sequence[float]) -> list[float]:
        """The standard deviation of each block, from those that are not known."""
        return [FACTOR, *sizes, SHIFT]

    def posterior(self, used: Array, measured: Array) -> tuple[Array, float]:
        """(N,) the expected costs, and the constant, if these latencies were measured."""
        blocks = self.blocks(used)
        grams = np.array([block @ block.T for block in blocks])
        models = np.array([self.scales(sizes) for sizes in product(KINDS, STARTING, PARTS)])
        covariances = np.einsum("mb,bij->mij", models**2, grams)
        noises = np.array(NOISES)[:, None] * measured
        covariances = covariances[:, None] + noises[:, :, None] ** 2 * np.eye(len(measured))
        roots = np.linalg.cholesky(covariances)
        rest = measured - used @ self.mean
        whitened = np.linalg.solve(roots, rest[:, None])[..., 0]
        determinants = np.log(np.diagonal(roots, axis1=-2, axis2=-1)).sum(-1)
        evidence = -0.5 * (whitened**2).sum(-1) - determinants
        weights = np.exp(evidence - evidence.max())
        weights /= weights.sum()
        duals = np.linalg.solve(np.swapaxes(roots, -1, -2), whitened[..., None])[..., 0]
        mixed = np.einsum("mk,mb,mki->bi", weights, models**2, duals)
        steps = [block.T @ dual for block, dual in zip(blocks, mixed, strict=True)]
        costs = self.mean + sum(d @ s for d, s in zip(self.directions, steps[:-1], strict=True))
        return costs, float(self.typical * steps[-1][0])
