"""PMTL, Pareto multi-task learning: descend within a cone around each ray."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.gram import Gram
from paretonas.solvers._aim import aim, place
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.kernels.hull import Candidates, shortest
from paretonas.solvers.kernels.min_norm import min_norm_residual
from paretonas.solvers.problem import GradientProblem, check_preference

SAME = 1e-12  # axes count as equal if half their squared distance is below this


@dataclass(frozen=True, eq=False)
class PMTL(WeightingSolver):
    """Reach the front in the cone of a ray: nearer to this ray than to any other ray of a set.

    Rays divide the objective space into cones. A point is in the cone of the ray with the smallest
    angle to it. Outside its cone the direction leads into the cone, even if objectives get worse:
    it is the shortest vector in the hull of the gradients of the violated borders. Inside the cone
    it is the direction of ``MGDA`` with the near borders as additional objectives: every objective
    improves, and no near border is crossed. It works for any number of objectives, and is exact
    even for hundreds of rays. It is deterministic. Permuting the objectives permutes the weights.
    Weights may be negative outside the cone. Values must be at least 0, the ideal.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each. The larger its
            entry, the smaller that objective becomes, as in ``Tchebycheff``: the axis of the cone
            is where preference_i * value_i is the same for all i.
        others: (K, m), the preferences of the neighboring cones; this ray may be among them. None
            means the rays of ``preference``. If that is a single ray, None means the axes: the cone
            then holds the points that are nearer to the ray than to the axis of any objective.
        tolerance: in [0, 1), the part of the distance from axis to border that counts as near.

    The certificate's branch is "descent" or "entry". If all values are 0, this counts as inside. If
    no direction leads toward the cone, it descends. A zero gradient stops the descent, as it stops
    MGDA. A Pareto stationary point ends the descent, not the entry.

    Departures from the paper: (1) Cones work for any m; public code has weights for two objectives.
    (2) A step outside the cone is always an entry. The paper enters first and then only descends,
    so it may stop at a stationary point outside. (3) The differences of the axes have length 1, so
    that the short borders of many rays do not dominate the direction. (4) Whether a border is near
    is relative to its distance.

    Raises:
        ValueError: preference or others do not fit, the tolerance is out of range, or a value is
            negative.

    References:
        Lin et al., Pareto Multi-Task Learning (2019), arXiv 1912.12854.

    >>> import torch
    >>> rays = torch.tensor([[0.8, 0.2], [0.5, 0.5], [0.2, 0.8]])
    >>> values = torch.tensor([[0.9, 0.1]]).expand(3, -1)
    >>> PMTL(rays)(torch.eye(2).expand(3, -1, -1), values).certificate.branch
    ('entry', 'entry', 'descent')
    """

    preference: Float[Tensor, "*r m"] | None = None
    others: Float[Tensor, "K m"] | None = None
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Check the settings."""
        check_preference(self.preference)
        check_preference(self.others, "others")
        if self.others is not None and self.others.ndim != 2:
            raise ValueError(f"others must have shape (K, m), got {tuple(self.others.shape)}")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance must be in [0, 1), got {self.tolerance}")

    def total_weight(self, m: int) -> float:
        """Return 2 sqrt(m): all weights sum to 1, and the length of a border is at most 2."""
        return 2.0 * math.sqrt(m)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Find the violated or near borders, then the shortest vector."""
        axes = aim(problem.spread(self.preference))
        others = self._others(problem.m)
        here = place(problem, "PMTL")
        apart = 1.0 - axes @ others.T  # half the squared distance, as the axes have length 1
        beyond = here @ others.T - (here * axes).sum(-1, keepdims=True)
        distinct = (apart > SAME) & here.any(-1, keepdims=True)
        outside = distinct & (beyond > 0)
        enters = outside.any(-1)
        # On the axis, "beyond" is -apart; on the border it is 0.
        near = distinct & (beyond > -self.tolerance * apart)
        active = np.where(enters[:, None], outside, near)
        busy = active.any(-1)
        weights = problem.shortest
        if not busy.any():
            return Answer(
                weights, lambda: min_norm_residual(problem.gram, weights), "descent", state
            )
        enter = enters[busy]
        rows = np.repeat(~enter[:, None], problem.m, axis=1)
        candidates = Candidates(
            products=_products(problem.gram)[busy],
            axes=axes[busy],
            points=others,
            gaps=np.sqrt(2.0 * np.where(distinct, apart, 1.0))[busy],
            members=np.concatenate([rows, active[busy]], axis=1),
        )
        # Start with the rows, if they are members, and with the worst border.
        worst = problem.m + np.where(active, beyond, -np.inf).argmax(-1)[busy][:, None]
        each = np.arange(problem.m + 1)
        found = shortest(candidates, np.where(enter[:, None] | (each == problem.m), worst, each))
        # If no direction leads toward the cone, descend.
        lost = enter & (found.length <= RESOLUTION)
        enters[busy] = enter & ~lost
        both = weights.copy()
        both[busy] = np.where(lost[:, None], weights[busy], found.weights)

        def residual() -> Float[np.ndarray, " r"]:
            residuals = min_norm_residual(problem.gram, weights)
            residuals[busy] = np.where(lost, residuals[busy], found.gap)
            return residuals

        return Answer(
            both,
            residual,
            lambda: tuple("entry" if enter else "descent" for enter in enters),
            state,
        )

    def _others(self, m: int) -> Float[np.ndarray, "K m"]:
        rays = self.others
        if rays is None and self.preference is not None and self.preference.ndim == 2:
            rays = self.preference if len(self.preference) > 1 else None
        if rays is None:
            return np.eye(m)
        if rays.shape[1] != m:
            raise ValueError(
                f"others must have shape (K, m) with m = {m} to fit the jacobian, "
                f"got {tuple(rays.shape)}"
            )
        return aim(rays.detach().to("cpu", torch.float64).numpy())


def _products(gram: Gram) -> Float[np.ndarray, "r m m"]:
    # Relative to the longest gradient, so that the scale of all does not matter.
    top = gram.norms.max(-1, keepdims=True)
    lengths = gram.norms / np.where(top > 0, top, 1.0)
    products: Float[np.ndarray, "r m m"] = gram.cosines * lengths[:, :, None]
    return products * lengths[:, None, :]
