"""What solvers around another solver share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from paretonas.solvers.base import Answer, WeightingSolver


class Wrapper(WeightingSolver):
    """A solver that changes what another one sees or answers, without a copy of the gradients."""

    inner: WeightingSolver

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the inner solver does."""
        return self.inner.needs_gradients


def check_inner(inner: object) -> None:
    """Refuse what does not weigh rows.

    Raises:
        TypeError: it is no WeightingSolver.
    """
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
