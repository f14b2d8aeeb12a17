"""PMTL: descend within a cone around the ray, so that many rays give many trade-offs."""

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

SAME = 1e-12  # half the squared distance of axes that count as one


@dataclass(frozen=True, eq=False)
class PMTL(WeightingSolver):
    """Reach the front near the ray: nearer to it than to any other ray of a set.

    Rays cut the space of objectives into cones; a point is in the cone of the ray to which its
    angle is smallest. Outside of its cone the direction leads into it, whatever that does to the
    objectives: the shortest vector in the hull of the gradients of the violated borders. Inside it
    is that of ``MGDA``, with the borders that are near taken for further objectives: every
    objective improves, and no near border is crossed. For any number of objectives; exact also
    among hundreds of rays. Deterministic; permuting the objectives permutes the weights. Weights
    may be negative outside of the cone. Values must be at least 0, the ideal.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each. The larger its
            entry, the smaller that objective becomes, as in ``Tchebycheff``: the axis of the cone
            is where preference_i * value_i is the same for all i.
        others: (K, m), the preferences whose cones border on it; its own may be among them. None
            means the rays of ``preference``, or, if that is only one, the axes: the cone is then
            what is nearer to the ray than to the ray of any objective alone.
        tolerance: in [0, 1), which part of the way from the axis to a border counts as near it.

    The certificate's branch says "descent" or "entry". All values 0 count as inside. Where no
    direction leads towards the cone, it descends. A zero gradient stops the descent, as it stops
    MGDA. A Pareto stationary point ends the descent, not the entry.

    Departures from the paper: cones for any m, where public code has weights for two; a step
    outside of the cone is always one of entry, where the paper enters first and then descends for
    good, so that it may rest at a stationary point outside; the differences of the axes have
    length 1, so that many rays do not make short borders that rule the direction; a border counts
    as near relative to its distance.

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
        """Refuse what cannot be rays."""
        check_preference(self.preference)
        check_preference(self.others, "others")
        if self.others is not None and self.others.ndim != 2:
            raise ValueError(f"others must have shape (K, m), got {tuple(self.others.shape)}")
        if not 0 <= self.tolerance < 1:
            raise ValueError(f"tolerance must be in [0, 1), got {self.tolerance}")

    def total_weight(self, m: int) -> float:
        """Return 2 sqrt(m): rows and borders weigh 1 together, and a border is at most 2 long."""
        return 2.0 * math.sqrt(m)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Find the borders in play, then the shortest vector."""
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
        # Begin with the rows, if they are in, and with the border that is worst.
        worst = problem.m + np.where(active, beyond, -np.inf).argmax(-1)[busy][:, None]
        each = np.arange(problem.m + 1)
        found = shortest(candidates, np.where(enter[:, None] | (each == problem.m), worst, each))
        # Where no direction leads towards the cone, it descends.
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
