"""Convert a gradient to one row of n numbers, and back to one tensor per parameter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["flatten", "unflatten"]


def flatten(
    tensors: Iterable[Tensor | None], parameters: Sequence[Tensor], batch: tuple[int, ...] = ()
) -> Float[Tensor, "*r n"]:
    """Join one tensor per parameter into a row, on the device of the first; None means zeros."""
    device, dtype = parameters[0].device, _joint_dtype(parameters)
    return torch.cat(
        [
            (torch.zeros_like(p) if t is None else t).reshape(*batch, -1).to(device, dtype)
            for t, p in zip(tensors, parameters, strict=True)
        ],
        dim=-1,
    )


def unflatten(vector: Float[Tensor, "*r n"], parameters: Sequence[Tensor]) -> list[Tensor]:
    """Split a row into one tensor per parameter, with its shape, dtype and device.

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


def _joint_dtype(parameters: Sequence[Tensor]) -> torch.dtype:
    dtype = parameters[0].dtype
    for p in parameters[1:]:
        dtype = torch.promote_types(dtype, p.dtype)
    return dtype
