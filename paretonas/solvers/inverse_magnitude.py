"""Inverse gradient magnitude: the sum of the unit gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay

SHORTEST = 1e-300  # the inverse of this length is still far from overflow


@dataclass(frozen=True, eq=False)
class InverseMagnitude(WeightingSolver):
    """Sum the gradients, each divided by its length.

    Multiplying an objective by a positive number changes nothing. With two objectives it never
    conflicts (up to rounding); with more it may. A zero gradient gets weight 0.

    References:
        Up to length, the sum of unit gradients is the equalizing branch of SAM-GS: Borsani et
        al., Gradient Similarity Surgery in Multi-Task Deep Learning (2025), arXiv 2506.06130.

    >>> import torch
    >>> InverseMagnitude()(torch.tensor([[3.0, 0.0], [0.0, 0.1]])).vector
    tensor([1., 1.])
    """

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return m: the terms are unit vectors."""
        return np.full(problem.r, float(problem.m))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Invert the lengths."""
        norms = problem.gram.norms
        return Answer(np.where(norms > 0, 1.0 / np.maximum(norms, SHORTEST), 0.0), state=state)
