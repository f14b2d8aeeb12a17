"""A Gaussian process over the features of architectures: predicted costs and their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .features import Encoded
from .warp import SHIFTS, ExponentialWarp, Warp

Matrix = NDArray[np.float64]
FitWarp = Callable[[Matrix], Warp | ExponentialWarp | None]

# The warps that a fit chooses from: for failures, for costs, and for logarithms of costs.
STANDARDIZED: tuple[FitWarp, ...] = (partial(Warp.of, shift=None),)
WARPS: tuple[FitWarp, ...] = tuple(partial(Warp.of, shift=shift) for shift in SHIFTS)
WARPS_OF_LOGS: tuple[FitWarp, ...] = (*STANDARDIZED, ExponentialWarp.of)

# The prior of the hyperparameters: logarithms of the weights of the kernel's parts, see
# `kernel_parts`, and of the noise; the variance of costs is 1. It is a Student t of this width and
# these degrees of freedom. Its tails are heavy, since costs that are exactly a sum over operations
# have weights and a noise that are many widths below.
PRIOR = np.array([0.0, -1.0, -1.0, -1.0, -1.0, -1.5, -2.0, -4.0])
PRIOR_WIDTH, PRIOR_FREEDOM = 1.5, 4.0
WEIGHTS, NOISE = np.exp(PRIOR[:-1]), float(np.exp(PRIOR[-1]))
KEEP_WARP = 50  # with more costs than this the warp is kept: to try each takes seconds then
JITTER = 1e-8  # variance that keeps covariances of ties positive definite


@dataclass(frozen=True, eq=False)
class GaussianProcess:
    """A Gaussian process of one objective.

    The kernel is a weighted sum of parts: a constant; linear in the picks, in the counts on routes,
    and in the counts of pairs on routes; squared exponential in the counts; a product over picks
    that agree; linear in which options are present. `fit` maximizes the posterior density over
    weights, noise and warp; the warp decides between costs and their logarithms.

    `relaxed` is differentiable in alpha. Each part of the kernel is an expectation under
    independent picks. All are exact except the squared exponential, which takes the distance
    between expected counts, and what `Features` approximates. On one-hot rows `relaxed` is the mean
    of `predict`.

    Attributes:
        warp: of the costs.
        hyper: (8,) the hyperparameters: logarithms of the weights of the parts and of the noise.
        fit_warp: makes such a warp from costs.

    References:
        Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1 and
        section 5.4. Duvenaud et al. 2011, "Additive Gaussian processes" (arXiv 1112.4394). Snelson,
        Rasmussen and Ghahramani 2004, "Warped Gaussian processes" (NIPS 16).
    """

    warp: Warp | ExponentialWarp
    hyper: Matrix
    fit_warp: FitWarp
    _observed: Encoded = field(repr=False)
    _whiten: Matrix = field(repr=False)  # inverse of the covariance's Cholesky factor
    _weights: Matrix = field(repr=False)  # covariance^-1 warped costs

    @classmethod
    def fit(
        cls,
        observed: Encoded,
        costs: Float[Matrix, " k"],
        previous: GaussianProcess | None = None,
        *,
        warps: Sequence[FitWarp] = WARPS,
        optimize: bool = True,
    ) -> GaussianProcess:
        """Fit to measured costs.

        Args:
            observed: the architectures, k of them, at least 1.
            costs: finite, not warped.
            previous: an earlier fit, to start from.
            warps: to choose from; the first one fits any costs.
            optimize: whether to optimize the hyperparameters and the warp, or to keep those of
                `previous`.
        """
        parts = kernel_parts(observed, observed)
        fit_warp, hyper = (previous.fit_warp, previous.hyper) if previous else (warps[0], PRIOR)
        if optimize or previous is None:
            best = math.inf
            start = hyper
            keep = previous is not None and len(costs) > KEEP_WARP
            for tried in (fit_warp,) if keep else warps:
                if (warp := tried(costs)) is None:
                    continue
                found, loss = _minimize(_negative_log_posterior(parts, warp(costs)), start)
                if (loss := loss - warp.log_jacobian(costs)) < best - 1e-9:
                    best, fit_warp, hyper = loss, tried, found
        warp = fit_warp(costs) or warps[0](costs)
        assert warp is not None
        whiten = np.linalg.inv(np.linalg.cholesky(_covariance(parts, hyper)))
        weights = whiten.T @ (whiten @ warp(costs))
        return cls(warp, hyper, fit_warp, observed, whiten, weights)

    def relaxed(self, features: Encoded) -> Float[Tensor, " r"]:
        """The expected cost of architectures drawn from distributions, on the warped scale."""
        weights = torch.from_numpy(np.exp(self.hyper[:-1]))
        parts = kernel_parts(features, self._observed)
        return torch.einsum("j,jrk,k->r", weights, parts, torch.from_numpy(self._weights))

    def predict(self, features: Encoded) -> tuple[Float[Matrix, " k"], Float[Matrix, " k"]]:
        """Mean and standard deviation of measurements, noise included, on the warped scale."""
        weights = np.exp(self.hyper)
        cross = np.tensordot(weights[:-1], kernel_parts(features, self._observed).numpy(), 1)
        white = cross @ self._whiten.T
        variance = weights[:-1] @ kernel_diagonal(features) - np.square(white).sum(axis=1)
        return cross @ self._weights, np.sqrt(np.maximum(variance, 0.0) + weights[-1] + JITTER)


def kernel_parts(a: Encoded, b: Encoded) -> Float[Tensor, "j k n"]:
    """The parts of the kernel between rows of `a`, distributions or one-hot, and one-hot `b`."""
    agree = a.picks @ b.picks.T  # how many picks agree
    linear = a.counts @ b.counts.T
    squares = a.counts.square().sum(1)[:, None] + b.counts.square().sum(1)[None] - 2 * linear
    # The expectation of exp(-1/2 for each pick that differs); picks are independent.
    apart = math.exp(-0.5)
    together = torch.ones_like(agree)
    for mine, theirs in zip(a.picks.split(a.sizes, 1), b.picks.split(a.sizes, 1), strict=True):
        together = together * (apart + (1 - apart) * mine @ theirs.T)
    return torch.stack(
        [
            torch.ones_like(agree),
            agree / len(a.sizes),
            linear,
            a.pairs @ b.pairs.T,
            torch.exp(-0.5 * squares.clamp_min(0.0)),
            together,
            a.present @ b.present.T,
        ]
    )


def kernel_diagonal(a: Encoded) -> Float[Matrix, "j k"]:
    """The parts of the kernel of each one-hot row with itself."""
    parts = np.ones((len(WEIGHTS), len(a.picks)))
    parts[2] = a.counts.square().sum(1).numpy()
    parts[3] = a.pairs.square().sum(1).numpy()
    parts[6] = a.present.square().sum(1).numpy()
    return parts


def _covariance(parts: Tensor, hyper: Matrix) -> Matrix:
    weights = np.exp(hyper)
    covariance: Matrix = np.tensordot(weights[:-1], parts.numpy(), 1)
    covariance[np.diag_indices(len(covariance))] += weights[-1] + JITTER
    return covariance


def _negative_log_posterior(
    parts: Tensor, warped: Matrix
) -> Callable[[Matrix], tuple[float, Matrix]]:
    """Minus the log of the posterior density of `hyper`, up to a constant, and its gradient."""
    flat = parts.numpy().reshape(len(parts), -1)

    def loss(hyper: Matrix) -> tuple[float, Matrix]:
        weights = np.exp(hyper)
        try:
            factor = np.linalg.cholesky(_covariance(parts, hyper))
        except np.linalg.LinAlgError:  # not positive definite after rounding
            return math.inf, np.zeros_like(hyper)
        inverse = np.linalg.inv(factor)
        inverse = inverse.T @ inverse
        solved = inverse @ warped
        away = (hyper - PRIOR) / PRIOR_WIDTH
        growth = 1 + np.square(away) / PRIOR_FREEDOM
        prior = 0.5 * (PRIOR_FREEDOM + 1) * np.log(growth).sum()
        value = 0.5 * warped @ solved + np.log(np.diag(factor)).sum() + prior
        slope = inverse - np.outer(solved, solved)
        gradient = 0.5 * weights * np.append(flat @ slope.ravel(), np.trace(slope))
        return float(value), gradient + (1 + 1 / PRIOR_FREEDOM) * away / growth / PRIOR_WIDTH

    return loss


def _minimize(
    loss: Callable[[Matrix], tuple[float, Matrix]], start: Matrix, steps: int = 15
) -> tuple[Matrix, float]:
    """A local minimum by BFGS with backtracking (Nocedal and Wright 2006, algorithm 6.1)."""
    x = start
    value, gradient = loss(x)
    inverse = 0.3 * np.eye(len(x))
    for _ in range(steps):
        step = -inverse @ gradient
        step = step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        slope = float(step @ gradient)
        for _ in range(8):
            tried, tried_gradient = loss(x + step)
            if tried <= value + 1e-4 * slope:
                break
            step, slope = 0.4 * step, 0.4 * slope
        else:
            break
        change = tried_gradient - gradient
        x, gained, value, gradient = x + step, value - tried, tried, tried_gradient
        if gained < 1e-3:
            break
        curvature = float(step @ change)
        if curvature > 1e-10:
            left = np.eye(len(x)) - np.outer(step, change) / curvature
            inverse = left @ inverse @ left.T + np.outer(step, step) / curvature
    return x, value
