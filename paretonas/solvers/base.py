"""The base of all solvers: the protocol, its answer, and the common checks and conversions.

This module uses the three tiers of speed of `gradients.rows` and `gradients.gram`. ``_combined``
sums *few* numbers by one numpy product on the host. It sums *many* numbers by ``weighted_sum`` on
their device, with one read of the gradients and one write, after ``_rounded`` has decided which
rays need float64. ``_angles`` has a fast path for one small matrix *alone*, in plain Python
numbers, which saves a dozen numpy calls.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from operator import mul
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.gram import FEW, Gram, dot
from paretonas.gradients.rows import Jacobian, like, weighted_sum, weights_like
from paretonas.solvers.certificate import RESOLUTION, Certificate, lengths
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights

__all__ = ["Answer", "Direction", "Solver", "Weighting", "WeightingSolver"]

Values = Float[Tensor, "*r m"] | None
"""The objectives themselves, where a solver is told."""
Out = Float[Tensor, "*r n"] | None
"""Memory for the vector."""
Angles = tuple[list[float], list[float]]  # see ``_angles``
CONFLICT = 1e-6  # a direction conflicts if a cosine is below minus this number
CANCELS = 0.1  # float32 sums keep the angles if the length, relative to its terms, is above this
SHOWN = 8  # largest number of tensor entries in a repr
NARROW = 1e30  # largest weight, and inverse of a weight, with products within float32


@dataclass(frozen=True, eq=False)
class Weighting:
    """How a solver weighs the gradients.

    Attributes:
        weights: (m,) or (r, m).
        certificate: smallest cosine, KKT residual, stationarity gap, rank, branch.
        state: plain values to pass to the next call; None for a solver without memory.
        limit: (r,) if the weights come from other gradients; then multiply them, and the weighted
            sum of the gradients, by ``length_factor``. None if no factor is needed.
    """

    weights: Float[Tensor, "*r m"]
    certificate: Certificate
    state: object = None
    limit: Float[np.ndarray, " r"] | None = None


@dataclass(frozen=True, eq=False)
class Direction:
    """What a solver returns: descend by ``p -= lr * vector``.

    Attributes:
        vector: (n,) or (r, n), in the dtype and on the device of the jacobian.
        weights: (m,) or (r, m) such that vector == weights @ jacobian, up to rounding; in the
            dtype of the jacobian but at least float32, since weights may leave the range of half
            precision while the vector does not. None for a solver that does not weigh rows.
        certificate: smallest cosine, KKT residual, stationarity gap, rank, branch.
        state: plain values to pass to the next call; None for a solver without memory.
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
        jacobian: Jacobian,
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Direction:
        """Resolve the conflict.

        Args:
            jacobian: (m, n), row i is the gradient of objective i; or (r, m, n) for r rays at once.
                Three other forms avoid joining the gradients in memory: a list of m rows (n,), a
                list of blocks (m, ...), one per parameter, or a list of m lists with one tensor per
                parameter, None for zeros.
            values: the values of the objectives, (m,) or (r, m).
            state: the ``state`` that the previous call returned; None on the first call.
        """
        ...


class Answer(NamedTuple):
    """The result of ``weigh``: weights of the rows, and evidence about them.

    Attributes:
        weights: (r, m) in float64, for the original rows.
        residual: computes the relative KKT residual (r,); None for closed formulas.
        branch: the branch of the method that was used, or a function that names it for each ray.
        state: returned to the caller.
        problem: the problem that the certificate is about, if not the original one.
        limit: for weights that come from other gradients: the length of the longest direction on
            those gradients. None for weights of these gradients.
    """

    weights: Float[np.ndarray, "r m"]
    residual: Callable[[], Float[np.ndarray, " r"]] | None = None
    branch: str | Callable[[], tuple[str, ...]] = "closed form"
    state: object = None
    problem: GradientProblem | None = None
    limit: Float[np.ndarray, " r"] | None = None


