"""The common base of solvers that wrap another solver."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights


class Wrapper(WeightingSolver):
    """A solver that changes the input or the output of an inner solver; it copies no gradients."""

    inner: WeightingSolver

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the inner solver needs gradients."""
        return self.inner.needs_gradients

    def total_weight(self, m: int) -> float:
        """Return the total weight of the inner solver."""
        return self.inner.total_weight(m)

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the longest direction of the inner solver."""
        return self.inner.longest(problem)

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Let the inner solver rescale the weights."""
        return self.inner.rescale(problem, weights, limit)


def limit_of(
    inner: WeightingSolver, problem: GradientProblem, answer: Answer
) -> Float[np.ndarray, " r"] | None:
    """Return the longest direction on the gradients of an answer; None if there is no limit."""
    if answer.limit is not None or not (problem.known and inner.needs_gradients):
        return answer.limit
    if inner.total_weight(problem.m) < math.inf:
        return None
    limit: np.ndarray = np.minimum(inner.longest(problem), sys.float_info.max)
    return limit  # finite, like all numbers in a state


def fit(
    inner: WeightingSolver,
    problem: GradientProblem,
    weights: Float[np.ndarray, "r m"],
    fresh: Answer | None = None,
) -> Float[np.ndarray, "r m"]:
    """Rescale weights that the inner solver found on other gradients to the current gradients.

    Args:
        inner: the inner solver.
        problem: the current gradients, or only values for a solver that needs no gradients.
        weights: the weights found before.
        fresh: the answer of the inner solver on the current gradients, if it was called.
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
    """Refuse a solver that does not weigh rows.

    Raises:
        TypeError: it is not a WeightingSolver, or it does not weigh rows.
    """
    if isinstance(inner, type):
        raise TypeError(f"inner must be an object, got a class: write {inner.__name__}()")
    if not isinstance(inner, WeightingSolver):
        raise TypeError(f"inner must be a WeightingSolver, got {type(inner).__name__}")
    if not inner.weighs_rows:
        raise TypeError(f"inner must weigh rows, got a {type(inner).__name__} that does not")


def referred_back(answer: Answer, factors: np.ndarray) -> Answer:
    """Turn an answer for rows times ``factors`` into an answer for the original rows."""
    problem = answer.problem
    return answer._replace(
        weights=answer.weights * factors,
        problem=None if problem is None else problem.scaled(1.0 / factors),
    )


def inner_state(state: Mapping[str, object] | None) -> object:
    """Return the inner solver's part of a wrapper's state."""
    return None if state is None else state["inner"]
