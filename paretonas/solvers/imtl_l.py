"""IMTL-L: learned factors bring all losses to one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.solvers._learned import LossBalancing


@dataclass(frozen=True, eq=False)
class IMTLL(LossBalancing):
    """Multiply each loss by a learned factor, so that all scaled losses tend to 1.

    Minimizes sum_i exp(s_i) L_i - s_i over the gradients' parameters and s together. Weights are
    exp(s_i); s starts at 0 and approaches -log L_i. It uses values only. It may conflict. With
    s = -log variance it follows ``UncertaintyWeighting``, with twice its weights, but it assumes
    no distribution of the loss.

    Values must not be negative, because the formula then has no minimum. s is kept within
    [-50, 50], so that a loss of 0 does no harm.

    Attributes:
        lr: learning rate of the factors' own Adam.

    The state holds the log factors and Adam's moments. A call returns the weights before its own
    update.

    Raises:
        ValueError: lr is not positive; on a call, a value is negative.

    References:
        Liu et al., Towards Impartial Multi-Task Learning (ICLR 2021), the part on losses.

    >>> import torch
    >>> IMTLL()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([1., 1.])
    """

    _level: ClassVar[float] = 1.0
    _sign: ClassVar[float] = 1.0
