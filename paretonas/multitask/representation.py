"""Surgery on a shared representation: one backward pass through the encoder, whatever m is."""

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
    """Resolve the conflict where the network forks, and send only the result down.

    The losses are differentiated with respect to the representation, through the heads alone, and
    the solver's direction is passed on to the encoder in one backward pass, which adds to
    ``.grad`` of everything beneath. Each head gets its own loss's gradient. With `MGDA` this is
    MGDA-UB.

    What the solver promises, it promises for a step of the representation Z. A step of the
    parameters moves Z by -A A'd, A being the derivative of Z, so a loss may rise where `backward`
    would not let it: the second half of theorem 1 of Sener and Koltun, which says otherwise, does
    not hold for A = diag(1, 10) and gradients (3, -1), (0, 2) of Z. The first half does: if A has
    full row rank (so at least as many parameters as Z has entries, batch included), the direction
    of `MGDA` is 0 exactly where the parameters are Pareto stationary.

    `GradDrop` masks each entry of Z by itself; ``GradDrop().on(Z)`` is the form of its paper, which
    draws one mask for all examples, by the gradients times the sign of Z summed over the batch.

    Args:
        losses: m scalars, each with a graph; under a scaler too, as they are.
        representation: what the heads are computed from, in any shape; or several such tensors.
        solver: turns rows of as many entries as the representation has into one direction.
        heads: m collections of parameters, one per loss; None finds what each reaches above the
            representation.
        state: ``state`` of the direction that the previous call returned.
        retain_graph: whether to keep the graph for another pass.
        scaler: as in `backward`.

    Raises:
        TypeError: a loss or a representation is not a tensor.
        ValueError: losses that do not fit, a representation without a graph or that no loss
            reaches, or, without ``heads``, a parameter that a loss reaches around it or that
            several reach above it.

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
