"""IMTL-L: losses brought to one scale by learned factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.solvers._learned import LossBalancing


@dataclass(frozen=True, eq=False)
class IMTLL(LossBalancing):
    """Multiply each loss by a learned factor, so that all scaled losses tend to 1.

    Minimizes sum_i exp(s_i) L_i - s_i over the gradients' parameters and s together. Weights are
    exp(s_i); s starts at 0 and tends to -log L_i. Looks at values only; may conflict. The same
    path as ``UncertaintyWeighting`` with s = -log variance and twice its weights, under other
    premises: no distribution of the loss is assumed.

    Values must not be negative, where the formula has no minimum; s is kept within [-50, 50], so
    that a loss of 0 does no harm.

    Attributes:
        lr: of the factors' own Adam.

    The state is the log factors and Adam's moments; weights are those before the call's own step.

    Raises:
        ValueError: lr is not positive; on a call, a value is negative.

    References:
        Liu et al., Towards Impartial Multi-Task Learning (ICLR 2021), the part on losses.

    >>> import torch
    >>> IMTLL()(torch.eye(2), torch.tensor([1.0, 4.0])).vector
    tensor([1., 1.])
    """

    level: ClassVar[float] = 1.0
    sign: ClassVar[float] = 1.0
