"""The checked input of a solver: gradients of r rays, their values and their Gram matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from paretonas.gradients.gram import Gram
from paretonas.gradients.kind import check_kind
from paretonas.gradients.rows import Jacobian, Rows
from paretonas.solvers.kernels.min_norm import min_norm

__all__ = ["GradientProblem", "PerRay", "Weights"]

Weights = Float[np.ndarray, "r m"]
"""A number for each objective of each ray."""
PerRay = Float[np.ndarray, " r"]
"""A number for each ray."""

LIFT = 1e-12  # the part of an extra dimension that each row gets if the angles are impossible


class GradientProblem:
    """The gradients of m objectives for each of r rays; a single jacobian counts as one ray.

    Arrays are numpy, float64, on the host: the programs of the solvers are too small for an
    accelerator, and copying one (m, m) matrix costs less than the kernel launches.

    Attributes:
        r: the number of rays.
        m: the number of objectives.
        batched: whether the caller gave a leading dimension of r.
        gram: cosines (r, m, m) and norms (r, m) of the rows; computed when first read.
        shortest: weights (r, m) of the shortest convex combination; computed when first read.
    """

    _unscaled: tuple[GradientProblem, np.ndarray] | None = None  # the original of a scaled view
    _lifted = False  # whether ``lifted`` made this problem

    def __init__(self, jacobian: Jacobian, values: Tensor | None = None) -> None:
        """Check the jacobian and the values.

        Raises:
            TypeError: the jacobian or the values are not floating point tensors.
            ValueError: a shape does not fit, or a value is not finite.
        """
        self._rows: Rows | Callable[[], Rows] = Rows(jacobian)
        self.r, self.m, self.batched = self._rows.r, self._rows.m, self._rows.batched
        self._gram_of: Callable[[], Gram] | None = None  # from the rows
        self._values = None if values is None else self._checked_values(values)

    def __repr__(self) -> str:
        return f"GradientProblem({self.r} rays, {self.m} objectives)"

    @classmethod
    def of_gram(cls, gram: Tensor, values: Tensor | None = None) -> GradientProblem:
        """A problem from the Gram matrix of the gradients, (m, m) or (r, m, m).

        Raises:
            TypeError: the arguments are not floating point tensors.
            ValueError: a shape does not fit, or the matrix is not a Gram matrix.
        """
        check_kind("gram", gram)
        if gram.ndim not in (2, 3) or gram.shape[-1] != gram.shape[-2] or 0 in gram.shape:
            raise ValueError(f"gram must have shape (m, m) or (r, m, m), got {tuple(gram.shape)}")
        products = gram.detach().to("cpu", torch.float64, copy=True).numpy()
        products = products.reshape(-1, *products.shape[-2:])
        if not np.isfinite(products).all():
            raise ValueError("gram must be finite")
        digits = 8 * products.shape[-1] * max(torch.finfo(gram.dtype).eps, 1e-12)
        whole = _possible(products, digits)
        problem = cls.__new__(cls)
        problem.r, problem.m, _ = products.shape
        problem.batched = gram.ndim == 3
        problem._rows = _no_rows
        problem._gram_of = lambda: whole
        problem._values = None if values is None else problem._checked_values(values)
        return problem

    @classmethod
    def of_values(cls, values: Tensor) -> GradientProblem:
        """A problem from the values alone, (m,) or (r, m), for a solver that needs no gradients.

        Raises:
            TypeError: the values are not a floating point tensor.
            ValueError: a shape does not fit, or a value is not finite.
        """
        check_kind("values", values)
        if values.ndim not in (1, 2) or 0 in values.shape:
            raise ValueError(f"values must have shape (m,) or (r, m), got {tuple(values.shape)}")
        problem = cls.__new__(cls)
        problem.batched = values.ndim == 2
        problem.r, problem.m = values.shape if problem.batched else (1, len(values))
        problem._rows, problem._gram_of = _no_rows, _no_gram
        problem._values = problem._checked_values(values)
        return problem

    @property
    def known(self) -> bool:
        """Whether the gradients are known, or only the values."""
        return self._gram_of is not _no_gram

    @property
    def rows(self) -> Rows:
        """The gradients themselves, for a solver that needs more than angles and lengths.

        Raises:
            ValueError: the caller gave only the Gram matrix or the values.
        """
        return self._rows if isinstance(self._rows, Rows) else self._rows()

    @property
    def looked_at(self) -> bool:
        """Whether the Gram matrix was computed; then every entry is known to be finite."""
        return "gram" in self.__dict__

    @cached_property
    def gram(self) -> Gram:
        """Cosines and norms of the rows."""
        return Gram.of(self.rows) if self._gram_of is None else self._gram_of()

    @cached_property
    def shortest(self) -> Float[np.ndarray, "r m"]:
        """Weights of the shortest vector in the convex hull of the rows."""
        return min_norm(self.gram)

    @property
    def n(self) -> int:
        """Parameters."""
        return self.rows.n if self._unscaled is None else self._unscaled[0].n

    def length(self, weights: Weights) -> PerRay:
        """Length of the weighted sum of the rows."""
        terms = weights * self.gram.norms
        total = np.maximum(np.abs(terms).sum(-1), 1e-300)  # so that no square overflows
        terms = terms / total[:, None]
        square = np.vecdot(terms, np.matvec(self.gram.cosines, terms))
        lengths: Float[np.ndarray, " r"] = total * np.sqrt(np.maximum(square, 0.0))
        return lengths

    @property
    def given_values(self) -> Float[np.ndarray, "r m"] | None:
        """The values of the objectives, or None."""
        return self._values

    @property
    def values(self) -> Float[np.ndarray, "r m"]:
        """The values of the objectives.

        Raises:
            ValueError: the caller gave no values.
        """
        if self._values is None:
            raise ValueError("this solver needs the values of the objectives: pass values, (m,)")
        return self._values

    def spread(self, preference: Tensor | None) -> Float[np.ndarray, "r m"]:
        """The preference of each ray; None is 1/m for each objective.

        Raises:
            ValueError: the preference does not fit the jacobian.
        """
        r, m = self.r, self.m
        if preference is None:
            equal = np.empty((r, m))
            equal.fill(1.0 / m)
            return equal
        fits = preference.shape[-1] == m and (preference.ndim == 1 or len(preference) == r)
        if not fits or (preference.ndim == 2 and not self.batched):
            raise ValueError(
                f"preference must have shape (m,) = ({m},)"
                + (f" or (r, m) = ({r}, {m})" if self.batched else "")
                + f" to fit the jacobian, got {tuple(preference.shape)}"
            )
        spread = np.empty((r, m))
        spread[:] = preference.detach().to("cpu", torch.float64).numpy()
        return spread

    def scaled(
        self,
        factors: Float[np.ndarray, "r m"],
        values: Float[np.ndarray, "r m"] | None = None,
    ) -> GradientProblem:
        """Multiply each row by a positive factor; the original rows do not change.

        Args:
            factors: positive, one per ray and objective.
            values: new values; None keeps the old values.
        """

        def rows() -> Rows:
            given = self.rows
            dense = given.dense()
            by = torch.from_numpy(factors).to(dense.device, dense.dtype).unsqueeze(-1)
            return Rows(dense * by if self.batched else (dense * by).squeeze(0))

        def gram() -> Gram:
            return Gram(self.gram.cosines, self.gram.norms * factors)

        problem = self._derived(rows, gram if self.known else _no_gram, values)
        problem._unscaled = (self, factors)
        return problem

    def with_metric(self, metric: Float[Tensor, " n"]) -> GradientProblem:
        """Measure angles and lengths by a'diag(metric)b instead of a'b.

        Raises:
            ValueError: the metric does not have n positive, finite entries.
        """
        if self._unscaled is not None:  # use the original: scaled rows would be rounded twice
            before, factors = self._unscaled
            return before.with_metric(metric).scaled(factors, self._values)
        given = self.rows
        if metric.shape != (given.n,) or not bool((metric.isfinite() & (metric > 0)).all()):
            raise ValueError(
                f"metric must have shape (n,) = ({given.n},) with positive, finite entries, "
                f"got shape {tuple(metric.shape)}"
            )
        here = metric.detach().to(given.device)

        def rows() -> Rows:
            dense = given.dense()
            stretched = dense * here.sqrt().to(dense.dtype)
            return Rows(stretched if self.batched else stretched.squeeze(0))

        problem = self._derived(rows, lambda: Gram.of(given, here), None)
        return problem.lifted() if self._lifted else problem

    def lifted(self) -> GradientProblem:
        """Turn all rows away from each other by a little more than the rounding error."""
        m = self.m

        def gram() -> Gram:
            cosines = (self.gram.cosines + LIFT * np.eye(m)) / (1.0 + LIFT)
            return Gram(cosines, self.gram.norms)

        problem = self._derived(lambda: self.rows, gram, None)
        problem._lifted = True
        return problem

    def shaped(self, array: Shaped[np.ndarray, "r ..."]) -> Tensor:
        """Return a tensor, without the leading dimension if the caller gave none."""
        return torch.from_numpy(array if self.batched else array.reshape(array.shape[1:]))

    def _derived(
        self, rows: Callable[[], Rows], gram: Callable[[], Gram], values: np.ndarray | None
    ) -> GradientProblem:
        problem = GradientProblem.__new__(GradientProblem)
        problem.r, problem.m, problem.batched = self.r, self.m, self.batched
        problem._rows, problem._gram_of = rows, gram
        problem._values = self._values if values is None else values
        return problem

    def _checked_values(self, values: Tensor) -> np.ndarray:
        check_kind("values", values)
        expected = (self.r, self.m) if self.batched else (self.m,)
        if values.shape != expected:
            letters = "(r, m)" if self.batched else "(m,)"
            raise ValueError(
                f"values must have shape {letters} = {expected}, got {tuple(values.shape)}"
            )
        wide = values.detach().to("cpu", torch.float64, copy=True).numpy()
        finite = np.isfinite(wide)
        if not finite.all():
            at = np.argwhere(~finite)[0]
            raise ValueError(
                f"values must be finite, got {wide[tuple(at)]} for objective {at[-1]}"
                + (f" of ray {at[0]}" if self.batched else "")
            )
        return wide if self.batched else wide[None]


class Sum:
    """Gradients of which only the weighted sum is known, as after one backward pass.

    Attributes:
        n: the number of parameters.
    """

    def __init__(self, vector: Float[Tensor, "r n"]) -> None:
        """Take the sum of each ray."""
        self._vector = vector
        self.n = vector.shape[-1]

    def length(self, weights: Weights) -> PerRay:
        """Length of the sum; these weights made it."""
        sizes: Tensor = torch.linalg.vector_norm(self._vector, dim=-1, dtype=torch.float64)
        lengths: np.ndarray = sizes.numpy(force=True)
        return lengths

    def with_metric(self, metric: Float[Tensor, " n"]) -> Sum:
        """Measure by a'diag(metric)b instead of a'b."""
        return Sum(self._vector.double() * metric.to(self._vector.device, torch.float64).sqrt())


def _possible(products: np.ndarray, slack: float) -> Gram:
    # Repairs products that rounding made impossible by up to ``slack``, relative to the lengths.
    squares = products.diagonal(axis1=-2, axis2=-1)
    top = squares.max(-1, keepdims=True)
    if (squares < -slack * top).any() or (top < 0).any():
        raise ValueError("gram must have a diagonal >= 0: it holds the squared lengths")
    norms = np.sqrt(np.maximum(squares, 0.0))
    bound = norms[:, :, None] * norms[:, None, :]
    turned = np.abs(products - products.swapaxes(-1, -2))
    tiny = slack * top[:, :, None]
    if (turned > 2 * slack * bound + tiny * (bound == 0)).any():
        raise ValueError("gram must be symmetric")
    gram = Gram.of_matrix(np.where(bound > 0, products, 0.0))
    least = np.linalg.eigvalsh(gram.cosines)[:, 0]
    if (np.abs(products) > (1 + slack) * bound + tiny).any() or least.min() < -slack:
        raise ValueError(
            "gram must hold inner products: no gradients have such angles "
            f"(smallest eigenvalue of the cosines {least.min():.3g})"
        )
    lift = np.maximum(-least, 0.0)[:, None, None]
    return Gram((gram.cosines + lift * np.eye(gram.norms.shape[-1])) / (1 + lift), gram.norms)


def check_preference(preference: Tensor | None, name: str = "preference") -> None:
    """Accept None, (m,) or (r, m), positive and summing to 1.

    Raises:
        TypeError: it is not a floating point tensor.
        ValueError: its shape, its signs or its sum is wrong.
    """
    if preference is None:
        return
    check_kind(name, preference)
    if preference.ndim not in (1, 2) or preference.shape[-1] == 0:
        raise ValueError(f"{name} must have shape (m,) or (r, m), got {tuple(preference.shape)}")
    wide = preference.detach().double()
    if not (wide.isfinite() & (wide > 0)).all():
        raise ValueError(f"{name} must be positive and finite, got {preference.tolist()}")
    total = wide.sum(-1)
    # The sum of m rounded numbers has their rounding error, which is large in half precision.
    slack = max(1e-6, preference.shape[-1] * torch.finfo(preference.dtype).eps)
    if ((total - 1.0).abs() > slack).any():
        raise ValueError(f"{name} must sum to 1 over the objectives, got {total.tolist()}")


def check_point(name: str, point: Tensor | None) -> None:
    """Accept None, or (m,) finite numbers, one for each objective.

    Raises:
        TypeError: it is not a tensor.
        ValueError: its shape is wrong, or a number is not finite.
    """
    if point is None:
        return
    check_kind(name, point)
    if point.ndim != 1 or not bool(point.isfinite().all()):
        raise ValueError(f"{name} must be finite and have shape (m,), got {point.tolist()}")


def _no_rows() -> Rows:
    raise ValueError("this solver needs the gradients themselves: pass the jacobian")


def _no_gram() -> Gram:
    raise ValueError("this solver needs gradients: pass the jacobian, or its Gram matrix")
