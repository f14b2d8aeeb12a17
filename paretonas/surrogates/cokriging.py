"""Co-kriging: a surrogate of a metric from scores of two fidelities.

The low fidelity is many cheap scores with inherited weights (proxy evaluations). The high fidelity
is few scores of architectures that were trained on their own. The kernel is a sum and a product
over choices, so the posterior mean is multilinear in the probabilities of independent picks. So its
expectation under alpha is exact and costs one prediction; the gradient is exact too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..relaxation import one_hot_picks


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores: picks (k, c), values (k,), and the fidelity of each (k,): 1 if trained, else 0."""

    picks: Int[Tensor, "k c"]
    values: Float[Tensor, " k"]
    trained: Tensor


@dataclass(frozen=True, eq=False)
class CoKriging:
    """A Gaussian process over choices: trained score = scale x inherited score + a difference.

    `fit` optimizes the hyperparameters to their posterior mode. `relaxed` is the exact expectation
    of the mean under independent picks. `sample` draws joint scores of discrete architectures.

    References:
        Kennedy and O'Hagan 2000, "Predicting the output from a complex computer code when fast
        approximations are available" (Biometrika 87): the autoregressive model of two fidelities.
        Duvenaud et al. 2011, "Additive Gaussian processes" (arXiv 1112.4394): sum and product
        kernels over coordinates.
    """

    sizes: tuple[int, ...]
    hyper: Tensor
    _train: Tensor = field(repr=False)  # (k, K) one-hot picks
    _trained: Tensor = field(repr=False)  # (k,)
    _mean: Tensor = field(repr=False)  # (2,) of inherited and of trained scores
    _factor: Tensor = field(repr=False)  # Cholesky factor of the covariance of the scores
    _weights: Tensor = field(repr=False)  # (k,) covariance^-1 (values - mean)

    @classmethod
    def fit(
        cls,
        sizes: Sequence[int],
        scores: Scores,
        start: Tensor | None = None,
    ) -> CoKriging:
        """Fit to scores; `start` is the `hyper` of an earlier fit."""
        x = one_hot_picks(scores.picks, sizes).double()
        trained = scores.trained.double()
        values = scores.values.double()
        mean = _means(values, trained)
        centered = values - mean[trained.long()]
        prior = _prior(sizes, centered, trained)
        theta = (prior.clone() if start is None else start.clone()).requires_grad_()
        optimizer = torch.optim.Adam([theta], lr=0.1)
        overlap = _overlap(x, x, sizes)
        with torch.enable_grad():
            for _ in range(40 if start is None else 12):
                factor = _factor(theta, overlap, trained)
                white = torch.linalg.solve_triangular(factor, centered[:, None], upper=False)
                loss = 0.5 * white.square().sum() + factor.diagonal().log().sum()
                loss = loss + 0.5 * (theta - prior).square().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        hyper = theta.detach()
        factor = _factor(hyper, overlap, trained)
        weights = torch.cholesky_solve(centered[:, None], factor)[:, 0]
        return cls(tuple(sizes), hyper, x, trained, mean, factor, weights)

    def relaxed(self, probabilities: Float[Tensor, "r K"]) -> Float[Tensor, " r"]:
        """The expected score, once trained, of an architecture drawn from each row."""
        p = probabilities.double()
        cross = self._between(p, self._train, torch.ones(len(p)), self._trained)
        return (self._mean[1] + cross @ self._weights).to(probabilities.dtype)

    def mean(self, picks: Int[Tensor, "k c"]) -> Float[Tensor, " k"]:
        """The predicted score, once trained, of each architecture."""
        return self.relaxed(one_hot_picks(picks, self.sizes).double())

    def posterior(self, picks: Int[Tensor, "k c"], level: int = 1) -> tuple[Tensor, Tensor]:
        """Mean (k,) and covariance (k, k) of scores without noise: trained (1) or inherited (0)."""
        x = one_hot_picks(picks, self.sizes).double()
        ones = torch.full((len(x),), float(level), dtype=torch.float64)
        cross = self._between(x, self._train, ones, self._trained)
        own = self._between(x, x, ones, ones)
        half = torch.linalg.solve_triangular(self._factor, cross.T, upper=False)
        return self._mean[level] + cross @ self._weights, own - half.T @ half

    def _between(self, p: Tensor, x: Tensor, trained: Tensor, trained2: Tensor) -> Tensor:
        """The covariance of rows; choice by choice, since all of them at once may be gigabytes."""
        relevance, stiffness = _by_choice(self.hyper)
        pairs = zip(p.split(list(self.sizes), 1), x.split(list(self.sizes), 1), strict=True)
        additive, product = torch.tensor(0.0).double(), torch.tensor(1.0).double()
        for (a, b), weight, stiff in zip(pairs, relevance, stiffness, strict=True):
            overlap = a @ b.T
            additive = additive + weight * overlap
            product = product * (stiff + (1 - stiff) * overlap)
        return _combined(self.hyper, additive, product, trained, trained2)

    def sample(
        self,
        picks: Int[Tensor, "k c"],
        count: int,
        generator: torch.Generator,
        level: int = 1,
    ) -> Float[Tensor, "count k"]:
        """Joint draws of the scores of architectures: trained (1) or inherited (0)."""
        mean, covariance = self.posterior(picks, level)
        # If scores are almost certain, the covariance is mostly the rounding error of the prior.
        one = torch.full((1,), float(level), dtype=torch.float64)
        prior = _covariance(self.hyper, torch.ones(len(self.sizes), 1, 1).double(), one, one)
        jitter = 1e-6 * covariance.diagonal().mean().clamp_min(1e-12) + 1e-9 * prior[0, 0]
        factor = torch.linalg.cholesky(covariance + jitter * torch.eye(len(mean)).double())
        noise = torch.randn(count, len(mean), dtype=torch.float64, generator=generator)
        draws: Tensor = mean + noise @ factor.T
        return draws


