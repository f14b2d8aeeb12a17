"""Fixed and random weights: the baselines that every other method must beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from paretonas.solvers._random import check_generator
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, check_preference


@dataclass(frozen=True, eq=False)
class LinearScalarization(WeightingSolver):
    """Sum the gradients by fixed weights; without a preference, take their mean.

    It is hard to beat if the weights are tuned, but it reaches only the convex part of a front.

    Attributes:
        preference: (m,) or (r, m), positive and summing to 1; None is 1/m each.

    Raises:
        ValueError: the preference is not positive or does not sum to 1.

    References:
        Kurin et al., In Defense of the Unitary Scalarization (2022), arXiv 2201.04122.

    >>> import torch
    >>> J = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> LinearScalarization(torch.tensor([0.25, 0.75]))(J).vector
    tensor([0.2500, 0.7500])
    """

    needs_gradients: ClassVar[bool] = False
    preference: Float[Tensor, "*r m"] | None = None

    def __post_init__(self) -> None:
        """Check the preference."""
        check_preference(self.preference)

    def total_weight(self, m: int) -> float:
        """Return 1: the weights are convex."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Use the preference as weights."""
        return Answer(problem.spread(self.preference), state=state)


@dataclass(frozen=True, eq=False)
class RandomWeights(WeightingSolver):
    """Sum the gradients by random weights, drawn on each call: softmax of normal numbers.

    Attributes:
        generator: draws the numbers; None is torch's global generator. A checkpoint must store the
            state of this generator.

    Raises:
        TypeError: the generator has another type.

    References:
        Lin et al., Reasonable Effectiveness of Random Weighting (2022), arXiv 2111.10603.

    >>> import torch
    >>> solver = RandomWeights(torch.Generator().manual_seed(0))
    >>> solver(torch.eye(2)).weights.sum()
    tensor(1.)
    """

    needs_gradients: ClassVar[bool] = False
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Check the generator."""
        check_generator(self.generator)

    def total_weight(self, m: int) -> float:
        """Return 1: the weights are convex."""
        return 1.0

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Draw on the generator's device and copy the weights to the host."""
        if self.generator is None:
            drawn = torch.randn(problem.r, problem.m, dtype=torch.float64, device="cpu")
        else:
            shape, device = (problem.r, problem.m), self.generator.device
            drawn = torch.randn(shape, generator=self.generator, dtype=torch.float64, device=device)
        return Answer(drawn.softmax(-1).numpy(force=True), state=state)
