"""Solvers that use only the values of the losses: one backward pass of the weighted sum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paretonas.gradients.differentiate import Row, dense
from paretonas.gradients.flatten import flatten
from paretonas.multitask.parts import Partition, Tensors, check_losses, check_visible
from paretonas.multitask.processes import average, average_rows
from paretonas.multitask.solve import add_direction, add_to_grad, scale_of, skipped, values_of
from paretonas.solvers.base import Direction, WeightingSolver

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.distributed import ProcessGroup

SAFE = 2.0**-10  # a gradient can be divided by weights between this and its inverse


def backward_by_values(
    losses: Sequence[Tensor],
    shared: Tensors,
    solver: WeightingSolver,
    *,
    heads: Sequence[Tensors] | None,
    state: object,
    retain_graph: bool,
    scaler: GradScaler | None,
    group: ProcessGroup | None,
) -> Direction:
    """Like `backward`, for a solver that needs no gradients."""
    parts = Partition(shared, heads, group)
    losses = check_losses(losses)
    owns, inputs = parts.heads(losses)
    scale = scale_of(scaler, losses[0])
    values = values_of(losses)
    if group is not None:
        average([values], group)
    if scale is not None and not values.isfinite().all():
        direction = skipped(len(losses), parts.shared, state)
        add_direction(parts.shared, direction.vector, None, [True] * len(parts.shared))
        return direction
    weighting = solver.from_values(values, state)
    weights, count = weighting.weights.tolist(), len(parts.shared)
    whole, own = _weighted(losses, weights, [*parts.shared, *inputs], owns, scale, retain_graph)
    row, of_inputs = whole[:count], whole[count:]
    if any(weights) and any(gradient is None for gradient in [*row, *own.values()]):
        check_visible(losses)
    if group is not None:
        (row,) = average_rows([row], parts.shared, group)
        (averaged,) = average_rows([list(own.values())], list(own), group) if own else ([],)
        own = dict(zip(own, averaged, strict=True))
    elif any(weights) and all(gradient is None for gradient in row):
        raise ValueError(f"none of {len(losses)} losses reaches a shared parameter")
    vector = flatten(row, parts.shared)
    if scale is not None:
        vector = vector / scale.to(vector.device)
    elif not vector.sum().isfinite() and not vector.isfinite().all():  # a sum may overflow
        raise ValueError("the gradient of the weighted losses must be finite, got NaN or infinity")
    shown = weighting.weights.to(vector.device, torch.promote_types(vector.dtype, torch.float32))
    if weighting.limit is not None:
        factor = solver.length_factor(weighting, vector)
        vector, shown = vector * factor.to(vector), shown * factor.to(shown)
        of_inputs = [None if g is None else g * factor.to(g) for g in of_inputs]
    add_direction(parts.shared, vector, scale, [gradient is not None for gradient in row])
    for parameter, gradient in [*own.items(), *zip(inputs, of_inputs, strict=True)]:
        if gradient is not None:
            add_to_grad(parameter, gradient)
    return Direction(vector, shown, weighting.certificate, weighting.state)


def _weighted(
    losses: list[Tensor],
    weights: list[float],
    shared: list[Tensor],
    heads: list[list[Tensor]],
    scale: Tensor | None,
    retain_graph: bool,
) -> tuple[Row, dict[Tensor, Tensor | None]]:
    # In the pass each head gets its gradient times the weight of its loss, so divide by the weight.
    # If this would lose digits, the head is differentiated alone, which is cheap.
    apart = [not SAFE <= abs(w) <= 1 / SAFE for w in weights]
    seeds = [torch.ones_like(loss) if scale is None else scale.to(loss) for loss in losses]
    own: dict[Tensor, Tensor | None] = {}
    for loss, head, seed, alone in zip(losses, heads, seeds, apart, strict=True):
        if head and alone:
            gradients = torch.autograd.grad(loss, head, seed, retain_graph=True, allow_unused=True)
            own.update(zip(head, gradients, strict=True))
    summed = [i for i, w in enumerate(weights) if w != 0]
    if not summed:
        return [None] * len(shared), own
    rest = {p: weights[i] for i in summed if not apart[i] for p in heads[i]}
    gradients = torch.autograd.grad(
        [losses[i] for i in summed],
        [*shared, *rest],
        [weights[i] * seeds[i] for i in summed],
        retain_graph=retain_graph,
        allow_unused=True,
    )
    row, others = gradients[: len(shared)], gradients[len(shared) :]
    for (p, weight), gradient in zip(rest.items(), others, strict=True):
        own[p] = None if gradient is None else gradient / weight
    return [dense(g) for g in row], {p: dense(g) for p, g in own.items()}
