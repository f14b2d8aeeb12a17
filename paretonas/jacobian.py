"""From losses to a jacobian, and from a direction back to ``.grad``.

The only place that flattens parameters: everything else sees one row of n numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers.base import Direction, Solver


def jacobian(values: Sequence[Tensor], parameters: Sequence[Tensor]) -> Float[Tensor, "*r m n"]:
    """Differentiate m objectives with respect to n parameters; row i is the gradient of value i.

    Args:
        values: m entries. A loss, shape (), is differentiated, and its graph kept. A gradient known
            already, shape (n,) and without a graph, is taken as it is and costs no backward pass.
            With r independent rays, losses have shape (r,) and gradients (r, n); each parameter
            then has a leading dimension of r, and ray k depends on slice k alone.
        parameters: the tensors to differentiate by, flattened and joined in this order. One that a
            loss does not reach gets zeros.

    Raises:
        TypeError: an entry is not a tensor.
        ValueError: nothing to differentiate, shapes that do not fit, or a loss without a graph.

    >>> import torch
    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> jacobian([w.sum(), (w * w).sum(), torch.tensor([5.0, 6.0])], [w])
    tensor([[1., 1.],
            [2., 4.],
            [5., 6.]])
    """
    values, parameters = list(values), list(parameters)
    if not values or not parameters:
        raise ValueError(
            "jacobian needs at least one value and one parameter, "
            f"got {len(values)} values and {len(parameters)} parameters"
        )
    batch = _batch(values, parameters)
    n = sum(p.numel() for p in parameters) // (batch[0] if batch else 1)
    rows = []
    for i, value in enumerate(values):
        if value.requires_grad:
            _check_shape(f"value {i}, a loss,", value, batch)
            gradients = torch.autograd.grad(
                value.sum(), parameters, retain_graph=True, allow_unused=True
            )
            rows.append(flatten(gradients, parameters, batch))
        else:
            if value.ndim == len(batch):
                raise ValueError(
                    f"value {i} is a loss without a graph: compute it from the parameters without "
                    f"detaching, or pass its gradient, shape {(*batch, n)}"
                )
            _check_shape(f"value {i}, a gradient,", value, (*batch, n))
            rows.append(value)
    return torch.stack([row.to(rows[0]) for row in rows], dim=-2)


def flatten(
    tensors: Iterable[Tensor | None], parameters: Sequence[Tensor], batch: tuple[int, ...] = ()
) -> Float[Tensor, "*r n"]:
    """Join one tensor per parameter into a row; None stands for zeros."""
    dtype = _joint_dtype(parameters)
    return torch.cat(
        [
            (torch.zeros_like(p) if t is None else t).reshape(*batch, -1).to(dtype)
            for t, p in zip(tensors, parameters, strict=True)
        ],
        dim=-1,
    )


def assign(vector: Float[Tensor, "*r n"], parameters: Sequence[Tensor]) -> None:
    """Write a direction into ``.grad`` of the parameters, in place of what was there.

    Args:
        vector: (n,), or (r, n) for parameters with a leading dimension of r.
        parameters: in the order in which the jacobian was taken; each gets its own shape, dtype
            and device, in memory of its own.

    Raises:
        ValueError: the vector does not have as many entries as the parameters.
    """
    for piece, parameter in zip(_split(vector, parameters), parameters, strict=True):
        parameter.grad = piece.clone(memory_format=torch.contiguous_format)


def backward(
    losses: Sequence[Float[Tensor, ""]],
    shared: Iterable[Tensor],
    *,
    solver: Solver,
    state: object = None,
) -> Direction:
    """Replace ``loss.backward()`` where several losses share parameters.

    Adds the solver's direction to ``.grad`` of the shared parameters, and each loss's own gradient
    to ``.grad`` of the parameters that it alone reaches, such as its head. As with
    ``loss.backward()``, call ``optimizer.zero_grad()`` between steps; the graph is freed. Frozen
    parameters are left alone, and so are shared ones that no loss reaches.

    Args:
        losses: m scalars, each with a graph.
        shared: the parameters over which the losses compete.
        solver: turns their gradients into one direction; it is also given the values.
        state: ``state`` of the direction that the previous call returned.

    Raises:
        TypeError: a loss is not a tensor.
        ValueError: no loss, no shared parameter, a loss that is no scalar or has no graph, or a
            parameter outside ``shared`` that several losses reach.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> direction = backward([w[0] ** 2, w[1] ** 2], [w], solver=MGDA())
    >>> w.grad
    tensor([1., 1.])
    """
    losses = list(losses)
    shared = [p for p in dict.fromkeys(shared) if p.requires_grad]
    if not losses or not shared:
        raise ValueError(
            "backward needs at least one loss and one shared parameter that requires grad, "
            f"got {len(losses)} losses and {len(shared)} such parameters"
        )
    for i, loss in enumerate(losses):
        _check_tensor(f"loss {i}", loss)
        _check_shape(f"loss {i}", loss, ())
        if not loss.requires_grad:
            raise ValueError(f"loss {i} has no graph: it must depend on parameters, not detached")
    heads = _own_leaves(losses, shared)
    rows, head_gradients = [], []
    reached = [False] * len(shared)
    for i, (loss, own) in enumerate(zip(losses, heads, strict=True)):
        last = i == len(losses) - 1
        gradients = torch.autograd.grad(
            loss, [*shared, *own], retain_graph=not last, allow_unused=True
        )
        common = gradients[: len(shared)]
        reached = [r or g is not None for r, g in zip(reached, common, strict=True)]
        rows.append(flatten(common, shared))
        head_gradients.append(gradients[len(shared) :])
    values = torch.stack([loss.detach().to(rows[0]) for loss in losses])
    direction = solver(torch.stack(rows), values, state)
    pieces = _split(direction.vector, shared)
    for parameter, piece, hit in zip(shared, pieces, reached, strict=True):
        if hit:
            _accumulate(parameter, piece)
    for own, gradients in zip(heads, head_gradients, strict=True):
        for parameter, gradient in zip(own, gradients, strict=True):
            if gradient is not None:
                _accumulate(parameter, gradient)
    return direction


def _own_leaves(losses: list[Tensor], shared: list[Tensor]) -> list[list[Tensor]]:
    common = {id(p) for p in shared}
    owner: dict[int, int] = {}
    heads: list[list[Tensor]] = []
    for i, loss in enumerate(losses):
        own = [leaf for leaf in _leaves(loss) if id(leaf) not in common]
        for leaf in own:
            if owner.setdefault(id(leaf), i) != i:
                raise ValueError(
                    f"losses {owner[id(leaf)]} and {i} both reach a parameter of shape "
                    f"{tuple(leaf.shape)} that is not in shared: add it there, or freeze it"
                )
        heads.append(own)
    return heads


def _leaves(loss: Tensor) -> list[Tensor]:
    # Walk the graph of the loss to the nodes that accumulate into leaves.
    found, seen, todo = [], set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        todo.extend(child for child, _ in node.next_functions)
    return found


def _accumulate(parameter: Tensor, gradient: Tensor) -> None:
    if parameter.grad is None:
        parameter.grad = gradient.clone(memory_format=torch.contiguous_format)
    else:
        parameter.grad.add_(gradient)


def _split(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    if vector.ndim not in (1, 2):
        raise ValueError(f"vector must have shape (n,) or (r, n), got {tuple(vector.shape)}")
    rays = 1 if vector.ndim == 1 else len(vector)
    sizes = [p.numel() // rays for p in parameters]
    if sum(sizes) != vector.shape[-1] or any(p.numel() % rays for p in parameters):
        raise ValueError(
            f"vector must have n = {sum(sizes)} entries to fit the parameters, "
            f"got shape {tuple(vector.shape)}"
        )
    return [
        piece.reshape(p.shape).to(device=p.device, dtype=p.dtype)
        for piece, p in zip(torch.split(vector.detach(), sizes, dim=-1), parameters, strict=True)
    ]


def _batch(values: list[Tensor], parameters: list[Tensor]) -> tuple[int, ...]:
    for i, value in enumerate(values):
        _check_tensor(f"value {i}", value)
    losses = [v for v in values if v.requires_grad]
    shapes = [v.shape if v.requires_grad else v.shape[:-1] for v in (losses or values)]
    batch = tuple(shapes[0])
    if len(batch) > 1:
        raise ValueError(f"a loss must have shape () or (r,), got {batch}")
    if batch and any(p.ndim == 0 or p.shape[0] != batch[0] for p in parameters):
        raise ValueError(
            f"with r = {batch[0]} rays every parameter must have a leading dimension of r, "
            f"got shapes {[tuple(p.shape) for p in parameters]}"
        )
    return batch


def _joint_dtype(parameters: Sequence[Tensor]) -> torch.dtype:
    dtype = parameters[0].dtype
    for p in parameters[1:]:
        dtype = torch.promote_types(dtype, p.dtype)
    return dtype


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")


def _check_shape(name: str, value: Tensor, expected: tuple[int, ...]) -> None:
    if tuple(value.shape) != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)}, got {tuple(value.shape)}")
