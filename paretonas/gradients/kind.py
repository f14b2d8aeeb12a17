"""The tensors that solvers take: dense ones of floating point numbers with 16 bits or more."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
DENSE = torch.strided


def check_kind(name: str, tensor: object) -> Tensor:
    """Return the tensor if solvers take it.

    Raises:
        TypeError: it is not a tensor, has another dtype (float8 has no sums), or is sparse or
            nested.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(tensor).__name__}")
    if tensor.dtype not in FLOATS:
        raise TypeError(
            f"{name} must have a floating point dtype of 16 bits or more, got {tensor.dtype}"
        )
    if tensor.layout is not DENSE or tensor.is_nested:
        kind = "nested tensor" if tensor.is_nested else f"layout {tensor.layout}"
        raise TypeError(f"{name} must be dense (see Tensor.to_dense), got a {kind}")
    return tensor
