"""How much objectives conflict: angles and lengths of their gradients, pair by pair."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers.problem import Problem


def cosine_similarity(jacobian: Float[Tensor, "*r m n"]) -> Float[Tensor, "*r m m"]:
    """Cosine of the angle between each two gradients: below 0 they conflict, above 0 they agree.

    A zero gradient has no angle: its cosine with every other is 0, with itself 1. Computed in
    float64 and returned so, whatever the dtype and the scale of the jacobian.

    Args:
        jacobian: (m, n), row i the gradient of objective i; or (r, m, n).

    Raises:
        TypeError: the jacobian is no floating point tensor.
        ValueError: its shape does not fit, or an entry is not finite.

    >>> import torch
    >>> cosine_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor([[ 1., -1.],
            [-1.,  1.]], dtype=torch.float64)
    """
    problem = Problem(jacobian)
    cosines = problem.gram.cosines
    return cosines if problem.batched else cosines.squeeze(0)


def magnitude_similarity(jacobian: Float[Tensor, "*r m n"]) -> Float[Tensor, "*r m m"]:
    """Likeness of the lengths of each two gradients: 1 for equal, towards 0 as one dominates.

    2 |a| |b| / (|a|^2 + |b|^2); two zero gradients are alike, 1.

    Args:
        jacobian: (m, n), row i the gradient of objective i; or (r, m, n).

    Raises:
        TypeError: the jacobian is no floating point tensor.
        ValueError: its shape does not fit, or an entry is not finite.

    References:
        Yu et al., Gradient Surgery for Multi-Task Learning (2020), arXiv 2001.06782.

    >>> import torch
    >>> magnitude_similarity(torch.tensor([[1.0, 0.0], [-2.0, 0.0]]))
    tensor([[1.0000, 0.8000],
            [0.8000, 1.0000]], dtype=torch.float64)
    """
    problem = Problem(jacobian)
    norms = problem.gram.norms
    one, other = norms.unsqueeze(-1), norms.unsqueeze(-2)
    larger = torch.maximum(one, other)
    # As a function of the ratio, so that no square can overflow.
    ratio = torch.where(larger > 0, torch.minimum(one, other) / larger, 1.0)
    ratio = ratio.nan_to_num(1.0)
    alike = 2 * ratio / (1 + ratio * ratio)
    return alike if problem.batched else alike.squeeze(0)
