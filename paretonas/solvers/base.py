"""What every solver shares: the protocol, its answer, and the dull part done once.

The three tiers of speed of `gradients.rows` and `gradients.gram` meet here. ``_combined`` sums
*few* numbers by one numpy product on the host, and *many* by ``weighted_sum`` where they are, after
``_rounded`` has said which rays need float64: one read of the gradients and one write. ``_look``
has a way for one small matrix *alone*, in plain numbers, which saves a dozen numpy calls.
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
Looks = tuple[list[float], list[float]]
CONFLICT = 1e-6  # cosine down to which a direction counts as one that does not conflict
CANCELS = 0.1  # length relative to its terms down to which float32 sums keep the angles
SHOWN = 8  # numbers of a tensor that are shown
NARROW = 1e30  # weights up to which, with their inverses, products stay within float32


@dataclass(frozen=True, eq=False)
class Weighting:
    """How a solver weighs the gradients.

    Attributes:
        weights: (m,) or (r, m).
        certificate: smallest cosine, KKT residual, stationarity gap, rank, branch.
        state: plain values to hand back on the next call; None for a solver without memory.
        limit: (r,), where the weights were kept from other gradients: multiply them, and the sum
            of the gradients by them, by ``length_factor``. None where nothing is to fit.
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
            dtype of the jacobian, but float32 at least, since weights may leave the range of half
            precision where the vector does not. None for a solver that is no weighting of rows.
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
        jacobian: Jacobian,
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Direction:
        """Resolve the conflict.

        Args:
            jacobian: (m, n), row i the gradient of objective i; or (r, m, n) for r rays at once;
                or, never joined in memory, a list of m rows (n,), a list of blocks (m, ...), one
                per parameter, or a list of m lists with one tensor per parameter, None for zeros.
            values: the objectives themselves, (m,) or (r, m).
            state: what the previous call returned as ``state``; None on the first call.
        """
        ...


class Answer(NamedTuple):
    """What the inside of a solver returns: weights of the rows, and how they came about.

    Attributes:
        weights: (r, m) in float64, referring to the rows as given.
        residual: works out the relative KKT residual (r,); None for closed formulas.
        branch: the way taken, or a function that names it for each ray.
        state: handed to the caller.
        problem: what the certificate refers to, if not the problem as given.
        limit: for weights that were kept from other gradients, and are now to be fitted to these:
            the longest direction where they were found; None for weights of these gradients.
    """

    weights: Float[np.ndarray, "r m"]
    residual: Callable[[], Float[np.ndarray, " r"]] | None = None
    branch: str | Callable[[], tuple[str, ...]] = "closed form"
    state: object = None
    problem: GradientProblem | None = None
    limit: Float[np.ndarray, " r"] | None = None


