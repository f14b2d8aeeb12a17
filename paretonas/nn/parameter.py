"""An elastic parameter that no layer of torch has: a class token, positions, a layer scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .elastic import Elastic
from .sizes import Size


class Learned(nn.Module):
    """What a `Parameter` becomes: a module that is called to get its parameter.

    Torch has no such module. So a network with one in it, when it is pickled as a whole, needs
    paretonas to be loaded. Its weights and exported files do not.

    Args:
        shape: of the parameter.
        fill: its initial value.

    Attributes:
        weight: the parameter.
    """

    def __init__(self, shape: Sequence[int], fill: float = 0.0) -> None:
        super().__init__()
        self.shape, self.fill = tuple(shape), fill
        self.weight = nn.Parameter(torch.full(self.shape, fill))

    def forward(self) -> Tensor:
        """The parameter."""
        return self.weight

    def extra_repr(self) -> str:
        """The shape."""
        return f"{self.shape}"


class Parameter(Elastic):
    """A `torch.nn.Parameter` whose shape may have sizes in it; call it to get its tensor.

    >>> from paretonas.nn import Width
    >>> width = Width(32, 64)
    >>> token = Parameter((1, 1, width))
    >>> scale = Parameter((width,), fill=1e-5)

    Then ``x * self.scale()`` works in the supernet and in an extracted network.

    Args:
        shape: its shape; each number may be a size.
        fill: the initial value. For random ones use `torch.nn.init` on the attribute `weight`.
    """

    layer = Learned

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        return {"weight": a["shape"]}

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(size, axis) for axis, size in enumerate(a["shape"]) if isinstance(size, Size)]

    mixture = Elastic.masked
