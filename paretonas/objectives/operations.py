"""The multiply-accumulates of operations: what convolutions, products and attention compute.

torch's own counter (`torch.utils.flop_counter`) has formulas for most operations, and counts a
multiply-accumulate as two. It has none for operations that a forward pass without gradients fuses;
these are here.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import flop_registry

from ..graph import Op, record


def macs_of(op: Op) -> int:
    """The multiply-accumulates of one operation; 0 if it multiplies no matrices."""
    function, args, kwargs = op.call
    packet = getattr(function, "overloadpacket", function)
    if packet in _FUSED:
        return _FUSED[packet](*args, **kwargs)
    if packet in flop_registry:
        return int(flop_registry[packet](*args, **kwargs, out_val=op.shape)) // 2
    return 0


def count_macs(network: nn.Module, example: Any) -> int:
    """The multiply-accumulates of one forward pass.

    >>> count_macs(nn.Conv2d(3, 8, 3, padding=1), torch.zeros(1, 3, 10, 10))
    21600
    """
    return sum(macs_of(op) for op in record(network, example).ops[1:])  # the first is the input


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scaled dot products: queries (..., L, e), keys (..., S, e), values (..., S, v)."""
    *batch, length, width = query.shape
    return int(prod(batch) * length * key.shape[-2] * (width + value.shape[-1]))


def _multi_head_attention(query: Any, key: Any, value: Any, width: int, *_: Any, **__: Any) -> int:
    """Four projections to the same width, and the scaled dot products of all heads."""
    batch, length, _ = query.shape
    others = key.shape[1]
    projections = 2 * length * width * width + 2 * others * width * width
    return int(batch * (projections + 2 * length * others * width))


def _recurrent_layer(steps: Any, of_input: Any, of_state: Any, *_: Any, **__: Any) -> int:
    """One layer in one direction: both matrices of weights at each step of each sequence."""
    return int(prod(steps.shape[:2]) * (of_input.numel() + of_state.numel()))


_FUSED: dict[Any, Callable[..., int]] = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._native_multi_head_attention: _multi_head_attention,
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_layer,
}
