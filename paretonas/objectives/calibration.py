"""Calibration of a latency table: fit the sums of its parts to whole measured architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..devices.timer import measure_in_turn, repeated_network
from ..nn import Supernet
from ..space import draw
from .cost_table import CostTable
from .parts import observer

ARCHITECTURES = 12  # measured architectures, spread over the range of the table
SECONDS = 2.0  # time for the measurement


@dataclass(frozen=True)
class Calibration:
    """The line ``shift_ms + factor * sum of the parts`` through measured architectures.

    Attributes:
        shift_ms: the latency that is in no part, 0 or more.
        factor: the factor of the sum, positive.
        rank_correlation: Spearman's rank correlation of the sum and the measured latency; None if
            there is nothing to rank.
        architectures: the number of measured architectures.
    """

    shift_ms: float
    factor: float
    rank_correlation: float | None
    architectures: int


def calibrate(
    table: CostTable,
    supernet: Supernet,
    example: Any,
    *,
    device: torch.device,
    threads: int,
    progress: Callable[[int, int], None] | None = None,
) -> Calibration:
    """Time architectures from the fastest to the slowest in the table, and fit a line."""
    rng = Random(0)
    drawn = {supernet.canonical(draw(supernet.choices, rng)) for _ in range(400)}
    ranked = sorted(drawn, key=lambda a: (table.total_at(a), str(a)))
    spread = np.linspace(0, len(ranked) - 1, min(ARCHITECTURES, len(ranked))).round().astype(int)
    observe = observer(supernet, example)
    chosen = list(dict.fromkeys(observe(ranked[index]).architecture for index in spread))
    networks = [supernet.extract(a).to(device).eval() for a in chosen]
    times = measure_in_turn(
        [repeated_network(n, example, device) for n in networks],
        threads=threads,
        device=device,
        seconds=SECONDS,
        progress=progress,
    )
    predicted = np.array([table.total_at(a) for a in chosen])
    measured = np.array([time.median_ms for time in times])
    factor, shift = fit(predicted, measured)
    correlation = rank_correlation(predicted, measured)
    return Calibration(shift, factor, None if np.isnan(correlation) else correlation, len(chosen))


def fit(predicted: np.ndarray, measured: np.ndarray) -> tuple[float, float]:
    """Factor and shift of a robust line through the points; neither is negative.

    The slope is the median over pairs of points (Theil 1950, Sen 1968), so a few disturbed
    measurements have no effect. If the slope or the shift would be negative, the line goes through
    zero.
    """
    low, high = np.triu_indices(len(predicted), 1)
    apart = predicted[high] - predicted[low]
    rises = (measured[high] - measured[low])[apart != 0] / apart[apart != 0]
    if len(rises) > 0:
        factor = float(np.median(rises))
        shift = float(np.median(measured - factor * predicted))
        if factor > 0 and shift >= 0:
            return factor, shift
    return float(np.median(measured / predicted)), 0.0


def rank_correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Spearman's rank correlation; ties share their mean rank. It is nan if nothing can be ranked.

    >>> rank_correlation([1, 2, 3], [10, 30, 20])
    0.5
    """
    ranks = [_ranks(np.asarray(values, dtype=float)) for values in (one, other)]
    if len(ranks[0]) == 0 or min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    first, second = (rank - rank.mean() for rank in ranks)
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def _ranks(values: np.ndarray) -> np.ndarray:
    below = (values[None, :] < values[:, None]).sum(axis=1)
    equal = (values[None, :] == values[:, None]).sum(axis=1)
    return np.asarray(below + (equal - 1) / 2)
