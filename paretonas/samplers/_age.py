"""AGE-MOEA-II of pymoo, which needs numba, made safe where a front is a single point."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo.age2 import AGEMOEA2, AGEMOEA2Survival

Array = NDArray[np.float64]


class Survival(AGEMOEA2Survival):  # type: ignore[misc]
    """Scores a front whose points all cost the same, where pymoo divides by its extent, 0."""

    def survival_score(self, front: Array, ideal_point: Array) -> tuple[Array, float, Array]:
        """The distances between points, the curvature of the front, its extent."""
        if (front == front[0]).all():
            return np.zeros(len(front)), 1.0, np.ones_like(ideal_point)
        scores: tuple[Array, float, Array] = super().survival_score(front, ideal_point)
        return scores


def algorithm(**settings: Any) -> AGEMOEA2:
    """AGE-MOEA-II with these settings, compiled: its first step is no slower than the others."""
    Survival.pairwise_distances(np.eye(2), 1.0)
    ready = AGEMOEA2(**settings)
    ready.survival = Survival()
    return ready
