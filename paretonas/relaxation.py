"""From alpha to probabilities, and to the gates that replace picks in a supernet.

Alpha is flat, (..., K): the logits of all options of all choices, one after another. So one tensor
(r, K) holds a distribution per ray, and a jacobian row has the same length K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from .space import Choice

__all__ = [
    "Gates",
    "gumbel_softmax",
    "one_hot",
    "one_hot_picks",
    "picks_of",
    "probabilities",
    "reinmax",
    "sizes_of",
    "softmax",
    "straight_through",
]


class Gates(Protocol):
    """Turns alpha (..., K) into gates (..., K) that sum to 1 within each choice."""

    def __call__(
        self, alpha: Tensor, sizes: Sequence[int], temperature: float, generator: torch.Generator
    ) -> Tensor: ...


def sizes_of(choices: Sequence[Choice]) -> tuple[int, ...]:
    """The number of options of each choice."""
    return tuple(len(choice.options) for choice in choices)


def probabilities(
    alpha: Float[Tensor, "*r K"], sizes: Sequence[int], temperature: float = 1.0
) -> Float[Tensor, "*r K"]:
    """The softmax of alpha within each choice.

    >>> probabilities(torch.zeros(5), (2, 3))
    tensor([0.5000, 0.5000, 0.3333, 0.3333, 0.3333])
    """
    padded = _padded(alpha / temperature, sizes)
    return _unpadded(torch.softmax(padded, dim=-1), sizes)


def softmax(
    alpha: Tensor, sizes: Sequence[int], temperature: float, generator: torch.Generator
) -> Tensor:
    """Plain mixture gates, as in DARTS (Liu et al. 2019, arXiv 1806.09055); draws nothing."""
    return probabilities(alpha, sizes, temperature)


def gumbel_softmax(
    alpha: Tensor, sizes: Sequence[int], temperature: float, generator: torch.Generator
) -> Tensor:
    """Soft samples (Jang et al. 2017, arXiv 1611.01144; Maddison et al. 2017, 1611.00712)."""
    return probabilities(alpha + _gumbel(alpha, generator), sizes, temperature)


def straight_through(
    alpha: Tensor, sizes: Sequence[int], temperature: float, generator: torch.Generator
) -> Tensor:
    """Forward: a sampled pick. Backward: the gradient of the Gumbel-softmax.

    This is the straight-through Gumbel estimator of Jang et al. 2017 (arXiv 1611.01144).
    """
    soft = gumbel_softmax(alpha, sizes, temperature, generator)
    hard = one_hot(soft.detach(), sizes)
    return hard + soft - soft.detach()


def reinmax(
    alpha: Tensor, sizes: Sequence[int], temperature: float, generator: torch.Generator
) -> Tensor:
    """Forward: a sampled pick. Backward: a second-order accurate gradient (Heun's method).

    Liu et al. 2023, "Bridging Discrete and Backpropagation: Straight-Through and Beyond"
    (arXiv 2304.08612): the backward pass is twice the softmax gradient at the midpoint between the
    distribution and the sample, minus half the plain straight-through gradient.
    """
    plain = probabilities(alpha, sizes)
    tempered = probabilities(alpha, sizes, temperature)
    hard = one_hot((alpha + _gumbel(alpha, generator)).detach(), sizes)
    middle = torch.log((hard + tempered.detach()) / 2)
    # These logits equal those of the midpoint, and their derivative in alpha is one.
    heun = probabilities(middle + alpha - alpha.detach(), sizes)
    backward = 2 * heun - plain / 2
    return hard + backward - backward.detach()


def one_hot(scores: Float[Tensor, "*r K"], sizes: Sequence[int]) -> Float[Tensor, "*r K"]:
    """1 at the largest score of each choice (the first if there are ties), 0 elsewhere."""
    padded = _padded(scores, sizes)
    picks = padded.argmax(dim=-1, keepdim=True)
    return _unpadded(torch.zeros_like(padded).scatter_(-1, picks, 1.0), sizes)


def picks_of(scores: Float[Tensor, "*r K"], sizes: Sequence[int]) -> Tensor:
    """The index of the largest score of each choice, (..., c)."""
    parts = scores.split(list(sizes), dim=-1)
    return torch.stack([part.argmax(dim=-1) for part in parts], dim=-1)


def one_hot_picks(picks: Int[Tensor, "*r c"], sizes: Sequence[int]) -> Float[Tensor, "*r K"]:
    """One-hot distributions of picks that are given by index."""
    columns = [functional.one_hot(picks[..., i], n) for i, n in enumerate(sizes)]
    return torch.cat(columns, dim=-1).to(torch.get_default_dtype())


def _padded(scores: Float[Tensor, "*r K"], sizes: Sequence[int]) -> Float[Tensor, "*r c o"]:
    """A row per choice, o is the largest number of options; -inf where there is no option."""
    shape = (len(sizes), max(sizes))
    empty = scores.new_full((*scores.shape[:-1], shape[0] * shape[1]), -torch.inf)
    flat = empty.index_copy(-1, _places(sizes, scores.device), scores)
    return flat.reshape(*scores.shape[:-1], *shape)


def _unpadded(padded: Float[Tensor, "*r c o"], sizes: Sequence[int]) -> Float[Tensor, "*r K"]:
    return padded.flatten(-2).index_select(-1, _places(sizes, padded.device))


def _places(sizes: Sequence[int], device: torch.device) -> Tensor:
    """(K,) the index of each option in the flattened padded rows."""
    most = max(sizes)
    places = [most * row + column for row, size in enumerate(sizes) for column in range(size)]
    return torch.tensor(places, device=device)


def _gumbel(alpha: Tensor, generator: torch.Generator) -> Tensor:
    uniform = torch.rand(
        alpha.shape, dtype=alpha.dtype, device=generator.device, generator=generator
    ).to(alpha.device)
    tiny = torch.finfo(alpha.dtype).tiny
    return -torch.log(-torch.log(uniform.clamp_min(tiny)))  # uniform is below 1
