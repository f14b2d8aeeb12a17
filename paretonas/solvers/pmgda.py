"""PMGDA: move toward the ray while off it, descend like MGDA while on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.gram import Gram
from paretonas.solvers._aim import aim, length, place
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.kernels.lp import Program, Solution, lp_residual, maximize
from paretonas.solvers.kernels.min_norm import min_norm_residual
from paretonas.solvers.problem import GradientProblem, PerRay, check_preference

LIT = 1e-150  # a shorter gradient, relative to the longest, counts as 0


@dataclass(frozen=True, eq=False)
class PMGDA(WeightingSolver):
    """Go to the Pareto point where preference_i * value_i is the same for all i, by MGDA.

    On the ray, within ``tolerance``, the direction is that of ``MGDA``: every objective improves.
    Off the ray it corrects: the distance to the ray decreases at a rate of at least ``sigma``,
    relative to the fastest rate. Under that condition it helps the worst objective as much as
    possible; all objectives improve if they can. It solves one linear program in m + 2 variables
    exactly. It is deterministic. Permuting the objectives permutes the weights, if the program has
    only one solution. Objectives may get worse during a correction. Values must be at least 0, the
    ideal.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each. The larger its
            entry, the smaller that objective becomes, as in ``Tchebycheff``.
        tolerance: sine of the angle between the values and the ray, in (0, 1), up to which the
            point counts as on the ray.
        sigma: in (0, 1]; near 1 it returns to the ray as fast as possible, near 0 it gives more
            weight to the objectives.

    The certificate's branch is "descent" or "correction". If all values are 0, this counts as on
    the ray. A zero gradient is left out of a correction, and stops the descent, as it stops MGDA.
    If the distance cannot change, a correction only improves the objectives. At a Pareto stationary
    point off the ray it continues along the front; on the ray it ends.

    Departures from the paper: (1) The tolerance is an angle, not a distance in the unit of the
    objectives. (2) Cosines decide which objective is worst, so the scale of an objective does not
    matter. (3) In the paper a correction has a length of up to 1 for all gradients. Here it is
    multiplied by their mean length, so that it scales with the jacobian, and by the sine of the
    angle to the ray plus the worst cosine, if positive, so that it becomes small near the ray.
    (4) On the ray the paper stays on it to first order. Here, as in the authors' code, the descent
    is free and a correction follows.

    Raises:
        ValueError: the preference does not fit, tolerance or sigma is out of range, or a value is
            negative.

    References:
        Zhang, Lin and Zhang, PMGDA: A Preference-based Multiple Gradient Descent Algorithm (2024),
        arXiv 2402.09492.

    >>> import torch
    >>> PMGDA()(torch.eye(2), torch.tensor([0.9, 0.1])).certificate.branch
    'correction'
    """

    preference: Float[Tensor, "*r m"] | None = None
    tolerance: float = 0.01
    sigma: float = 0.5

    def __post_init__(self) -> None:
        """Check the settings."""
        check_preference(self.preference)
        if not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must be in (0, 1), got {self.tolerance}")
        if not 0 < self.sigma <= 1:
            raise ValueError(f"sigma must be in (0, 1], got {self.sigma}")

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the mean length: neither a correction nor a shortest vector is longer."""
        return np.asarray(problem.gram.norms.mean(-1))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Descend on the ray, correct off the ray."""
        ray = aim(problem.spread(self.preference))
        here = place(problem, "PMGDA")
        away = here - (here * ray).sum(-1, keepdims=True) * ray
        sine = length(away)
        off = sine[:, 0] > self.tolerance
        if off.all():
            found = _correct(problem.gram, away / sine, self.sigma)
            weights = found.lengthened(sine)
            return Answer(weights, found.residual, "correction", state)
        if not off.any():
            weights = problem.shortest
            return Answer(
                weights, lambda: min_norm_residual(problem.gram, weights), "descent", state
            )
        gram = Gram(problem.gram.cosines[off], problem.gram.norms[off])
        found = _correct(gram, away[off] / sine[off], self.sigma)
        both = problem.shortest.copy()
        both[off] = found.lengthened(sine[off])

        def residual() -> Float[np.ndarray, " r"]:
            residuals = min_norm_residual(problem.gram, problem.shortest)
            residuals[off] = found.residual()
            return residuals

        return Answer(
            both,
            residual,
            lambda: tuple("correction" if flag else "descent" for flag in off),
            state,
        )


@dataclass(frozen=True, eq=False)
class _Correction:
    """Weights of corrections with the mean length of the gradients, and their linear program."""

    weights: Float[np.ndarray, "b m"]
    least: Float[np.ndarray, "b 1"]  # smallest cosine with a gradient
    program: Program
    solution: Solution

    def lengthened(self, sine: Float[np.ndarray, "b 1"]) -> Float[np.ndarray, "b m"]:
        stride = np.minimum(sine + np.maximum(self.least, 0.0), 1.0)
        weights: Float[np.ndarray, "b m"] = self.weights * stride
        return weights

    def residual(self) -> Float[np.ndarray, " b"]:
        return lp_residual(self.program, self.solution)


def _correct(gram: Gram, away: Float[np.ndarray, "b m"], sigma: float) -> _Correction:
    # The distance h to the ray has the gradient "away" with respect to the values, and so the sum
    # of away_i g_i with respect to the parameters: one more unit vector besides the unit rows.
    norms, cosines = gram.norms, gram.cosines
    count, m = norms.shape
    top = norms.max(-1, keepdims=True)
    lengths = norms / np.where(top > 0, top, 1.0)
    lit = lengths > LIT
    terms = away * lengths
    inner = (cosines @ terms[..., None])[..., 0]
    size = np.sqrt(np.maximum((terms * inner).sum(-1, keepdims=True), 0.0))
    turns = size > RESOLUTION * np.abs(terms).sum(-1, keepdims=True)  # else it is only rounding
    safe = np.where(turns, size, 1.0)
    toward = np.where(turns, inner / safe, 0.0)
    # Maximize t = min_i cos_i over convex weights of the m + 1 unit vectors, where t may be
    # negative. With s / (1 - s) = 1 + t and the weights times 1 - s, everything sums to 1, and
    # the largest s gives the largest t.
    matrix = np.zeros((count, m + 1, m + 2))
    matrix[:, :m, :m] = -1.0 - cosines
    matrix[:, :m, m] = -1.0 - toward
    matrix[:, :m, m + 1] = 1.0
    matrix[:, :m] *= lit[..., None]  # a zero row has no constraint
    matrix[:, m, :m] = sigma - toward
    matrix[:, m, m] = sigma - 1.0
    matrix[:, m] *= turns
    objective = np.zeros((count, m + 2))
    objective[:, m + 1] = 1.0
    program = Program.of(objective, matrix, np.zeros((count, m + 1)))
    solution = maximize(program)
    rest = np.maximum(1.0 - solution.x[:, m + 1 :], 1e-300)
    x, least = solution.x[:, : m + 1] / rest, solution.x[:, m + 1 :] / rest - 1.0
    own = np.where(lit, x[:, :m] / np.where(lit, lengths, 1.0), 0.0)
    along = np.where(turns, x[:, m:] * away / safe, 0.0)
    weights = (own + along) * lengths.mean(-1, keepdims=True)
    return _Correction(weights, least, program, solution)