# The hyperparameters, as logarithms: [additive, product, noise] of the inherited scores, the same
# of the difference, the scale between the two, then per choice the relevance and the stiffness.
_SHARED = 7


def _prior(sizes: Sequence[int], centered: Tensor, trained: Tensor) -> Tensor:
    """The mode of the prior; each logarithm has unit variance around it."""
    inherited = centered[trained == 0]
    spread = float(inherited.var()) if len(inherited) > 1 else 0.1
    spread = max(spread, 1e-6)
    fine = centered[trained == 1]
    fine_spread = max(float(fine.var()), 1e-4) if len(fine) > 2 else spread
    scale = math.sqrt(fine_spread / spread) if len(fine) > 2 and len(inherited) > 1 else 1.0
    count = len(sizes)
    shared = [
        math.log(spread / count),
        math.log(spread / 2),
        math.log(spread / 100),
        math.log(fine_spread / 4 / count),
        math.log(fine_spread / 8),
        math.log(0.01),
        math.log(min(max(scale, 0.2), 5.0)),
    ]
    return torch.tensor([*shared, *([0.0] * count), *([0.0] * count)], dtype=torch.float64)


def _means(values: Tensor, trained: Tensor) -> Tensor:
    means = [values[trained == level].mean() for level in (0, 1) if (trained == level).any()]
    return torch.stack([means[0], means[-1]])


def _overlap(p: Tensor, x: Tensor, sizes: Sequence[int]) -> Float[Tensor, "c r k"]:
    """The probability that the picks of a row of `p` and a row of `x` agree, choice by choice."""
    return torch.stack(
        [a @ b.T for a, b in zip(p.split(list(sizes), 1), x.split(list(sizes), 1), strict=True)]
    )


def _covariance(theta: Tensor, overlap: Tensor, trained: Tensor, trained2: Tensor) -> Tensor:
    relevance, stiffness = _by_choice(theta)
    additive = torch.einsum("c,crk->rk", relevance, overlap)
    stiffness = stiffness[:, None, None]
    product = (stiffness + (1 - stiffness) * overlap).prod(dim=0)
    return _combined(theta, additive, product, trained, trained2)


def _by_choice(theta: Tensor) -> tuple[Tensor, Tensor]:
    """The relevance and the stiffness of each choice."""
    count = (len(theta) - _SHARED) // 2
    relevance = torch.softmax(theta[_SHARED : _SHARED + count], dim=0) * count
    return relevance, torch.sigmoid(theta[_SHARED + count :] + 1.0)


def _combined(
    theta: Tensor, additive: Tensor, product: Tensor, trained: Tensor, trained2: Tensor
) -> Tensor:
    """The covariance of the scores from the parts that choices add and multiply."""
    shared = theta[:_SHARED].exp()
    a, b = trained[:, None].to(additive.dtype), trained2[None, :].to(additive.dtype)
    scale = (1 + (shared[6] - 1) * a) * (1 + (shared[6] - 1) * b)
    inherited = shared[0] * additive + shared[1] * product
    # The mean of the trained scores comes from few scores; the constant makes it uncertain.
    difference = shared[3] * additive + shared[4] * product + 0.25
    return scale * inherited + a * b * difference


def _factor(theta: Tensor, overlap: Tensor, trained: Tensor) -> Tensor:
    noise = torch.where(trained == 1, theta[5].exp(), theta[2].exp()) + 1e-6
    covariance = _covariance(theta, overlap, trained, trained)
    # Scores may have any scale: rounding is relative to the largest variance.
    noise = noise + 1e-12 * covariance.diagonal().detach().amax()
    factor: Tensor = torch.linalg.cholesky(covariance + torch.diag(noise))
    return factor
