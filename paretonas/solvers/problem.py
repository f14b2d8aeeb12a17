"""What a solver is given, checked once: gradients of r rays, their values, their Gram matrix."""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._gram import Gram
from paretonas.solvers._min_norm import min_norm


class Problem:
    """The gradients of m objectives for each of r rays; a lone jacobian counts as one ray.

    Attributes:
        rows: the jacobian, (r, m, n), without its autograd graph.
        batched: whether the caller gave (r, m, n) rather than (m, n).
        gram: cosines (r, m, m) and norms (r, m) of the rows in float64; computed when first read.
        shortest: weights (r, m) of the shortest convex combination; computed when first read.
    """

    def __init__(self, jacobian: Tensor, values: Tensor | None = None) -> None:
        """Check both.

        Raises:
            TypeError: the jacobian or the values are no floating point tensors.
            ValueError: a shape does not fit, or an entry is not finite.
        """
        _check_kind("jacobian", jacobian)
        if jacobian.ndim not in (2, 3):
            raise ValueError(
                f"jacobian must have shape (m, n) or (r, m, n), got {tuple(jacobian.shape)}"
            )
        if 0 in jacobian.shape:
            raise ValueError(
                "jacobian must have at least one ray, one row and one column, "
                f"got shape {tuple(jacobian.shape)}"
            )
        self.batched = jacobian.ndim == 3
        detached = jacobian.detach()
        self.rows: Tensor = detached if self.batched else detached.unsqueeze(0)
        self._peaks = torch.linalg.vector_norm(self.rows, torch.inf, dim=-1)
        if not self._peaks.isfinite().all():
            raise ValueError(_where_not_finite(self.rows, self.batched))
        self._values = None if values is None else self._checked_values(values)

    @cached_property
    def gram(self) -> Gram:
        """Cosines and norms of the rows, in float64."""
        return Gram.of(self.rows, self._peaks)

    @cached_property
    def shortest(self) -> Float[Tensor, "r m"]:
        """Weights of the shortest vector in the convex hull of the rows."""
        return min_norm(self.gram)

    @property
    def values(self) -> Float[Tensor, "r m"]:
        """The values of the objectives, in float64.

        Raises:
            ValueError: the caller gave none.
        """
        if self._values is None:
            raise ValueError("this solver needs the values of the objectives: pass values, (m,)")
        return self._values

    def spread(self, preference: Tensor | None) -> Float[Tensor, "r m"]:
        """Give each ray its preference, in float64; None is 1/m for each objective.

        Raises:
            ValueError: the preference does not fit the jacobian.
        """
        r, m, _ = self.rows.shape
        if preference is None:
            return self.rows.new_full((r, m), 1.0 / m, dtype=torch.float64)
        fits = preference.shape[-1] == m and (preference.ndim == 1 or len(preference) == r)
        if not fits or (preference.ndim == 2 and not self.batched):
            raise ValueError(
                f"preference must have shape (m,) = ({m},)"
                + (f" or (r, m) = ({r}, {m})" if self.batched else "")
                + f" to fit the jacobian, got {tuple(preference.shape)}"
            )
        return preference.to(self.rows.device, torch.float64).expand(r, m)

    def _checked_values(self, values: Tensor) -> Tensor:
        _check_kind("values", values)
        expected = self.rows.shape[:2] if self.batched else self.rows.shape[1:2]
        if values.shape != expected:
            letters = "(r, m)" if self.batched else "(m,)"
            raise ValueError(
                f"values must have shape {letters} = {tuple(expected)}, got {tuple(values.shape)}"
            )
        finite = values.isfinite()
        if not finite.all():
            at = (~finite).nonzero()[0].tolist()
            raise ValueError(
                f"values must be finite, got {values[tuple(at)].item()} for objective {at[-1]}"
                + (f" of ray {at[0]}" if self.batched else "")
            )
        wide = values.detach().to(self.rows.device, torch.float64)
        return wide if self.batched else wide.unsqueeze(0)


def check_preference(preference: Tensor | None) -> None:
    """Accept None, (m,) or (r, m), positive and summing to 1.

    Raises:
        TypeError: it is no floating point tensor.
        ValueError: its shape, its signs or its sum are wrong.
    """
    if preference is None:
        return
    _check_kind("preference", preference)
    if preference.ndim not in (1, 2) or preference.shape[-1] == 0:
        raise ValueError(
            f"preference must have shape (m,) or (r, m), got {tuple(preference.shape)}"
        )
    wide = preference.detach().double()
    if not (wide.isfinite() & (wide > 0)).all():
        raise ValueError(f"preference must be positive and finite, got {preference.tolist()}")
    total = wide.sum(-1)
    # The sum of m rounded numbers is off by their rounding, which is coarse in half precision.
    slack = max(1e-6, preference.shape[-1] * torch.finfo(preference.dtype).eps)
    if ((total - 1.0).abs() > slack).any():
        raise ValueError(f"preference must sum to 1 over the objectives, got {total.tolist()}")


def _check_kind(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must have a floating point dtype, got {tensor.dtype}")


def _where_not_finite(rows: Tensor, batched: bool) -> str:
    broken = ~rows.isfinite()
    found = [f"row {i}" + (f" of ray {k}" if batched else "") for k, i in broken.any(-1).nonzero()]
    first = rows[broken][0].item()
    named = ", ".join(found[:8]) + (", ..." if len(found) > 8 else "")
    return f"jacobian must be finite, got {first} in {named}"
