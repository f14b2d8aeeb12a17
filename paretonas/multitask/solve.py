"""From rows to a direction, with mixed precision; and from gradients to ``.grad``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.differentiate import Row
from paretonas.gradients.flatten import unflatten
from paretonas.solvers.base import Direction, Solver
from paretonas.solvers.certificate import Certificate
from paretonas.solvers.problem import GradientProblem

if TYPE_CHECKING:
    from torch.amp import GradScaler


def refuse_no_solver(solver: Solver) -> None:
    """Refuse a solver class or a name in place of a solver.

    Raises:
        TypeError: it is not a solver object.
    """
    if isinstance(solver, type):
        raise TypeError(f"solver must be an object, got a class: write {solver.__name__}()")
    if not callable(solver):
        raise TypeError(f"solver must be an object such as MGDA(), got {solver!r}")


def scale_of(scaler: GradScaler | None, loss: Tensor) -> Tensor | None:
    """Return the scale, shape (), on the loss's device; None without an enabled scaler."""
    if scaler is None or not scaler.is_enabled():
        return None
    scaled: Tensor = scaler.scale(torch.ones((), device=loss.device))
    return scaled


def values_of(losses: list[Tensor]) -> Float[Tensor, " m"]:
    """Join the losses, in at least float32."""
    dtype = torch.float32
    for loss in losses:
        dtype = torch.promote_types(dtype, loss.dtype)
    return torch.stack([loss.detach().to(losses[0].device, dtype) for loss in losses])


def solve(
    solver: Solver,
    rows: list[Row],
    shared: list[Tensor],
    values: Float[Tensor, " m"],
    state: object,
    scale: Tensor | None,
) -> Direction:
    """Pass the gradients to the solver, without joining them and without the scale.

    If gradients overflow because of the scale, there is no error. The direction is NaN, and so the
    scaler skips this step.
    """
    device = shared[0].device
    if any(p.device != device for p in shared):
        rows = [[None if g is None else g.to(device) for g in row] for row in rows]
    if scale is not None:
        known = [g for row in rows for g in row if g is not None]
        peaks = [torch.linalg.vector_norm(g, torch.inf) for g in known if g.numel() > 0]
        if not torch.stack([*peaks, values.to(device).norm(torch.inf)]).isfinite().all():
            return skipped(len(rows), shared, state)
        back = (1.0 / scale).to(device)
        rows = [[None if g is None else g * back for g in row] for row in rows]
    for k, p in enumerate(shared):
        if all(row[k] is None for row in rows):
            rows[0][k] = p.new_zeros((), device=device).expand(p.shape)
    with torch.no_grad():
        if not torch.is_autocast_enabled(device.type):
            return solver(rows, values, state)
        # Else products inside the solver would be computed in half precision instead of float32.
        with torch.autocast(device.type, enabled=False):
            return solver(rows, values, state)


def skipped(m: int, shared: list[Tensor], state: object) -> Direction:
    """Return the direction of a step that the scaler skips: NaN, with an unchanged state."""
    unknown = np.full((1, m), np.nan)
    certificate = Certificate(
        GradientProblem.of_values(torch.zeros(m)),
        unknown,
        lambda: np.full(1, np.nan),
        "skipped: a gradient or a loss is not finite at this scale",
    )
    n = sum(p.numel() for p in shared)
    nan = shared[0].new_full((n,), torch.nan)
    weights = torch.full((m,), torch.nan, dtype=torch.promote_types(nan.dtype, torch.float32))
    return Direction(nan, weights.to(nan.device), certificate, state)


def add_direction(
    shared: list[Tensor], vector: Float[Tensor, " n"], scale: Tensor | None, reached: list[bool]
) -> None:
    """Add a direction, times the scale, to ``.grad`` of the parameters that have gradients."""
    # One copy for all parameters, each gets a piece of it: the caller's vector must not change.
    copy = vector.clone() if scale is None else vector * scale.to(vector.device)
    for parameter, piece, hit in zip(shared, unflatten(copy, shared), reached, strict=True):
        if hit and parameter.grad is None and parameter.is_contiguous():
            parameter.grad = piece
        elif hit:
            add_to_grad(parameter, piece)


def add_to_grad(parameter: Tensor, gradient: Tensor) -> None:
    """Do what ``loss.backward()`` does to ``.grad``, in separate memory."""
    if parameter.grad is None:
        # In the memory layout of the parameter: optimizers are fastest with it.
        parameter.grad = torch.empty_like(parameter).copy_(gradient)
    else:
        parameter.grad.add_(gradient.to(parameter.grad.device))
