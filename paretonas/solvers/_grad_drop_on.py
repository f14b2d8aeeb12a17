"""GradDrop as published: one draw per feature of a shared representation, for all examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from paretonas.gradients.kind import check_kind
from paretonas.gradients.rows import Jacobian
from paretonas.solvers._random import coins
from paretonas.solvers.base import Direction, Out, Values
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.problem import GradientProblem


@dataclass(frozen=True, eq=False)
class GradDropOn:
    """A `GradDrop` that knows the representation of the gradients; see `GradDrop.on`.

    Attributes:
        features: the representation, one tensor or several, each (batch, ...).
        leak: see `GradDrop`.
        generator: see `GradDrop`.
    """

    features: Sequence[Float[Tensor, "b ..."]]
    leak: Float[Tensor, " m"] | None
    generator: torch.Generator | None

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Draw a sign per feature, and mask; see ``Solver``. The state is returned unchanged."""
        problem = GradientProblem(jacobian, values)
        rows = problem.rows
        width = sum(z.numel() for z in self.features)
        if rows.n != width:
            raise ValueError(
                f"jacobian must have a column for each of {width} entries of the representation, "
                f"got {rows.n}"
            )
        check_leak_fits(self.leak, problem.m)
        given, vector = rows.dense(), rows.buffer(out)
        start, total = 0, 0.0
        for z in self.features:
            end = start + z.numel()
            cut = given[:, :, start:end].reshape(rows.r, rows.m, *z.shape)
            if not z.isfinite().all():  # whose sign would be 0
                raise ValueError("representation must be finite, got NaN or infinity")
            goal, size = self._masked(cut, z.to(rows.device).sign())
            vector[:, start:end] = goal.reshape(rows.r, -1)
            start, total = end, total + size
        if not math.isfinite(total):
            rows.check_finite()
        certificate = Certificate(problem, None, None, "drawn per feature", vector)
        return Direction(vector if rows.batched else vector[0], None, certificate, state)

    def _masked(
        self, gradients: Float[Tensor, "r m b ..."], signs: Float[Tensor, "b ..."]
    ) -> tuple[Float[Tensor, "r b ..."], float]:
        # Also returns a sum of absolute values: it is not finite if any entry is not finite.
        wide = torch.promote_types(gradients.dtype, torch.float32)
        # For each task and feature: do larger activations raise the loss, or lower it?
        pull = (gradients * signs.to(gradients.dtype)).sum(2, dtype=torch.float64)
        size = pull.abs().sum(1)
        drawn = coins(self.generator, tuple(size.shape), wide).to(pull)
        up = (drawn * size < pull.clamp_min(0.0).sum(1)).unsqueeze(1)
        kept: Bool[Tensor, "r m ..."] = torch.where(up, pull > 0, pull < 0)
        shares = (kept | (size == 0).unsqueeze(1)).to(wide)
        if self.leak is not None:
            leak = self.leak.detach().to(shares).reshape(-1, *[1] * (shares.ndim - 2))
            shares = leak + (1.0 - leak) * shares
        return (gradients.to(wide) * shares.unsqueeze(2)).sum(1), float(size.sum())


def checked_features(representation: object) -> list[Tensor]:
    """Return the tensors of a representation.

    Raises:
        TypeError: something is not a floating point tensor.
        ValueError: there is no tensor, or a tensor has no batch dimension.
    """
    if isinstance(representation, Tensor):
        return [_checked("representation", representation)]
    if not isinstance(representation, Sequence) or isinstance(representation, str):
        raise TypeError(
            f"representation must be a torch.Tensor or several, got {type(representation).__name__}"
        )
    if not representation:
        raise ValueError("representation must be at least one tensor, got none")
    return [_checked(f"representation[{k}]", z) for k, z in enumerate(representation)]


def _checked(name: str, tensor: object) -> Tensor:
    z = check_kind(name, tensor)
    if z.ndim == 0 or z.numel() == 0:
        raise ValueError(f"{name} must have shape (batch, ...) and entries, got {tuple(z.shape)}")
    return z.detach()


def check_leak_fits(leak: Tensor | None, m: int) -> None:
    """Refuse a leak for another number of tasks.

    Raises:
        ValueError: its shape is not (m,).
    """
    if leak is not None and len(leak) != m:
        raise ValueError(
            f"leak must have shape (m,) = ({m},) to fit the jacobian, got ({len(leak)},)"
        )
