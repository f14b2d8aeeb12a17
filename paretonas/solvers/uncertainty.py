"""Uncertainty weighting: divide each loss by its learned variance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.solvers._learned import LossBalancing


@dataclass(frozen=True, eq=False)
class UncertaintyWeighting(LossBalancing):
    """Weigh each loss by the inverse of its noise, which is learned during the training.

    Minimizes sum_i exp(-s_i) L_i / 2 + s_i / 2 over the gradients' parameters and the log variances
    s together. The weights are exp(-s_i) / 2. s starts at 0 and approaches log L_i, so in the end
    each loss is divided by about its own size. It uses values only. It may conflict.

    Values must not be negative, because the formula then has no minimum (s decreases forever, and
    the weights overflow). There is no minimum at a value of 0 either, but a loss of exactly 0 is
    not an error, so s is kept within [-50, 50].

    Attributes:
        lr: learning rate of the log variances' own Adam.

    The state holds the log variances and Adam's moments. A call returns the weights before its own
    update.

    Raises:
        ValueError: lr is not positive; on a call, a value is negative.

    References:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics (2018), arXiv 1705.07115; with the log variance as in its code.

    >>> import torch
    >>> UncertaintyWeighting()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([0.5000, 0.5000])
    """

    _level: ClassVar[float] = 0.5
    _sign: ClassVar[float] = -1.0
