"""What can be said of a method from a few seeds: robust means, intervals, paired tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RESAMPLES = 2000


def interquartile_mean(values: ArrayLike) -> Array:
    """The mean of the middle half along the last axis: a quarter is left out at each end.

    Of n values ``n // 4`` are left out at each end, so that of three or fewer none is.

    >>> float(interquartile_mean([1.0, 2.0, 3.0, 100.0]))
    2.5

    References:
        Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice"
        (arXiv 2108.13264).
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    count = ordered.shape[-1]
    middle: Array = ordered[..., count // 4 : count - count // 4].mean(axis=-1)
    return middle


def bootstrap_interval(values: ArrayLike, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile interval of the interquartile mean, seeds drawn anew with replacement.

    Args:
        values: (n,) one for each seed.
        seed: of the draws; equal for all methods, so that the same seeds are drawn for each.
    """
    found = np.asarray(values, dtype=float)
    rows = np.random.default_rng(seed).integers(len(found), size=(RESAMPLES, len(found)))
    low, high = np.percentile(interquartile_mean(found[rows]), [2.5, 97.5])
    return float(low), float(high)


def signed_rank_p(differences: ArrayLike) -> float:
    """The two-sided p-value of Wilcoxon's signed-rank test, exact also where ranks are tied.

    Differences of 0 are left out. The distribution is that of all assignments of signs to the
    ranks at hand, so it needs no table and no normal approximation.

    >>> signed_rank_p([1.0, 2.0, 3.0, 4.0, 5.0])
    0.0625

    Args:
        differences: (n,) of paired values, such as of two methods on the same seeds.

    References:
        Wilcoxon 1945, "Individual Comparisons by Ranking Methods".
    """
    given = np.asarray(differences, dtype=float)
    given = given[given != 0]
    if not len(given):
        return 1.0
    _, inverse, counts = np.unique(np.abs(given), return_inverse=True, return_counts=True)
    # Twice the rank, so that the mean rank of tied values is whole.
    ranks = (2 * np.cumsum(counts) - counts + 1)[inverse]
    total = int(ranks.sum())
    likely = np.zeros(total + 1)
    likely[0] = 1.0
    for rank in ranks:
        shifted = np.zeros_like(likely)
        shifted[rank:] = likely[: total + 1 - rank]
        likely = (likely + shifted) / 2
    smaller = min(int(ranks[given > 0].sum()), int(ranks[given < 0].sum()))
    return float(min(1.0, 2 * likely[: smaller + 1].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for being several, by Holm's step-down method; in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]

    References:
        Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    corrected = [0.0] * len(p_values)
    worst = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        corrected[index] = worst
    return corrected
