"""PriorityProjection: the first objective leads, the others must not suffer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.dual_cone import project
from paretonas.solvers.problem import Problem


@dataclass(frozen=True, eq=False)
class PriorityProjection(WeightingSolver):
    """Follow the first gradient as closely as the others allow.

    The direction is the nearest to the first gradient that makes none of the other objectives
    worse: min |d - g_1|^2 such that g_j . d >= 0 for j > 1. For two objectives this is the
    classical one-sided projection. It never conflicts with the first objective either, since
    g_1 . d = |d|^2. The length of the other gradients does not matter.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782, for the
        projection; here onto the whole cone at once rather than in turn.

    >>> import torch
    >>> PriorityProjection()(torch.tensor([[1.0, 1.0], [-2.0, 0.0]])).vector
    tensor([0., 1.])
    """

    non_conflicting: ClassVar[bool] = True

    def weigh(self, problem: Problem, state: object) -> Answer:
        """Project the first row alone."""
        weights = torch.zeros_like(problem.gram.norms)
        weights[..., 0] = 1.0
        if weights.shape[-1] == 1:
            return Answer(weights, state=state)
        return project(problem.gram, weights, state, first=1)
