"""What every solver shares: the protocol, its answer, and the dull part done once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._gram import combine
from paretonas.solvers.certificate import RESOLUTION, Certificate
from paretonas.solvers.problem import Problem


@dataclass(frozen=True, eq=False)
class Direction:
    """What a solver returns: descend by ``p -= lr * vector``.

    Attributes:
        vector: (n,) or (r, n), in the dtype and on the device of the jacobian.
        weights: (m,) or (r, m) such that vector == weights @ jacobian, up to rounding; None for
            a solver that is no weighting of rows.
        certificate: smallest cosine, KKT residual, stationarity gap, rank, branch.
        state: plain values to hand back on the next call; None for a solver without memory.
    """

    vector: Float[Tensor, "*r n"]
    weights: Float[Tensor, "*r m"] | None
    certificate: Certificate
    state: object = None


@runtime_checkable
class Solver(Protocol):
    """Turns conflicting gradients into one direction."""

    def __call__(
        self,
        jacobian: Float[Tensor, "*r m n"],
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Direction:
        """Resolve the conflict.

        Args:
            jacobian: (m, n), row i the gradient of objective i; or (r, m, n) for r rays at once.
            values: the objectives themselves, (m,) or (r, m).
            state: what the previous call returned as ``state``; None on the first call.
        """
        ...


@dataclass(frozen=True, eq=False)
class Answer:
    """What the inside of a solver returns: weights of the rows, and how they came about.

    Attributes:
        weights: (r, m) in float64, referring to the rows as given.
        residual: works out the relative KKT residual (r,); None for closed formulas.
        branch: the way taken, or a function that names it for each ray.
        state: handed to the caller.
    """

    weights: Float[Tensor, "r m"]
    residual: Callable[[], Float[Tensor, " r"]] | None = None
    branch: str | Callable[[], tuple[str, ...]] = "closed form"
    state: object = None


class WeightingSolver(ABC):
    """A solver whose direction is a weighted sum of rows, found in float64 from their Gram matrix.

    A subclass is a frozen dataclass with one method, ``weigh``. Checks, scale, dtype, device,
    batching over rays and the certificate are done here.
    """

    non_conflicting: ClassVar[bool] = False
    """Whether the method guarantees that no objective gets worse to first order."""

    def __call__(
        self,
        jacobian: Float[Tensor, "*r m n"],
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Direction:
        """Resolve the conflict; see ``Solver``.

        Raises:
            TypeError: the jacobian or the values are no floating point tensors.
            ValueError: a shape does not fit, or an entry is not finite.
        """
        problem = Problem(jacobian, values)
        answer = self.weigh(problem, state)
        weights = answer.weights
        vector = combine(weights, problem.rows)
        if self.non_conflicting:
            # A sum that cancels to the last digits is rounding that points anywhere, also uphill:
            # at this resolution the point is stationary, and the direction is 0.
            length = torch.linalg.vector_norm(vector, dim=-1, dtype=torch.float64)
            noise = RESOLUTION * (weights.abs() * problem.gram.norms).sum(-1)
            moves = (length > noise).unsqueeze(-1)
            vector = torch.where(moves, vector, 0.0)
            certified = torch.where(moves, weights, 0.0)
        else:
            certified = weights
        certificate = Certificate(problem, certified, answer.residual, answer.branch)
        shown = weights.to(vector.dtype)
        if not problem.batched:
            vector, shown = vector.squeeze(0), shown.squeeze(0)
        return Direction(vector, shown, certificate, answer.state)

    @abstractmethod
    def weigh(self, problem: Problem, state: object) -> Answer:
        """Find the weights of the rows, for all rays at once."""
