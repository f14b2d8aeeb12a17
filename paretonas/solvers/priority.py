"""PriorityProjection: improve the first objective without harm to the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.dual_cone import project
from paretonas.solvers.problem import GradientProblem, PerRay


@dataclass(frozen=True, eq=False)
class PriorityProjection(WeightingSolver):
    """Follow the first gradient as closely as the others allow.

    The direction is the one nearest to the first gradient that makes no other objective worse:
    min |d - g_1|^2 such that g_j . d >= 0 for j > 1. For two objectives this is the classical
    one-sided projection. It never conflicts with the first objective either, since g_1 . d = |d|^2.
    It is linear in the length of the first gradient. The lengths and the order of the others do not
    matter. If the first gradient is 0, the direction is 0.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782, for the
        projection of one gradient off another.
        Not All Objectives Are Born Equal: Priority-Constrained Descent for Hierarchical
        Multi-Objective Optimization (2026), arXiv 2606.29521, for the cone of several gradients.
        There each constraint requires a share tau of the improvement along the own gradient, and
        the direction is scaled to |g_1|. Here tau is 0, and the direction is not scaled.

    >>> import torch
    >>> PriorityProjection()(torch.tensor([[1.0, 1.0], [-2.0, 0.0]])).vector
    tensor([0., 1.])
    """

    non_conflicting: ClassVar[bool] = True

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the length of the first gradient: a projection is never longer."""
        return problem.gram.norms[:, 0]

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Project the first row."""
        weights = np.zeros(problem.gram.norms.shape)
        weights[:, 0] = 1.0
        if problem.m == 1:
            return Answer(weights, state=state)
        return project(problem.gram, weights, state, first=1)
