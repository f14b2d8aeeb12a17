"""Gradient surgery on a shared representation: one backward pass through the encoder for any m."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.differentiate import differentiate
from paretonas.gradients.flatten import unflatten
from paretonas.multitask.parts import Tensors, check_losses, given_heads, heads_above, one_each
from paretonas.multitask.solve import add_to_grad, refuse_no_solver, scale_of, solve, values_of
from paretonas.solvers.base import Direction, Solver

if TYPE_CHECKING:
    from torch.amp import GradScaler


def backward_through(
    losses: Sequence[Float[Tensor, ""]],
    representation: Tensor | Sequence[Tensor],
    *,
    solver: Solver,
    heads: Sequence[Tensors] | None = None,
    state: object = None,
    retain_graph: bool = False,
    scaler: GradScaler | None = None,
) -> Direction:
    """Resolve the conflict at the shared representation, and pass only the result to the encoder.

    The losses are differentiated with respect to the representation, through the heads only. One
    backward pass then sends the solver's direction through the encoder and adds to ``.grad`` of all
    parameters below the representation. Each head gets the gradient of its own loss. With `MGDA`
    this is MGDA-UB.

    The solver's guarantees hold for a step of the representation Z. A step of the parameters moves
    Z by -A A'd, where A is the derivative of Z. So a loss may rise where it would not with
    `backward`. The second half of theorem 1 of Sener and Koltun says otherwise, but it does not
    hold for A = diag(1, 10) and gradients (3, -1), (0, 2) of Z. The first half does hold: if A has
    full row rank (so at least as many parameters as Z has entries, batch included), the direction
    of `MGDA` is 0 exactly where the parameters are Pareto stationary.

    `GradDrop` masks each entry of Z separately. ``GradDrop().on(Z)`` is the form of its paper: it
    draws one mask for all examples, from the gradients times the sign of Z, summed over the batch.

    Args:
        losses: m scalars, each with a graph; do not scale them, even with a scaler.
        representation: the input of the heads, in any shape; or several such tensors.
        solver: turns rows with as many entries as the representation into one direction.
        heads: m collections of parameters, one per loss; None finds the parameters of each loss
            above the representation.
        state: the ``state`` of the direction that the previous call returned.
        retain_graph: whether to keep the graph for another pass.
        scaler: as in `backward`.

    Raises:
        TypeError: a loss or a representation is not a tensor.
        ValueError: the losses do not fit, or the representation has no graph or no loss depends on
            it. Without ``heads`` also: a loss depends on a parameter below the representation
            without passing through it, or several losses depend on a parameter above it.

    References:
        Sener and Koltun, Multi-Task Learning as Multi-Objective Optimization (2018), arXiv
        1810.04650. Chen et al., Just Pick a Sign (2020), arXiv 2010.06808.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> encoder, heads = torch.nn.Linear(3, 2), [torch.nn.Linear(2, 1) for _ in range(2)]
    >>> features = encoder(torch.randn(5, 3))
    >>> losses = [head(features).square().mean() for head in heads]
    >>> backward_through(losses, features, solver=MGDA()).vector.shape
    torch.Size([10])
    """
    refuse_no_solver(solver)
    losses = check_losses(losses)
    features = _checked(representation)
    owns = heads_above(losses, features) if heads is None else given_heads(heads)
    one_each(losses, owns)
    scale = scale_of(scaler, losses[0])
    rows, own_rows = differentiate(
        losses, features, owns, scale=scale, retain_graph=retain_graph, vectorize=False
    )
    if all(gradient is None for row in rows for gradient in row):
        raise ValueError(f"none of {len(losses)} losses reaches the representation")
    direction = solve(solver, rows, features, values_of(losses), state, scale)
    pieces = unflatten(direction.vector, features)
    if scale is not None:
        pieces = [piece * scale.to(piece.device) for piece in pieces]
    torch.autograd.backward(features, pieces, retain_graph=retain_graph)
    for own, own_row in zip(owns, own_rows, strict=True):
        for parameter, gradient in zip(own, own_row, strict=True):
            if gradient is not None:
                add_to_grad(parameter, gradient)
    return direction


def _checked(representation: Tensor | Sequence[Tensor]) -> list[Tensor]:
    features = [representation] if isinstance(representation, Tensor) else list(representation)
    if not features:
        raise ValueError("representation must be at least one tensor, got none")
    for k, z in enumerate(features):
        name = "representation" if len(features) == 1 else f"representation[{k}]"
        if not isinstance(z, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor, got {type(z).__name__}")
        if not z.requires_grad:
            raise ValueError(f"{name} has no graph: compute it from the encoder, not detached")
    return features
