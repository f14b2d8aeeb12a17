"""The usual learning rate: a warm-up, then a cosine decay to zero."""

from __future__ import annotations

import math

import torch


def warmup_cosine(
    optimizer: torch.optim.Optimizer, steps: int
) -> torch.optim.lr_scheduler.LambdaLR:
    """A schedule that multiplies the learning rate by `warmup_cosine_factor`."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: warmup_cosine_factor(step, steps)
    )


def warmup_cosine_factor(step: int, steps: int) -> float:
    """Linear warm-up over the first tenth, then a half cosine to zero (arXiv 1608.03983)."""
    warm = max(1, steps // 10)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
