"""Certificates of directions: angles to the gradients, KKT residual, Pareto stationarity gap."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paretonas.solvers.problem import GradientProblem

RESOLUTION = 2**-25  # a length below this, relative to its terms, is 0 in float64 products


class Certificate:
    """Evidence about a direction; each number is computed when it is first read, and then kept.

    For a jacobian (m, n) each number is a tensor of shape (), for (r, m, n) of shape (r,), on the
    host. A certificate that is not read costs nothing. Reading it costs little more than the Gram
    matrix, which is computed then if the solver did not need it; so read it before the gradients
    are changed in place. If gradients were never computed, the numbers about them are NaN.

    Attributes:
        smallest_cosine: the smallest cosine between the direction and a nonzero gradient. If it is
            below 0, a step along the direction makes some objective worse; 0 if the direction is 0.
        kkt_residual: the relative KKT residual of the solver's own small program; 0 for closed
            formulas.
        stationarity_gap: length of the shortest convex combination of the gradients, relative to
            their mean length, in [0, 1]; 0 at a Pareto stationary point.
        rank: numerical rank of the jacobian; -1 if gradients were never computed.
        branch: the branch of the method that was used; a tuple with one entry per ray if batched.
    """

    def __init__(
        self,
        problem: GradientProblem,
        weights: Float[np.ndarray, "r m"] | None,
        residual: Callable[[], Float[np.ndarray, " r"]] | None = None,
        branch: str | Callable[[], tuple[str, ...]] = "closed form",
        vector: Float[Tensor, "r n"] | None = None,
    ) -> None:
        """Keep what is needed to compute the numbers: weights, or the vector if there are none."""
        self._problem = problem
        self._weights = weights
        self._residual = residual
        self._branch = branch
        self._vector = vector

    @cached_property
    def smallest_cosine(self) -> Float[Tensor, "*r"]:
        """Cosine of the widest angle between the direction and a nonzero gradient."""
        if not self._problem.known:
            return self._unknown()
        gram = self._problem.gram
        if self._weights is None:
            inner, length = self._by_vector()
        else:
            terms = self._weights * gram.norms
            terms = terms / np.maximum(np.abs(terms).sum(-1, keepdims=True), 1e-300)
            inner, length = lengths(gram.cosines, terms)
        cosines = inner / np.maximum(length, RESOLUTION)[:, None]
        cosines = np.where(gram.norms > 0, cosines, np.inf).min(-1)
        moves = (gram.norms > 0).any(-1) & (length > 0)
        return self._problem.shaped(np.clip(np.where(moves, cosines, 0.0), -1.0, 1.0))

    @cached_property
    def kkt_residual(self) -> Float[Tensor, "*r"]:
        """Relative violation of the optimality conditions of the solver's own program."""
        if self._residual is None:
            return self._problem.shaped(np.zeros(self._problem.r))
        return self._problem.shaped(self._residual())

    @cached_property
    def stationarity_gap(self) -> Float[Tensor, "*r"]:
        """Length of the shortest convex combination relative to the mean gradient length."""
        if not self._problem.known:
            return self._unknown()
        gram = self._problem.gram
        mean = np.maximum(gram.norms.mean(-1, keepdims=True), 1e-300)
        _, length = lengths(gram.cosines, self._problem.shortest * (gram.norms / mean))
        return self._problem.shaped(length)

    @cached_property
    def rank(self) -> Int[Tensor, "*r"]:
        """Numerical rank of the gradients, zero rows left out."""
        if not self._problem.known:
            return self._problem.shaped(np.full(self._problem.r, -1))
        gram = self._problem.gram
        lit = (gram.norms > 0).astype(np.float64)
        eigenvalues = np.linalg.eigvalsh(gram.cosines * lit[:, :, None] * lit[:, None, :])
        # Products have a rounding error of eps, so lengths below sqrt(eps) are not resolved.
        noise = 4 * self._problem.m * float(np.finfo(np.float64).eps)
        return self._problem.shaped((eigenvalues > noise * eigenvalues[:, -1:]).sum(-1))

    @cached_property
    def branch(self) -> str | tuple[str, ...]:
        """The branch of the method that was used."""
        count = self._problem.r
        taken = (self._branch,) * count if isinstance(self._branch, str) else self._branch()
        return taken if self._problem.batched else taken[0]

    def __repr__(self) -> str:
        """Show every number; this computes them."""
        return (
            f"Certificate(smallest_cosine={self.smallest_cosine.tolist()}, "
            f"kkt_residual={self.kkt_residual.tolist()}, "
            f"stationarity_gap={self.stationarity_gap.tolist()}, "
            f"rank={self.rank.tolist()}, branch={self.branch!r})"
        )

    def _unknown(self) -> Tensor:
        return self._problem.shaped(np.full(self._problem.r, np.nan))

    def _by_vector(self) -> tuple[np.ndarray, np.ndarray]:
        # Inner products with the unit rows, and the length; scaled so that no square overflows.
        assert self._vector is not None
        peak = torch.linalg.vector_norm(self._vector, torch.inf, dim=-1, keepdim=True).double()
        inner: Tensor = torch.zeros((), dtype=torch.float64, device=self._vector.device)
        square, start = inner, 0
        for block in self._problem.rows.blocks():
            cut = self._vector[:, start : start + block.shape[-1]].double()
            cut = cut / torch.where(peak > 0, peak, 1.0)
            inner = inner + (block.double() @ cut.unsqueeze(-1)).squeeze(-1)
            square = square + cut.square().sum(-1)
            start += block.shape[-1]
        norms = self._problem.gram.norms
        unit = inner.cpu().numpy() / np.where(norms > 0, norms, 1.0)
        return unit, square.sqrt().cpu().numpy()


def lengths(
    cosines: Float[np.ndarray, "r m m"], terms: Float[np.ndarray, "r m"]
) -> tuple[Float[np.ndarray, "r m"], Float[np.ndarray, " r"]]:
    """Inner products with the unit rows, and the length, of a sum of unit rows by ``terms``."""
    inner = (cosines @ terms[:, :, None])[..., 0]
    return inner, np.sqrt(np.maximum((terms * inner).sum(-1), 0.0))
