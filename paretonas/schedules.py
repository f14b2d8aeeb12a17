"""A learning rate schedule that takes smaller steps while gradients conflict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["ConflictAwareLR"]


class ConflictAwareLR(LRScheduler):
    """Shrink the learning rate while gradients conflict, and grow it back when they agree.

    A non-conflicting direction is safe only to first order. In a longer step curvature undoes more
    of the progress, most of all where gradients conflict. Each observation of cosines updates a
    running mean of the conflict, 1 - cosine of the worst pair: 0 for gradients that agree, 1 for
    orthogonal ones, 2 for opposite ones. While it is above ``threshold``, each observation
    multiplies the learning rate by ``shrink``, down to ``smallest`` times the full rate. Otherwise
    it multiplies the rate by ``grow``, up to the full rate and never above.

    Like the recursive schedulers of torch, it multiplies the rates that are in the optimizer, the
    same way for all parameter groups. So it works together with others in ``ChainedScheduler`` and
    ``SequentialLR``; call ``observe`` there. Some schedulers compute the rate from the step number
    (``LambdaLR``, ``OneCycleLR``, ``CosineAnnealingWarmRestarts``, or ``CosineAnnealingLR`` with
    ``eta_min`` above 0). They would undo its work or be disturbed by it. Pass such a scheduler as
    ``inner``: it then sees only its own rates, and this one steps it.

    A parameter group that is added later is scaled from the next step on, like the others. An
    ``inner`` scheduler must allow this (torch's recursive schedulers do, ``LambdaLR`` does not).

    Attributes:
        factor: the current factor of the learning rate, in [smallest, 1].
        conflict: running mean of 1 - cosine of the worst pair; None before the first observation.

    Args:
        optimizer: the optimizer whose learning rates are set.
        threshold: the rate shrinks while the conflict is above this number in [0, 2). At 1 the
            worst pair is orthogonal. Among several tasks the worst pair nearly always conflicts, so
            a threshold of 1 keeps the rate at its smallest forever. The default, 1.5, reacts to
            angles above 120 degrees.
        shrink: in (0, 1).
        grow: at least 1; with 1 the rate never grows back.
        smallest: in (0, 1].
        smoothing: weight of the past in the running mean, in [0, 1); with 0 only the last
            observation counts.
        inner: a scheduler of the same optimizer whose rates are scaled.

    Raises:
        ValueError: an argument is out of its range, or ``inner`` has another optimizer.

    >>> import torch
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> schedule = ConflictAwareLR(
    ...     optimizer, threshold=1.0, shrink=0.5, grow=1.5, smoothing=0.0
    ... )
    >>> for cosine in (0.3, -0.2, -0.9, 0.1, 0.1):
    ...     optimizer.step()
    ...     schedule.step(cosines=cosine)
    ...     print(schedule.get_last_lr())
    [1.0]
    [0.5]
    [0.25]
    [0.375]
    [0.5625]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        threshold: float = 1.5,
        shrink: float = 0.98,
        grow: float = 1.02,
        smallest: float = 0.2,
        smoothing: float = 0.9,
        inner: LRScheduler | None = None,
    ) -> None:
        """Check the arguments; the learning rate does not change."""
        for name, value, fits, rule in (
            ("threshold", threshold, 0 <= threshold < 2, "in [0, 2)"),
            ("shrink", shrink, 0 < shrink < 1, "in (0, 1)"),
            ("grow", grow, 1 <= grow < math.inf, "finite and at least 1"),
            ("smallest", smallest, 0 < smallest <= 1, "in (0, 1]"),
            ("smoothing", smoothing, 0 <= smoothing < 1, "in [0, 1)"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {rule}, got {value}")
        if inner is not None and inner.optimizer is not optimizer:
            raise ValueError("inner must schedule the same optimizer, got one of another")
        self.threshold = threshold
        self.shrink = shrink
        self.grow = grow
        self.smallest = smallest
        self.smoothing = smoothing
        self.inner = inner
        self.factor = 1.0
        self.conflict: float | None = None
        self._applied: list[float] = []  # the factors that are in the optimizer's rates
        self._plain: list[float] = []  # the rates of inner
        super().__init__(optimizer)

    def __repr__(self) -> str:
        seen = "no conflict seen" if self.conflict is None else f"conflict {self.conflict:.3g}"
        return f"ConflictAwareLR(threshold {self.threshold:g}, factor {self.factor:.3g}, {seen})"

    def observe(self, cosines: float | Tensor) -> None:
        """Record the cosines between gradients; the next step uses them.

        Args:
            cosines: one or more cosines; the smallest counts. Use the matrix from
                `conflict.cosine_similarity` for the worst pair, or its mean over pairs, or
                ``direction.certificate.smallest_cosine``. A non-conflicting solver keeps that last
                one above 0, so use a threshold below 1 with it. An empty tensor, as for a single
                task, means that there is no conflict.

        Raises:
            ValueError: a cosine is not finite or not in [-1, 1].
        """
        found = torch.as_tensor(cosines).detach().to("cpu", torch.float64)
        if found.numel() == 0:
            found = torch.ones(1, dtype=torch.float64)
        if not found.isfinite().all():
            at = (~found.isfinite()).nonzero()[0].tolist()
            where = f" at {tuple(at)}" if at else ""
            raise ValueError(f"cosines must be finite, got {found[tuple(at)].item()}{where}")
        if found.abs().max() > 1 + 1e-6:
            raise ValueError(f"cosines must be in [-1, 1], got {found.tolist()}")
        now = 1.0 - found.min().item()
        past = now if self.conflict is None else self.conflict
        self.conflict = self.smoothing * past + (1 - self.smoothing) * now
        if self.conflict > self.threshold:
            self.factor = max(self.smallest, self.factor * self.shrink)
        else:
            self.factor = min(1.0, self.factor * self.grow)

    def step(  # type: ignore[override]
        self, *, cosines: float | Tensor | None = None
    ) -> None:
        """Set the learning rates, after ``optimizer.step()``.

        Args:
            cosines: passed to `observe` first; None keeps the factor unless `observe` was called.
        """
        if cosines is not None:
            self.observe(cosines)
        super().step()

    def get_lr(self) -> list[float | Tensor]:
        """Scale the rates that are in the optimizer, or those of ``inner``."""
        groups = self.optimizer.param_groups
        # The rate of a group that was added since the last step is not scaled yet.
        applied = self._applied + [1.0] * (len(groups) - len(self._applied))
        self._applied = [self.factor] * len(groups)
        if self.inner is None:
            return [
                group["lr"] * (self.factor / before)
                for group, before in zip(groups, applied, strict=True)
            ]
        if self.last_epoch > 0:  # not while this scheduler is made
            for group, rate in zip(groups, self._plain, strict=False):
                if isinstance(group["lr"], Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate
            self.inner.step()
        self._plain = [float(group["lr"]) for group in groups]
        return [group["lr"] * self.factor for group in groups]

    def _get_closed_form_lr(self) -> list[float | Tensor]:
        # torch calls this when SequentialLR switches to this scheduler: scale the base rates.
        self._applied = [self.factor] * len(self.base_lrs)
        self._plain = [float(base) for base in self.base_lrs]
        return [base * self.factor for base in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        """Return everything except the optimizer; for ``inner`` its own state."""
        state = super().state_dict()
        inner = state.pop("inner")
        return {**state, "inner": None if inner is None else inner.state_dict()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            ValueError: only one of the two has an ``inner`` scheduler.
        """
        state = dict(state_dict)
        inner = state.pop("inner")
        if (inner is None) != (self.inner is None):
            raise ValueError("only one of the state and this schedule has an inner scheduler")
        if self.inner is not None:
            self.inner.load_state_dict(inner)
        super().load_state_dict(state)
