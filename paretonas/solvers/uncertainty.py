"""Uncertainty weighting: losses divided by their learned variances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.solvers._learned import LossBalancing


@dataclass(frozen=True, eq=False)
class UncertaintyWeighting(LossBalancing):
    """Weigh each loss by the inverse of its noise, learned on the way.

    Minimizes sum_i exp(-s_i) L_i / 2 + s_i / 2 over the gradients' parameters and the log variances
    s together. Weights are exp(-s_i) / 2, s starts at 0 and tends to log L_i, so in the end each
    loss is divided by about its own size. Looks at values only; may conflict.

    Values must not be negative: there the formula has no minimum (s falls without end, and the
    weights overflow). At a value of 0 neither, but a loss that is solved to the last digit is no
    error, so s is kept within [-50, 50].

    Attributes:
        lr: of the log variances' own Adam.

    The state is the log variances and Adam's moments; weights are those before the call's own step.

    Raises:
        ValueError: lr is not positive; on a call, a value is negative.

    References:
        Kendall, Gal and Cipolla, Multi-Task Learning Using Uncertainty to Weigh Losses for Scene
        Geometry and Semantics (2018), arXiv 1705.07115; with the log variance as in its code.

    >>> import torch
    >>> UncertaintyWeighting()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([0.5000, 0.5000])
    """

    level: ClassVar[float] = 0.5
    sign: ClassVar[float] = -1.0
