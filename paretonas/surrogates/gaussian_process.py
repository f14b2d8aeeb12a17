"""A Gaussian process over the features of architectures: what to expect, and how surely."""

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
from .unlogged import Unlogged
from .warp import SHIFTS, Warp

Matrix = NDArray[np.float64]
Make = Callable[[Matrix], Warp | Unlogged | None]

# How costs may be warped, and costs that are logarithms.
AS_IS: tuple[Make, ...] = (partial(Warp.of, shift=None),)
WARPS: tuple[Make, ...] = tuple(partial(Warp.of, shift=shift) for shift in SHIFTS)
WARPS_OF_LOGARITHMS: tuple[Make, ...] = (*AS_IS, Unlogged.of)

# Weights of the parts of the kernel, see `overlaps`, and of the noise, before data speak; the
# variance of costs is 1. They are logarithms with a Student t prior of this width and freedom:
# where costs are exactly a sum over operations, other weights and the noise are many widths away.
PRIOR = np.array([0.0, -1.0, -1.0, -1.0, -1.0, -1.5, -2.0, -4.0])
WIDTH, FREEDOM = 1.5, 4.0
WEIGHTS, NOISE = np.exp(PRIOR[:-1]), float(np.exp(PRIOR[-1]))
SETTLED = 50  # costs after which a warp is not doubted any more: each takes seconds then
ROUNDING = 1e-8  # variance that keeps covariances of ties positive definite


@dataclass(frozen=True, eq=False)
class Surrogate:
    """A Gaussian process of one objective.

    Its kernel is a sum: a constant; linear in the picks, in the counts on routes, and in the counts
    of pairs on routes; of the distance between counts; of the number of picks that differ; linear
    in which options are present. The weights are those of the largest posterior density; so is the
    warp, which decides between costs and their logarithms.

    `relaxed` is differentiable in alpha. Each part of the kernel is an expectation under
    independent picks, exact but for the distance, which is taken between expected counts, and for
    what `Features` says of use. On one-hot rows it is the mean of `predict`.

    Attributes:
        warp: of the costs.
        hyper: (8,) logarithms of the weights of the parts and of the noise.
        make: which warp it is.

    References:
        Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1 and
        section 5.4. Duvenaud et al. 2011, "Additive Gaussian processes" (arXiv 1112.4394). Snelson,
        Rasmussen and Ghahramani 2004, "Warped Gaussian processes" (NIPS 16).
    """

    warp: Warp | Unlogged
    hyper: Matrix
    make: Make
    _known: Encoded = field(repr=False)
    _whiten: Matrix = field(repr=False)  # inverse of the covariance's Cholesky factor
    _weights: Matrix = field(repr=False)  # covariance^-1 warped costs

    @classmethod
    def fit(
        cls,
        known: Encoded,
        costs: Float[Matrix, " k"],
        before: Surrogate | None = None,
        *,
        warps: Sequence[Make] = WARPS,
        search: bool = True,
    ) -> Surrogate:
        """Learn from costs that were measured.

        Args:
            known: the architectures, k of them, at least 1.
            costs: finite; what warps them is found here.
            before: an earlier fit, to start from.
            warps: what may warp the costs; the first one always can.
            search: whether to look for better weights and warp than those of `before`.
        """
        parts = overlaps(known, known)
        make, hyper = (before.make, before.hyper) if before else (warps[0], PRIOR)
        if search or before is None:
            best = math.inf
            start = hyper
            settled = before is not None and len(costs) > SETTLED
            for tried in (make,) if settled else warps:
                if (warp := tried(costs)) is None:
                    continue
                found, loss = _minimum(_posterior(parts, warp(costs)), start)
                if (loss := loss - warp.log_jacobian(costs)) < best - 1e-9:
                    best, make, hyper = loss, tried, found
        warp = make(costs) or warps[0](costs)
        assert warp is not None
        whiten = np.linalg.inv(np.linalg.cholesky(_covariance(parts, hyper)))
        weights = whiten.T @ (whiten @ warp(costs))
        return cls(warp, hyper, make, known, whiten, weights)

    def relaxed(self, features: Encoded) -> Float[Tensor, " r"]:
        """The expected cost of architectures drawn from distributions, on the warped scale."""
        weights = torch.from_numpy(np.exp(self.hyper[:-1]))
        parts = overlaps(features, self._known)
        return torch.einsum("j,jrk,k->r", weights, parts, torch.from_numpy(self._weights))

    def predict(self, features: Encoded) -> tuple[Float[Matrix, " k"], Float[Matrix, " k"]]:
        """Mean and standard deviation of what measuring would find, on the warped scale."""
        weights = np.exp(self.hyper)
        cross = np.tensordot(weights[:-1], overlaps(features, self._known).numpy(), 1)
        white = cross @ self._whiten.T
        variance = weights[:-1] @ own(features) - np.square(white).sum(axis=1)
        return cross @ self._weights, np.sqrt(np.maximum(variance, 0.0) + weights[-1] + ROUNDING)


def overlaps(a: Encoded, b: Encoded) -> Float[Tensor, "j k n"]:
    """The parts of the kernel between rows of `a` (perhaps distributions) and of `b` (one-hot)."""
    agree = a.picks @ b.picks.T  # how many picks agree
    linear = a.counts @ b.counts.T
    squares = a.counts.square().sum(1)[:, None] + b.counts.square().sum(1)[None] - 2 * linear
    # What remains of exp(-1/2 for each pick that differs), picks being independent.
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


def own(a: Encoded) -> Float[Matrix, "j k"]:
    """The parts of the kernel between each one-hot row and itself."""
    parts = np.ones((len(WEIGHTS), len(a.picks)))
    parts[2] = a.counts.square().sum(1).numpy()
    parts[3] = a.pairs.square().sum(1).numpy()
    parts[6] = a.present.square().sum(1).numpy()
    return parts


def _covariance(parts: Tensor, hyper: Matrix) -> Matrix:
    weights = np.exp(hyper)
    covariance: Matrix = np.tensordot(weights[:-1], parts.numpy(), 1)
    covariance[np.diag_indices(len(covariance))] += weights[-1] + ROUNDING
    return covariance


def _posterior(parts: Tensor, warped: Matrix) -> Callable[[Matrix], tuple[float, Matrix]]:
    """Minus the log of the posterior density of `hyper`, up to a constant, with its gradient."""
    flat = parts.numpy().reshape(len(parts), -1)

    def loss(hyper: Matrix) -> tuple[float, Matrix]:
        weights = np.exp(hyper)
        try:
            factor = np.linalg.cholesky(_covariance(parts, hyper))
        except np.linalg.LinAlgError:  # a step too far: rounding leaves no covariance
            return math.inf, np.zeros_like(hyper)
        inverse = np.linalg.inv(factor)
        inverse = inverse.T @ inverse
        solved = inverse @ warped
        away = (hyper - PRIOR) / WIDTH
        growth = 1 + np.square(away) / FREEDOM
        prior = 0.5 * (FREEDOM + 1) * np.log(growth).sum()
        value = 0.5 * warped @ solved + np.log(np.diag(factor)).sum() + prior
        slope = inverse - np.outer(solved, solved)
        gradient = 0.5 * weights * np.append(flat @ slope.ravel(), np.trace(slope))
        return float(value), gradient + (1 + 1 / FREEDOM) * away / growth / WIDTH

    return loss


def _minimum(
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
