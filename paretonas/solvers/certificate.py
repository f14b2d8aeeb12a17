"""What can be said about a direction: how good it is, and how near to Pareto stationary we are."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paretonas.solvers.problem import Problem

RESOLUTION = 2**-25  # length relative to its terms that float64 products cannot tell from 0


class Certificate:
    """Evidence that comes with a direction, worked out when it is read and then kept.

    For a jacobian (m, n) each number is a tensor of shape (), for (r, m, n) of shape (r,). Unread,
    a certificate costs nothing; reading it costs a Gram matrix where the solver had no need of one
    (so read it before the jacobian is changed in place).

    Attributes:
        smallest_cosine: of the angles between the direction and the nonzero gradients. Below 0,
            a step along it makes some objective worse; 0 where the direction is 0.
        kkt_residual: how far the solver's own small problem is from solved, relative; 0 for
            closed formulas.
        stationarity_gap: length of the shortest convex combination of the gradients, relative to
            their mean length, in [0, 1]; 0 at a Pareto stationary point.
        rank: numerical rank of the jacobian.
        branch: which of its ways the solver took; a tuple with one entry per ray if batched.
    """

    def __init__(
        self,
        problem: Problem,
        weights: Float[Tensor, "r m"],
        residual: Callable[[], Float[Tensor, " r"]] | None = None,
        branch: str | Callable[[], tuple[str, ...]] = "closed form",
    ) -> None:
        """Keep what is needed to answer later."""
        self._problem = problem
        self._weights = weights
        self._residual = residual
        self._branch = branch

    @cached_property
    def smallest_cosine(self) -> Float[Tensor, "*r"]:
        """Cosine of the widest angle between the direction and a nonzero gradient."""
        gram = self._problem.gram
        terms = self._weights * gram.norms
        terms = terms / terms.abs().sum(-1, keepdim=True).clamp_min(1e-300)
        inner = (gram.cosines @ terms.unsqueeze(-1)).squeeze(-1)
        length = (terms * inner).sum(-1).clamp_min(0.0).sqrt()
        cosines = inner / length.clamp_min(RESOLUTION).unsqueeze(-1)
        cosines = torch.where(gram.norms > 0, cosines, torch.inf).amin(-1)
        moves = (gram.norms > 0).any(-1) & (length > 0)
        return self._shaped(torch.where(moves, cosines, 0.0).clamp(-1.0, 1.0))

    @cached_property
    def kkt_residual(self) -> Float[Tensor, "*r"]:
        """Relative violation of the optimality conditions of the solver's own problem."""
        if self._residual is None:
            return self._shaped(self._weights.new_zeros(len(self._weights)))
        return self._shaped(self._residual())

    @cached_property
    def stationarity_gap(self) -> Float[Tensor, "*r"]:
        """Length of the shortest convex combination relative to the mean gradient length."""
        gram = self._problem.gram
        terms = self._problem.shortest * gram.norms
        mean = gram.norms.mean(-1)
        scaled = terms / mean.clamp_min(1e-300).unsqueeze(-1)
        square = (scaled.unsqueeze(-2) @ gram.cosines @ scaled.unsqueeze(-1)).flatten()
        return self._shaped(square.clamp_min(0.0).sqrt())

    @cached_property
    def rank(self) -> Int[Tensor, "*r"]:
        """Numerical rank of the gradients, zero rows left out."""
        gram = self._problem.gram
        lit = (gram.norms > 0).double()
        eigenvalues = torch.linalg.eigvalsh(gram.cosines * lit.unsqueeze(-1) * lit.unsqueeze(-2))
        # Products carry rounding of eps, so directions below sqrt(eps) cannot be told apart.
        noise = 4 * gram.norms.shape[-1] * torch.finfo(torch.float64).eps
        return self._shaped((eigenvalues > noise * eigenvalues[..., -1:]).sum(-1))

    @cached_property
    def branch(self) -> str | tuple[str, ...]:
        """Which of its ways the solver took."""
        count = len(self._weights)
        taken = (self._branch,) * count if isinstance(self._branch, str) else self._branch()
        return taken if self._problem.batched else taken[0]

    def __repr__(self) -> str:
        """Show every number; reading them here works them out."""
        return (
            f"Certificate(smallest_cosine={self.smallest_cosine.tolist()}, "
            f"kkt_residual={self.kkt_residual.tolist()}, "
            f"stationarity_gap={self.stationarity_gap.tolist()}, "
            f"rank={self.rank.tolist()}, branch={self.branch!r})"
        )

    def _shaped(self, per_ray: Tensor) -> Tensor:
        return per_ray if self._problem.batched else per_ray.squeeze(0)
