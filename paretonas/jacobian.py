"""From losses to a jacobian, and from a direction back to ``.grad``.

The only place that flattens parameters: everything else sees one row of n numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


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
    """Join one tensor per parameter into a row, where the first is; None stands for zeros."""
    device, dtype = parameters[0].device, _joint_dtype(parameters)
    return torch.cat(
        [
            (torch.zeros_like(p) if t is None else t).reshape(*batch, -1).to(device, dtype)
            for t, p in zip(tensors, parameters, strict=True)
        ],
        dim=-1,
    )


def split(vector: Float[Tensor, "*r n"], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Cut a row into one tensor per parameter, with its shape, dtype and device.

    Raises:
        ValueError: the row does not have as many entries as the parameters.
    """
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
        if p.dtype != vector.dtype or p.device != vector.device
        else piece.reshape(p.shape)
        for piece, p in zip(torch.split(vector.detach(), sizes, dim=-1), parameters, strict=True)
    ]


def assign(vector: Float[Tensor, "*r n"], parameters: Sequence[Tensor]) -> None:
    """Write a direction into ``.grad`` of the parameters, in place of what was there.

    Args:
        vector: (n,), or (r, n) for parameters with a leading dimension of r.
        parameters: in the order in which the jacobian was taken; each gets its own shape, dtype
            and device, in memory of its own.

    Raises:
        ValueError: the vector does not have as many entries as the parameters.
    """
    for piece, parameter in zip(split(vector, parameters), parameters, strict=True):
        parameter.grad = piece.clone(memory_format=torch.contiguous_format)


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
