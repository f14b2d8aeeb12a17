"""The direction of a preference vector in objective space, and checks of the values."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from paretonas.solvers.problem import GradientProblem


def aim(preference: Float[np.ndarray, "r m"]) -> Float[np.ndarray, "r m"]:
    """Unit vectors along which preference_i * value_i is the same for all objectives i."""
    toward = preference.min(-1, keepdims=True) / preference
    axes: Float[np.ndarray, "r m"] = toward / length(toward)
    return axes


def length(vectors: Float[np.ndarray, "*b m"]) -> Float[np.ndarray, "*b 1"]:
    """The Euclidean length; the last dimension is kept."""
    lengths: Float[np.ndarray, "*b 1"] = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    return lengths


def place(problem: GradientProblem, solver: str) -> Float[np.ndarray, "r m"]:
    """Unit vectors from the ideal point, 0, to the values; 0 where all values are 0.

    Raises:
        ValueError: a value is negative.
    """
    values = problem.values
    refuse(problem, values < 0, f"{solver} needs values of at least 0 (subtract the ideal)")
    top = values.max(-1, keepdims=True)
    within = values / np.where(top > 0, top, 1.0)
    return within / np.where(top > 0, length(within), 1.0)


def refuse(problem: GradientProblem, wrong: Bool[np.ndarray, "r m"], rule: str) -> None:
    """Refuse values that break a rule; the message names the first one.

    Raises:
        ValueError: a value breaks the rule.
    """
    if wrong.any():
        ray, objective = np.argwhere(wrong)[0]
        raise ValueError(
            f"{rule}, got {problem.values[ray, objective]} for objective {objective}"
            + (f" of ray {ray}" if problem.batched else "")
        )