class WeightingSolver(ABC):
    """A solver whose direction is a weighted sum of rows; float64 weights from the Gram matrix.

    A subclass is a frozen dataclass with one method, ``weigh``. This base class handles checks,
    scale, dtype, device, batching over rays, the forms of a jacobian, and the certificate.
    """

    non_conflicting: ClassVar[bool] = False
    """Whether the method guarantees that no objective gets worse to first order."""
    weighs_rows: ClassVar[bool] = True
    """Whether ``weigh`` works; false for a wrapper around a solver that does not weigh rows."""
    needs_gradients: ClassVar[bool] = True
    """Whether the weights depend on gradients; if not, one backward pass is enough."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # else `dataclass` adds one that prints whole tensors
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_settings(self))})"

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Resolve the conflict; see ``Solver``.

        Args:
            jacobian: the gradients.
            values: the values of the objectives.
            state: the state that the previous call returned.
            out: memory for the vector, in the dtype and on the device of the jacobian. Allocating
                new memory takes as long as half the sum at n = 1e7.

        Raises:
            TypeError: the jacobian or the values are not floating point tensors.
            ValueError: a shape does not fit, or an entry is not finite.
        """
        problem = GradientProblem(jacobian, values)
        answer, angles = self._answer(problem, state)
        vector, shown, summed = self._combined(problem, answer, angles, out)
        certificate = Certificate(answer.problem or problem, summed, answer.residual, answer.branch)
        return Direction(vector, shown, certificate, answer.state)

    def from_gram(
        self,
        gram: Float[Tensor, "*r m m"],
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Weighting:
        """Weigh gradients from their Gram matrix.

        Args:
            gram: (m, m) or (r, m, m), entry ij is the inner product of gradients i and j.
            values: the values of the objectives.
            state: the state that the previous call returned.

        Raises:
            TypeError: the arguments are not floating point tensors.
            ValueError: a shape does not fit, or the matrix is not a Gram matrix.
        """
        return self._weighting(GradientProblem.of_gram(gram, values), gram, state)

    def from_values(self, values: Float[Tensor, "*r m"], state: object = None) -> Weighting:
        """Weigh by values alone, if ``needs_gradients`` is false.

        Args:
            values: the values of the objectives, (m,) or (r, m).
            state: the state that the previous call returned.

        Raises:
            TypeError: the values are not a floating point tensor.
            ValueError: a shape does not fit, or this solver needs gradients.
        """
        return self._weighting(GradientProblem.of_values(values), values, state)

    def due(self, state: object) -> bool:
        """Whether the next call, with this state, needs gradients."""
        return self.needs_gradients

    def length_factor(
        self, weighting: Weighting, vector: Float[Tensor, "*r n"]
    ) -> Float[Tensor, "*r 1"]:
        """The factor that shortens reused weights, and their sum, to the length the method allows.

        Args:
            weighting: the result of ``from_values``.
            vector: the sum of the gradients with its weights, after one backward pass.
        """
        given = weighting.weights.to("cpu", torch.float64)
        if weighting.limit is None:
            return torch.ones_like(given[..., :1])
        summed = Sum(vector if vector.ndim == 2 else vector.unsqueeze(0))
        weights = given.numpy().reshape(-1, given.shape[-1])
        with np.errstate(invalid="ignore"):  # under a scaler the vector may be infinite
            factors = self.rescale(summed, weights, weighting.limit)
        return torch.from_numpy(factors).view_as(given[..., :1])

    def total_weight(self, m: int) -> float:
        """An upper bound on the sum of the absolute weights, for all gradients.

        The direction is at most this many times as long as the longest gradient, also when the
        weights are reused on other gradients. The default is infinity, for weights that contain
        ratios or inverses of lengths; to reuse such weights, call ``rescale``.

        Args:
            m: the number of objectives.
        """
        return math.inf

    def longest(self, problem: GradientProblem) -> PerRay:
        """An upper bound on the length of a direction for gradients of these lengths."""
        total = self.total_weight(problem.m)
        return total * problem.gram.norms.max(-1) if total < math.inf else np.full(problem.r, total)

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """The factor that adapts reused weights to new gradients, for wrappers that keep weights.

        Without it, weights of short gradients give a huge direction on long ones.

        Args:
            problem: the current gradients, or only their weighted sum.
            weights: the reused weights; their proportions stay.
            limit: the value of ``longest`` on the gradients of the last solution. It is replaced by
                the value for the current gradients, if these are known and no solution is needed.
        """
        if isinstance(problem, GradientProblem):
            limit = self.longest(problem)
            if np.isinf(limit).all():  # the gradients are not needed
                return np.ones(problem.r)
        return shortened(problem.length(weights), limit)

    @abstractmethod
    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Find the weights of the rows, for all rays at once."""

    def _answer(self, problem: GradientProblem, state: object) -> tuple[Answer, Angles | None]:
        # Also returns the angles of the direction to the rows, if a guarantee depends on them.
        answer = self.weigh(problem, state)
        if answer.limit is not None and problem.known:
            factors = self.rescale(problem, answer.weights, answer.limit)
            answer = answer._replace(weights=answer.weights * factors[:, None], limit=None)
        if not self.non_conflicting:
            return answer, None
        seen = answer.problem or problem
        angles = _angles(seen.gram, answer.weights)
        if not any(cosine < -CONFLICT for cosine in angles[1]):
            return answer, angles
        conflict = np.array(angles[1]) < -CONFLICT
        # Rounding has made the angles of dependent rows impossible: solve again with angles that
        # are possible.
        again = self.weigh(problem.lifted(), state)
        weights = np.where(conflict[:, None], again.weights, answer.weights)

        def residual() -> np.ndarray:
            both = [one.residual() if one.residual else np.zeros(len(weights)) for one in pair]
            return np.where(conflict, *both)

        pair = (again, answer)
        answer = answer._replace(weights=weights, residual=residual, problem=seen)
        return answer, _angles(seen.gram, weights)

    def _weighting(self, problem: GradientProblem, like: Tensor, state: object) -> Weighting:
        answer, _ = self._answer(problem, state)
        certificate = Certificate(
            answer.problem or problem, answer.weights, answer.residual, answer.branch
        )
        dtype = torch.promote_types(like.dtype, torch.float32)  # as for a direction
        weights = problem.shaped(answer.weights).to(like.device, dtype)
        return Weighting(weights, certificate, answer.state, answer.limit)

    def _combined(
        self, problem: GradientProblem, answer: Answer, angles: Angles | None, out: Tensor | None
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        # The vector, the weights in its dtype, and the weights used for the sum.
        rows, weights = problem.rows, answer.weights
        looked_at = finite = problem.looked_at
        with np.errstate(over="ignore", invalid="ignore"):  # sums may leave a narrow dtype's range
            if rows.few:
                summed = weights if angles is None else self._moving(weights, *angles)
                few = rows.wide() if (answer.problem or problem).looked_at else rows.host()
                cast = summed.astype(few.dtype, copy=False)
                total = (cast[:, None] @ few)[:, 0] if rows.batched else cast[0].dot(few)
                if not looked_at:
                    flat = total.reshape(-1) if rows.batched else total
                    finite = math.isfinite(flat.dot(flat))
                vector = like(rows, total)
                if out is not None:
                    vector = rows.buffer(out).copy_(vector).view_as(vector)
            else:
                summed, wide = self._rounded(answer, angles, problem)
                vector = weighted_sum(rows, summed, rows.buffer(out), wide)
                finite = looked_at or math.isfinite(vector.sum().item())
                vector = vector if rows.batched else vector[0]
            shown = weights_like(rows, weights if rows.batched else weights[0])
        # Without a Gram matrix the entries are not checked yet, and a weight of 0 may hide one.
        # Sums and squares of the vector may overflow, but they never hide a non-finite entry.
        if not (finite and (looked_at or np.count_nonzero(weights) == weights.size)):
            rows.check_finite()
        return vector, shown, summed

    def _rounded(
        self, answer: Answer, angles: Angles | None, problem: GradientProblem
    ) -> tuple[np.ndarray, np.ndarray]:
        # The weights for a sum of many numbers, and for each ray whether to sum in float64.
        weights, rows = answer.weights, problem.rows
        seen = answer.problem or problem
        wide = np.zeros(rows.r, dtype=bool)
        if rows.dtype == torch.float32:
            sizes = np.abs(weights)
            wide = ((sizes > NARROW) | ((sizes < 1 / NARROW) & (sizes > 0))).any(-1)
            if angles is None and seen.looked_at:
                angles = _angles(seen.gram, weights)
        if angles is not None:
            wide = wide | (np.array(angles[0]) < CANCELS)
            weights = self._moving(weights, *angles)
        return weights, wide

    def _moving(self, weights: np.ndarray, length: list[float], cosine: list[float]) -> np.ndarray:
        # If a sum cancels to the last digits, only rounding is left, and its direction is random:
        # at this resolution the point is stationary, and the direction is 0.
        if not self.non_conflicting:
            return weights
        moves = [
            size > RESOLUTION and least >= -CONFLICT
            for size, least in zip(length, cosine, strict=True)
        ]
        return weights if all(moves) else np.where(np.array(moves)[:, None], weights, 0.0)


def _settings(solver: object) -> Iterator[str]:
    # The settings that differ from their defaults; for a larger tensor only the shape.
    for setting in fields(solver) if is_dataclass(solver) else ():
        value = getattr(solver, setting.name)
        if isinstance(value, Tensor):
            small = value.numel() <= SHOWN and value.ndim == 1
            shown = ", ".join(f"{number:.4g}" for number in value.tolist()) if small else ""
            yield f"{setting.name}=" + (f"[{shown}]" if small else f"<{tuple(value.shape)}>")
        elif value is not setting.default and repr(value) != repr(setting.default):
            yield f"{setting.name}={value!r}"


def shortened(
    length: Float[np.ndarray, " r"], limit: Float[np.ndarray, " r"]
) -> Float[np.ndarray, " r"]:
    """Factors that shorten lengths to a limit."""
    over = length > limit
    factors: np.ndarray = np.where(over, limit / np.where(over, length, 1.0), 1.0)
    return factors


def _angles(gram: Gram, weights: np.ndarray) -> Angles:
    # For each ray: the length of the weighted sum of rows, relative to its terms, and the smallest
    # cosine with a row.
    if weights.shape[0] == 1 and weights.shape[1] <= FEW:
        terms = list(map(mul, weights[0].tolist(), gram.norms[0].tolist()))
        total = sum(map(abs, terms)) or 1.0
        terms = [term / total for term in terms]
        within = [dot(terms, row) for row in gram.cosines[0].tolist()]
        size = math.sqrt(max(0.0, dot(terms, within)))
        return [size], [min(within) / max(size, RESOLUTION)]
    sizes = weights * gram.norms
    sums = np.maximum(np.abs(sizes).sum(-1, keepdims=True), 1e-300)
    inner, length = lengths(gram.cosines, sizes / sums)
    return length.tolist(), (inner.min(-1) / np.maximum(length, RESOLUTION)).tolist()
