"""Transformers for images and for text, as in AutoFormer, HAT and HW-GPT-Bench; for a CPU.

The embedding width and the depth are choices, and in each layer the number of heads and the ratio
of the MLP. Each head has the same number of features at every pick. `vision` classifies images by
their patches: 59,049 architectures. `text` predicts the next byte of a text: 6,561 architectures.

The same classes are ViT-S/16 if nothing is a choice, and the published spaces:

>>> at_224 = partial(VisionTransformer, head_dim=64, patch=16, image=224, inputs=3, classes=1000)
>>> vit = at_224((384,), depth=(12, 12), heads=(6,), ratios=(4,))
>>> sum(parameter.numel() for parameter in vit.parameters())
22050664
>>> autoformer_t = partial(at_224, (192, 216, 240), depth=(12, 14), heads=(3, 4), ratios=(3.5, 4))
>>> hw_gpt_s = partial(TextTransformer, (192, 384, 768), depth=(10, 12), heads=(4, 8, 12),
...                    ratios=(2, 3, 4), head_dim=64, context=1024, vocabulary=50257)

Both are without what is no size: the relative positions of AutoFormer, the choice of a bias in
HW-GPT-Bench.

References:
    Wang et al. 2020, "HAT: Hardware-Aware Transformers for Efficient Natural Language Processing"
    (arXiv 2005.14187).
    Chen et al. 2021, "AutoFormer: Searching Transformers for Visual Recognition" (arXiv
    2107.00651).
    Sukthanker et al. 2024, "HW-GPT-Bench: Hardware-Aware Architecture Benchmark for Language
    Models" (arXiv 2405.10299).
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from paretonas.nn import (
    Channels,
    Conv2d,
    Depth,
    Embedding,
    Heads,
    LayerNorm,
    Linear,
    NetworkSpace,
    Parameter,
    Ratio,
    Width,
)
from paretonas.tasks import LanguageModel
from paretonas.training import Recipe

from .images import mnist_5k


class Attention(nn.Module):
    """Multi-head self-attention (arXiv 1706.03762); a causal one does not look ahead."""

    def __init__(
        self, dim: Channels, heads: tuple[int, ...], head_dim: int, *, causal: bool
    ) -> None:
        super().__init__()
        self.heads, self.head_dim, self.causal = Heads(*heads), head_dim, causal
        self.qkv = Linear(dim, 3 * (self.heads * head_dim))
        self.project = Linear(self.heads * head_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(2, (3, int(self.heads), self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        projected: Tensor = self.project(y.transpose(1, 2).flatten(2))
        return projected


class Layer(nn.Module):
    """Attention and an MLP; each has a norm before it, and is added to its input."""

    def __init__(
        self,
        dim: Channels,
        heads: tuple[int, ...],
        ratios: tuple[float, ...],
        head_dim: int,
        *,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.attention = Attention(dim, heads, head_dim, causal=causal)
        self.ratio = Ratio(*ratios)
        inner = dim * self.ratio
        self.mlp = nn.Sequential(Linear(dim, inner), nn.GELU(), Linear(inner, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class VisionTransformer(nn.Module):
    """A vision transformer (arXiv 2010.11929), which classifies by a class token.

    Args:
        dims: the embedding width, a choice.
        depth: the smallest and the largest number of layers.
        heads: the number of heads, a choice in each layer.
        ratios: the inner width of the MLP, by the embedding width; a choice in each layer.
        head_dim: the features of a head.
        patch: the side of a patch, in pixels.
        image: the side of an image, in pixels.
        inputs: the channels of an image.
        classes: the number of classes.
    """

    def __init__(
        self,
        dims: tuple[int, ...],
        depth: tuple[int, int],
        heads: tuple[int, ...],
        ratios: tuple[float, ...],
        *,
        head_dim: int,
        patch: int,
        image: int,
        inputs: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.dim = Width(*dims)
        self.patches = Conv2d(inputs, self.dim, patch, stride=patch)
        self.class_token = Parameter((1, 1, self.dim))
        self.positions = Parameter((1, (image // patch) ** 2 + 1, self.dim))
        layers = [Layer(self.dim, heads, ratios, head_dim) for _ in range(depth[1])]
        self.depth = Depth(layers, at_least=depth[0])
        self.norm = LayerNorm(self.dim)
        self.head = Linear(self.dim, classes)
        for learned in (self.class_token, self.positions):
            nn.init.trunc_normal_(learned.weight, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token().expand(x.shape[0], -1, -1), x], dim=1)
        x = self.norm(self.depth(x + self.positions()))
        y: Tensor = self.head(x[:, 0])
        return y


class TextTransformer(nn.Module):
    """A decoder as GPT-2: a score for each next token, by the embedding of the tokens.

    Args:
        dims: the embedding width, a choice.
        depth: the smallest and the largest number of layers.
        heads: the number of heads, a choice in each layer.
        ratios: the inner width of the MLP, by the embedding width; a choice in each layer.
        head_dim: the features of a head.
        context: the largest number of tokens.
        vocabulary: the number of different tokens.
    """

    def __init__(
        self,
        dims: tuple[int, ...],
        depth: tuple[int, int],
        heads: tuple[int, ...],
        ratios: tuple[float, ...],
        *,
        head_dim: int,
        context: int,
        vocabulary: int = 256,
    ) -> None:
        super().__init__()
        self.dim = Width(*dims)
        self.tokens = Embedding(vocabulary, self.dim)
        self.positions = Parameter((context, self.dim))
        layers = [Layer(self.dim, heads, ratios, head_dim, causal=True) for _ in range(depth[1])]
        self.depth = Depth(layers, at_least=depth[0])
        self.norm = LayerNorm(self.dim)
        self.head = Linear(self.dim, vocabulary, bias=False)
        self.head.weight = self.tokens.weight
        for learned in (self.tokens, self.positions):
            nn.init.normal_(learned.weight, std=0.1)  # GPT-2 has 0.02, too little if it is narrow

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions()[: tokens.shape[1]]
        y: Tensor = self.head(self.norm(self.depth(x)))
        return y


@cache
def manual() -> LanguageModel:
    """The bytes of 60,000 characters of Python's own manual, which Python brings."""
    from pydoc_data.topics import topics

    text = "\n".join(topics.values())[:60_000].encode()
    return LanguageModel(np.frombuffer(text, np.uint8), context=64, vocabulary=256)


_vision = partial(
    VisionTransformer, (24, 32, 48), (2, 4), (2, 3, 4), (2, 3, 4), head_dim=8, patch=7, image=28,
    inputs=1, classes=10,
)  # fmt: skip
_text = partial(TextTransformer, (32, 48, 64), (1, 3), (2, 3, 4), (2, 3, 4), head_dim=8, context=64)

vision = NetworkSpace("vision", _vision, mnist_5k, Recipe(epochs=10, learning_rate=5e-3))
text = NetworkSpace("text", _text, manual, Recipe(epochs=10, batch_size=16, learning_rate=1e-2))
space = vision
