"""Bring gradients to one scale before a solver gets them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from paretonas.solvers._aim import refuse
from paretonas.solvers._wrapper import Wrapper, check_inner, referred_back
from paretonas.solvers.base import Answer, WeightingSolver, shortened
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights

SHORTEST = 1e-300  # the inverse of this length is still far from overflow


@dataclass(frozen=True, eq=False)
class Normalized(Wrapper):
    """Divide each gradient by its length, its loss, or both, and pass them to a solver.

    A solver such as MGDA follows the smallest gradient. So a loss in other units, or one that is
    nearly 0, would dominate. The divisors are those of Sener and Koltun's code: ``l2``, the length
    |g_i|; ``loss``, the value L_i; ``loss+``, their product. With ``l2`` a factor on an objective
    does not turn the direction. With ``loss`` it changes nothing, for any inner solver. With
    ``loss+`` it multiplies that objective's share by its inverse, since both divisors contain it.

    Positive factors keep the sign of every cosine, so a non-conflicting solver stays
    non-conflicting. A zero gradient stays zero.

    Attributes:
        inner: the inner solver. It gets the original values.
        by: "l2", "loss" or "loss+".

    The returned weights and the certificate are about the original gradients.

    Raises:
        TypeError: inner does not weigh rows.
        ValueError: ``by`` is not one of the three; on a call, a value in a divisor is not positive.

    References:
        Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization (2018),
        arXiv 1810.04650.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> Normalized(MGDA())(torch.tensor([[5.0, 0.0], [0.0, 0.1]])).vector
    tensor([0.5000, 0.5000])
    """

    inner: WeightingSolver
    by: Literal["l2", "loss", "loss+"] = "l2"

    def __post_init__(self) -> None:
        """Check the settings."""
        check_inner(self.inner)
        if self.by not in ("l2", "loss", "loss+"):
            raise ValueError(f'by must be "l2", "loss" or "loss+", got {self.by!r}')

    @property
    def non_conflicting(self) -> bool:  # type: ignore[override]
        """Whether the inner solver is non-conflicting."""
        return self.inner.non_conflicting

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the lengths or the inner solver need gradients."""
        return self.by != "loss" or self.inner.needs_gradients

    def total_weight(self, m: int) -> float:
        """Return infinity: a gradient may be short, or a value small."""
        return math.inf

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the longest direction of the inner solver on the divided rows."""
        return self.inner.longest(problem.scaled(self._factors(problem)))

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Let the inner solver rescale on the divided rows; if they are unknown, only shorten."""
        if isinstance(problem, Sum):
            return shortened(problem.length(weights), limit)
        factors = self._factors(problem)
        if self.needs_gradients:
            return self.inner.rescale(problem.scaled(factors), weights / factors, limit)
        total = self.inner.total_weight(problem.m)
        return shortened(np.abs(weights / factors).sum(-1), np.full(problem.r, total))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Solve for the divided rows."""
        factors = self._factors(problem)
        return referred_back(self.inner.weigh(problem.scaled(factors), state), factors)

    def _factors(self, problem: GradientProblem) -> np.ndarray:
        factors = np.ones((problem.r, problem.m))
        if self.by != "l2":
            rule = f"normalizing by {self.by} needs positive values"
            refuse(problem, problem.values <= 0, rule)
            factors /= problem.values
        if self.by != "loss":
            norms = problem.gram.norms
            factors /= np.where(norms > 0, np.maximum(norms, SHORTEST), 1.0)
        return factors
