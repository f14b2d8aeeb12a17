"""Which tensors solvers take: dense ones of real numbers with 16 bits or more."""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
DENSE = torch.strided


def check_kind(name: str, tensor: object) -> Tensor:
    """Return it if it is one.

    Raises:
        TypeError: it is no tensor, of another dtype (float8 has no sums), or sparse or nested.
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
