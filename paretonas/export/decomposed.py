"""Common operations that torch's exporters to ONNX do not know, by those that they know.

Each is exact. What only the older exporter lacks has the operations that the newer one writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from paretonas.export import spectra


class Decomposed(TorchFunctionMode):
    """In this context a network runs with other forms of some operations.

    Args:
        forms: by function: `OLDER` or `NEITHER`.
    """

    def __init__(self, forms: Mapping[Any, Any]) -> None:
        super().__init__()
        self._forms = forms

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return self._forms.get(function, function)(*args, **(kwargs or {}))


def _swapped(x: Tensor) -> Tensor:
    return x.transpose(-2, -1)


def _rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Tensor:
    dims = tuple(range(-len(normalized_shape), 0))
    least = torch.finfo(input.dtype).eps if eps is None else eps
    normed: Tensor = input * (input.pow(2).mean(dims, keepdim=True) + least).sqrt().reciprocal()
    return normed if weight is None else normed * torch.as_tensor(weight)


def _channel_shuffle(input: Tensor, groups: int) -> Tensor:
    channels, *others = _sizes(input)
    split = input.reshape(-1, groups, channels // groups, *others)
    return split.transpose(1, 2).reshape(-1, channels, *others)


def _bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    out, _, width = map(int, weight.shape)
    rows = input1 @ weight.transpose(0, 1).flatten(1)
    rows = rows.reshape(-1, *_sizes(input1)[:-1], out, width)
    found: Tensor = (rows @ input2.unsqueeze(-1)).squeeze(-1)
    return found if bias is None else found + bias


def _sizes(input: Tensor) -> list[int]:
    """The sizes of all axes after the examples, as constants."""
    return [int(size) for size in input.shape[1:]]


def _kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    values, indices = (each.narrow(dim, k - 1, 1) for each in input.topk(k, dim, largest=False))
    if not keepdim:
        values, indices = values.squeeze(dim), indices.squeeze(dim)
    return torch.return_types.kthvalue((values, indices))


def _median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        found: Tensor = _median(input.flatten(), 0).values
        return found
    middle = (int(input.shape[dim]) + 1) // 2  # of two, the lower one
    return torch.return_types.median(_kthvalue(input, middle, dim, keepdim))


def _squeeze(input: Tensor, *dims: Any, **dim: Any) -> Tensor:
    given = dim.get("dim", dims[0] if len(dims) == 1 else dims or None)
    if not isinstance(given, tuple | list):
        return input.squeeze(*dims, **dim)
    for axis in sorted((each % input.ndim for each in given), reverse=True):
        input = input.squeeze(axis)
    return input


def _take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    if dim is None:
        return input.flatten().gather(0, indices.flatten())
    return input.gather(dim, indices)


def _rot90(input: Tensor, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    first, second = dims
    match k % 4:
        case 1:
            return input.flip(second).transpose(first, second)
        case 2:
            return input.flip(first, second)
        case 3:
            return input.flip(first).transpose(first, second)
        case _:
            return input.clone()


def _addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    return input + value * (tensor1 / tensor2)


def _count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    counted = (input != 0).long()
    return counted.sum() if dim is None else counted.sum(dim)


def _diff(input: Tensor, n: int = 1, dim: int = -1) -> Tensor:
    for _ in range(n):
        long = int(input.shape[dim]) - 1
        input = input.narrow(dim, 1, long) - input.narrow(dim, 0, long)
    return input


NEITHER: Mapping[Any, Any] = {
    torch.kthvalue: _kthvalue,
    Tensor.kthvalue: _kthvalue,
    torch.median: _median,
    Tensor.median: _median,
    torch.take_along_dim: _take_along_dim,
    Tensor.take_along_dim: _take_along_dim,
}
"""What no exporter knows."""

OLDER: Mapping[Any, Any] = {
    **NEITHER,
    **spectra.FORMS,
    getattr_static(Tensor, "mT").__get__: _swapped,
    torch.rms_norm: _rms_norm,
    nn.functional.rms_norm: _rms_norm,
    torch.channel_shuffle: _channel_shuffle,
    torch.bilinear: _bilinear,
    torch.squeeze: _squeeze,
    Tensor.squeeze: _squeeze,
    torch.rot90: _rot90,
    Tensor.rot90: _rot90,
    torch.fliplr: lambda input: input.flip(1),
    Tensor.fliplr: lambda input: input.flip(1),
    torch.addcdiv: _addcdiv,
    Tensor.addcdiv: _addcdiv,
    torch.count_nonzero: _count_nonzero,
    Tensor.count_nonzero: _count_nonzero,
    torch.diff: _diff,
    Tensor.diff: _diff,
    torch.vdot: torch.dot,  # of real vectors
    Tensor.vdot: torch.dot,
}
"""What the older exporter does not know."""
