"""Elastic attention of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from .elastic import Elastic, at_most
from .sizes import Size, _Product, same


class MultiheadAttention(Elastic):
    """`torch.nn.MultiheadAttention` whose embedding and number of heads may be sizes.

    >>> from paretonas.nn import Heads, Width
    >>> heads = Heads(2, 4)
    >>> attention = MultiheadAttention(heads * 16, heads, batch_first=True)  # 16 for each head
    >>> thinner = MultiheadAttention(4 * Width(8, 16), 4)  # 8 or 16 for each of 4 heads

    A plain width as the embedding keeps the first channels of all heads, so that a channel may be
    in other heads than at another pick.

    Raises:
        ValueError: the heads do not divide the embedding at every pick.
    """

    layer = nn.MultiheadAttention

    @classmethod
    def arguments_of(cls, layer: nn.Module) -> dict[str, Any]:
        found = super().arguments_of(layer)
        flags = {"bias": "in_proj_bias", "add_bias_kv": "bias_k"}
        return found | {name: getattr(layer, held) is not None for name, held in flags.items()}

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        embed = a["embed_dim"]
        kdim, vdim = (embed if a[name] is None else a[name] for name in ("kdim", "vdim"))
        return {
            "in_proj_weight": [3 * embed, embed],
            "in_proj_bias": [3 * embed],
            "q_proj_weight": [embed, embed],
            "k_proj_weight": [embed, kdim],
            "v_proj_weight": [embed, vdim],
            "bias_k": [1, 1, embed],
            "bias_v": [1, 1, embed],
            "out_proj.weight": [embed, embed],
            "out_proj.bias": [embed],
        }

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        embed, mask = a["embed_dim"], a.get("attn_mask")
        found = [(embed if a[n] is None else a[n], -1) for n in ("embed_dim", "kdim", "vdim")]
        if mask is not None and mask.ndim == 3:  # of each head of each example
            heads = a["num_heads"]
            count = len(mask) // at_most(heads)
            found += [(1, 0), (1, 0), (count * heads, 0)]  # after key_padding_mask, need_weights
        return found

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        averaged = a.get("average_attn_weights", True)
        return [(a["embed_dim"], -1), (1 if averaged else a["num_heads"], -3)]

    def check(self, a: Mapping[str, Any]) -> None:
        embed, heads = a["embed_dim"], a["num_heads"]
        if isinstance(embed, _Product) and same(embed.outer, heads):
            return
        for e in embed.values() if isinstance(embed, Size) else (embed,):
            for h in heads.values() if isinstance(heads, Size) else (heads,):
                if e % h:
                    raise ValueError(
                        f"num_heads must divide embed_dim at every pick: {h} and {e}; with "
                        "embed_dim=heads * 16 each head has 16"
                    )

    def _plain(self, device: torch.device) -> nn.Module:
        layer = super()._plain(device)
        assert isinstance(layer, nn.MultiheadAttention)
        if layer._qkv_same_embed_dim and self._parameters["in_proj_weight"] is None:
            # Torch would make one weight of the three, as the sizes happen to be equal.
            layer._qkv_same_embed_dim = False
            rows = layer.in_proj_weight.detach().chunk(3)
            layer.register_parameter("in_proj_weight", None)
            for name, part in zip("qkv", rows, strict=True):
                layer.register_parameter(f"{name}_proj_weight", nn.Parameter(part.clone()))
        return layer
