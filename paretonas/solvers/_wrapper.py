"""What solvers around another solver share."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights


class Wrapper(WeightingSolver):
    """A solver that changes what another one sees or answers, without a copy of the gradients."""

    inner: WeightingSolver

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the inner solver does."""
        return self.inner.needs_gradients

    def total_weight(self, m: int) -> float:
        """Return that of the inner solver."""
        return self.inner.total_weight(m)

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return that of the inner solver."""
        return self.inner.longest(problem)

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Let the inner solver fit them."""
        return self.inner.rescale(problem, weights, limit)


def limit_of(
    inner: WeightingSolver, problem: GradientProblem, answer: Answer
) -> Float[np.ndarray, " r"] | None:
    """Return the longest direction where an answer was found; None where gradients set no limit."""
    if answer.limit is not None or not (problem.known and inner.needs_gradients):
        return answer.limit
    if inner.total_weight(problem.m) < math.inf:
        return None
    limit: np.ndarray = np.minimum(inner.longest(problem), sys.float_info.max)
    return limit  # finite, as all that a state holds


def fit(
    inner: WeightingSolver,
    problem: GradientProblem,
    weights: Float[np.ndarray, "r m"],
    fresh: Answer | None = None,
) -> Float[np.ndarray, "r m"]:
    """Fit weights of the inner solver, found on other gradients, to what is at hand.

    Args:
        inner: the solver.
        problem: what is at hand; the gradients, or only values for a solver that needs no more.
        weights: the weights found before.
        fresh: what the solver answers here, if it was asked.
    """
    bounded = inner.total_weight(problem.m) < math.inf
    if bounded or (inner.needs_gradients and not problem.known):
        return weights
    limit = np.full(problem.r, math.inf)
    if fresh is not None and inner.needs_gradients:
        limit = (fresh.problem or problem).length(fresh.weights)
    factors = inner.rescale(problem, weights, limit)
    fitted: np.ndarray = weights * factors[:, None]
    return fitted


def check_inner(inner: object) -> None:
    """Refuse what does not weigh rows.

    Raises:
        TypeError: it is no WeightingSolver.
    """
    if isinstance(inner, type):
        raise TypeError(f"inner must be an object, got a class: write {inner.__name__}()")
    if not isinstance(inner, WeightingSolver):
        raise TypeError(f"inner must be a WeightingSolver, got {type(inner).__name__}")
    if not inner.weighs_rows:
        raise TypeError(f"inner must weigh rows, got a {type(inner).__name__} that does not")


def referred_back(answer: Answer, factors: np.ndarray) -> Answer:
    """Turn an answer about rows times ``factors`` into one about the rows as given."""
    problem = answer.problem
    return answer._replace(
        weights=answer.weights * factors,
        problem=None if problem is None else problem.scaled(1.0 / factors),
    )


def inner_state(state: Mapping[str, object] | None) -> object:
    """Return the inner solver's part of a wrapper's state."""
    return None if state is None else state["inner"]