class WeightingSolver(ABC):
    """A solver whose direction is a weighted sum of rows, found in float64 from their Gram matrix.

    A subclass is a frozen dataclass with one method, ``weigh``. Checks, scale, dtype, device,
    batching over rays, the forms of a jacobian and the certificate are done here.
    """

    non_conflicting: ClassVar[bool] = False
    """Whether the method guarantees that no objective gets worse to first order."""
    weighs_rows: ClassVar[bool] = True
    """Whether ``weigh`` has an answer; false for a wrapper around a solver that has none."""
    needs_gradients: ClassVar[bool] = True
    """Whether the weights depend on gradients; if not, one backward pass will do."""

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):  # or `dataclass` writes one that prints whole tensors
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_settings(self))})"

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Resolve the conflict; see ``Solver``.

        Args:
            jacobian: the gradients.
            values: the objectives.
            state: of the call before.
            out: memory for the vector, in the dtype and on the device of the jacobian; fresh
                memory costs as much as half the sum at n = 1e7.

        Raises:
            TypeError: the jacobian or the values are no floating point tensors.
            ValueError: a shape does not fit, or an entry is not finite.
        """
        problem = GradientProblem(jacobian, values)
        answer, looks = self._answer(problem, state)
        vector, shown, summed = self._combined(problem, answer, looks, out)
        certificate = Certificate(answer.problem or problem, summed, answer.residual, answer.branch)
        return Direction(vector, shown, certificate, answer.state)

    def from_gram(
        self,
        gram: Float[Tensor, "*r m m"],
        values: Float[Tensor, "*r m"] | None = None,
        state: object = None,
    ) -> Weighting:
        """Weigh gradients of which only the products are known.

        Args:
            gram: (m, m) or (r, m, m), entry ij the inner product of gradients i and j.
            values: the objectives.
            state: of the call before.

        Raises:
            TypeError: no floating point tensors.
            ValueError: a shape does not fit, or the matrix is no Gram matrix.
        """
        return self._weighting(GradientProblem.of_gram(gram, values), gram, state)

    def from_values(self, values: Float[Tensor, "*r m"], state: object = None) -> Weighting:
        """Weigh by values alone, where ``needs_gradients`` is false.

        Args:
            values: the objectives, (m,) or (r, m).
            state: of the call before.

        Raises:
            TypeError: no floating point tensor.
            ValueError: a shape does not fit, or this solver needs gradients.
        """
        return self._weighting(GradientProblem.of_values(values), values, state)

    def due(self, state: object) -> bool:
        """Say whether the next call, with this state, looks at gradients."""
        return self.needs_gradients

    def length_factor(
        self, weighting: Weighting, vector: Float[Tensor, "*r n"]
    ) -> Float[Tensor, "*r 1"]:
        """Factor that brings a sum by kept weights, and these, to the length the method allows.

        Args:
            weighting: what ``from_values`` returned.
            vector: the gradients summed by its weights, after one backward pass.
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
        """Sum of the absolute weights that is never exceeded, whatever the gradients are.

        With a finite one the direction is at most so many times as long as the longest gradient,
        also where the weights are used again on other gradients. Infinite, as by default, where
        weights have ratios or inverses of lengths in them: used again they need ``rescale``.

        Args:
            m: objectives.
        """
        return math.inf

    def longest(self, problem: GradientProblem) -> PerRay:
        """Length that no direction of this method exceeds on gradients of these lengths."""
        total = self.total_weight(problem.m)
        return total * problem.gram.norms.max(-1) if total < math.inf else np.full(problem.r, total)

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Factor that fits weights found on other gradients to these, for wrappers that keep some.

        Without it, weights found on short gradients make an endless direction of long ones.

        Args:
            problem: the gradients at hand, or only their sum by the weights.
            weights: in the proportions that stay.
            limit: what ``longest`` was where the method was last asked; in its place stands what
                it is for the gradients at hand, where these are known and it needs no solution.
        """
        if isinstance(problem, GradientProblem):
            limit = self.longest(problem)
            if np.isinf(limit).all():  # no need to look at the gradients
                return np.ones(problem.r)
        return shortened(problem.length(weights), limit)

    @abstractmethod
    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Find the weights of the rows, for all rays at once."""

    def _answer(self, problem: GradientProblem, state: object) -> tuple[Answer, Looks | None]:
        # With how the direction lies to the rows, where a promise depends on it.
        answer = self.weigh(problem, state)
        if answer.limit is not None and problem.known:
            factors = self.rescale(problem, answer.weights, answer.limit)
            answer = answer._replace(weights=answer.weights * factors[:, None], limit=None)
        if not self.non_conflicting:
            return answer, None
        seen = answer.problem or problem
        looks = _look(seen.gram, answer.weights)
        if not any(cosine < -CONFLICT for cosine in looks[1]):
            return answer, looks
        conflict = np.array(looks[1]) < -CONFLICT
        # Rounding has made dependent rows look as if no gradients could have such angles: solve
        # again for angles that are possible.
        again = self.weigh(problem.lifted(), state)
        weights = np.where(conflict[:, None], again.weights, answer.weights)

        def residual() -> np.ndarray:
            both = [one.residual() if one.residual else np.zeros(len(weights)) for one in pair]
            return np.where(conflict, *both)

        pair = (again, answer)
        answer = answer._replace(weights=weights, residual=residual, problem=seen)
        return answer, _look(seen.gram, weights)

    def _weighting(self, problem: GradientProblem, like: Tensor, state: object) -> Weighting:
        answer, _ = self._answer(problem, state)
        certificate = Certificate(
            answer.problem or problem, answer.weights, answer.residual, answer.branch
        )
        dtype = torch.promote_types(like.dtype, torch.float32)  # as for a direction
        weights = problem.shaped(answer.weights).to(like.device, dtype)
        return Weighting(weights, certificate, answer.state, answer.limit)

    def _combined(
        self, problem: GradientProblem, answer: Answer, looks: Looks | None, out: Tensor | None
    ) -> tuple[Tensor, Tensor, np.ndarray]:
        # The vector, the weights in its dtype, and the weights by which it was summed.
        rows, weights = problem.rows, answer.weights
        looked_at = finite = problem.looked_at
        with np.errstate(over="ignore", invalid="ignore"):  # sums may leave a narrow dtype's range
            if rows.few:
                summed = weights if looks is None else self._moving(weights, *looks)
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
                summed, wide = self._rounded(answer, looks, problem)
                vector = weighted_sum(rows, summed, rows.buffer(out), wide)
                finite = looked_at or math.isfinite(vector.sum().item())
                vector = vector if rows.batched else vector[0]
            shown = weights_like(rows, weights if rows.batched else weights[0])
        # Without a Gram matrix nothing has looked at all entries, and a weight of 0 may hide one.
        # Sums and squares of the vector may overflow, but they never hide what is not finite.
        if not (finite and (looked_at or np.count_nonzero(weights) == weights.size)):
            rows.check_finite()
        return vector, shown, summed

    def _rounded(
        self, answer: Answer, looks: Looks | None, problem: GradientProblem
    ) -> tuple[np.ndarray, np.ndarray]:
        # The weights to sum many numbers by, and for each ray whether to sum in float64.
        weights, rows = answer.weights, problem.rows
        seen = answer.problem or problem
        wide = np.zeros(rows.r, dtype=bool)
        if rows.dtype == torch.float32:
            sizes = np.abs(weights)
            wide = ((sizes > NARROW) | ((sizes < 1 / NARROW) & (sizes > 0))).any(-1)
            if looks is None and seen.looked_at:
                looks = _look(seen.gram, weights)
        if looks is not None:
            wide = wide | (np.array(looks[0]) < CANCELS)
            weights = self._moving(weights, *looks)
        return weights, wide

    def _moving(self, weights: np.ndarray, length: list[float], cosine: list[float]) -> np.ndarray:
        # A sum that cancels to the last digits is rounding that points anywhere, also uphill: at
        # this resolution the point is stationary, and the direction is 0.
        if not self.non_conflicting:
            return weights
        moves = [
            size > RESOLUTION and least >= -CONFLICT
            for size, least in zip(length, cosine, strict=True)
        ]
        return weights if all(moves) else np.where(np.array(moves)[:, None], weights, 0.0)


def _settings(solver: object) -> Iterator[str]:
    # What differs from its default; of a larger tensor the shape alone.
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
    """Factors that bring lengths down to a limit."""
    over = length > limit
    factors: np.ndarray = np.where(over, limit / np.where(over, length, 1.0), 1.0)
    return factors


def _look(gram: Gram, weights: np.ndarray) -> Looks:
    # Lengths of the weighted sums of rows, relative to their terms, and their smallest cosines.
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
