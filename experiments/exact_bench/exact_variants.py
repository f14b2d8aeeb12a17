"""Ways to guide all rays of a set that no solver of the package has; see `exact_bench.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from paretonas.solvers import (
    Direction,
    LinearScalarization,
    SmoothTchebycheff,
    Solver,
    Weighted,
)

Aimed = Callable[[Tensor], Solver]  # preference (r, m) -> solver
LEAST = 1e-4  # share of the smallest weight, so that it is still a preference


@dataclass(frozen=True, eq=False)
class HypervolumeWeights:
    """Weigh each ray by what its costs add to the hypervolume of the set to which it belongs.

    The set climbs its own hypervolume. A ray that others dominate adds nothing; it follows its
    preference until it does.

    Attributes:
        preference: (s * r, m), of s sets one after the other.
        rays: r, in a set.
        inner: makes the solver that gets the weights for a preference.
        begin: the step from which the hypervolume counts; the preference does before.
    """

    preference: Tensor
    rays: int
    inner: Aimed = LinearScalarization
    begin: int = 0

    def __call__(self, jacobian: Tensor, values: Tensor, state: object = None) -> Direction:
        """Differentiate the hypervolume of each set."""
        step, kept = state if isinstance(state, tuple) else (0, None)
        weights = self.preference
        if step >= self.begin:
            sets = values.reshape(-1, self.rays, values.shape[-1])
            added = slope_of_hypervolume(sets).reshape(values.shape)
            total = added.sum(-1, keepdim=True)
            scaled = added / total.clamp_min(1e-12)
            weights = torch.where(total > 1e-12, scaled, weights).clamp_min(LEAST)
            weights = weights / weights.sum(-1, keepdim=True)
        direction = self.inner(weights)(jacobian, values, kept)
        return replace(direction, state=(step + 1, direction.state))


def slope_of_hypervolume(points: Tensor) -> Tensor:
    """How much hypervolume is lost as each cost of points (s, r, m) grows, (s, r, m)."""
    own = points.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(hypervolume(own).sum(), own)
    return -gradient


def hypervolume(points: Tensor) -> Tensor:
    """Of the sets (..., r, m), differentiable; the reference point is 1.

    Slices across the last cost: between one value and the next, the hypervolume in the other costs
    of all points so far.
    """
    points = points.clamp(max=1.0)
    if points.shape[-1] == 1:
        return 1 - points.squeeze(-1).amin(-1)
    order = points[..., -1].argsort(-1)
    points = points.gather(-2, order.unsqueeze(-1).expand_as(points))
    height = torch.diff(points[..., -1], append=torch.ones_like(points[..., :1, -1]))
    r = points.shape[-2]
    later = torch.ones(r, r, dtype=torch.bool).triu(1).unsqueeze(-1)
    so_far = points[..., None, :, :-1].masked_fill(later, 1.0)
    return (height * hypervolume(so_far)).sum(-1)


@dataclass(frozen=True, eq=False)
class Handover:
    """One solver up to a step, another from there on: a warm start."""

    first: Solver
    second: Solver
    step: int

    def __call__(self, jacobian: Tensor, values: Tensor, state: object = None) -> Direction:
        """Count the steps; the second starts without a state."""
        step, kept = state if isinstance(state, tuple) else (0, None)
        solver = self.first if step < self.step else self.second
        direction = solver(jacobian, values, None if step == self.step else kept)
        return replace(direction, state=(step + 1, direction.state))


@dataclass(frozen=True, eq=False)
class AnnealedTchebycheff:
    """Smooth Tchebycheff whose softness goes from one value to another."""

    preference: Tensor
    softness: tuple[float, float]
    steps: int

    def __call__(self, jacobian: Tensor, values: Tensor, state: object = None) -> Direction:
        """Count the steps."""
        step = state if isinstance(state, int) else 0
        first, last = self.softness
        mu = first * (last / first) ** (step / max(1, self.steps - 1))
        direction = SmoothTchebycheff(self.preference, mu=mu)(jacobian, values)
        return replace(direction, state=step + 1)


@dataclass(frozen=True, eq=False)
class GatedByConflict:
    """Linear scalarization; the inner solver only where two gradients conflict enough.

    Attributes:
        preference: (r, m).
        inner: gets the preference through `Weighted`.
        cosine: below which the smallest cosine of two gradients counts as enough.
    """

    preference: Tensor
    inner: Solver
    cosine: float

    def __call__(self, jacobian: Tensor, values: Tensor, state: object = None) -> Direction:
        """Choose for each ray."""
        plain = LinearScalarization(self.preference)(jacobian, values)
        other = Weighted(self.preference, self.inner)(jacobian, values, state)
        unit = torch.nn.functional.normalize(jacobian, dim=-1)
        conflict = (unit @ unit.mT).amin((-1, -2)) < self.cosine
        vector = torch.where(conflict.unsqueeze(-1), other.vector, plain.vector)
        return replace(other, vector=vector, weights=None)
