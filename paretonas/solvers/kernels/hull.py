"""The exact shortest vector in the hull of few gradients and many borders between rays.

The gradient of a border is a combination of the m gradients, so the answer needs at most m + 1
vectors of the hull. The method keeps about that many, finds the shortest vector in their hull, and
replaces a vector without weight by the most violated one (Wolfe 1976, "Finding the nearest point
in a polytope"). No array is larger than rays times borders.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from paretonas.gradients.gram import Gram
from paretonas.solvers.kernels.min_norm import min_norm

ACCURACY = 1e-12  # it stops at this violation, relative to the terms that cancel


@dataclass(frozen=True, eq=False)
class Candidates:
    """The possible members of the hull: m gradients, and the normals of K borders of an axis.

    Attributes:
        products: the Gram matrix, scaled so that the longest gradient has length 1.
        axes: the axes; a border separates an axis from a point.
        points: candidate m + j is the unit vector from the axis to point j, times the gradients.
        gaps: the distances from the axes to the points.
        members: which candidates are in the hull; at least one.
    """

    products: Float[np.ndarray, "b m m"]
    axes: Float[np.ndarray, "b m"]
    points: Float[np.ndarray, "K m"]
    gaps: Float[np.ndarray, "b K"]
    members: Bool[np.ndarray, "b q"]

    def __getitem__(self, at: Bool[np.ndarray, " b"]) -> Candidates:
        return Candidates(
            self.products[at], self.axes[at], self.points, self.gaps[at], self.members[at]
        )


@dataclass(frozen=True, eq=False)
class Shortest:
    """The shortest vector of each hull.

    Attributes:
        weights: the weights of the gradients.
        gap: the KKT residual: how much smaller the product of the vector with another member is
            than its product with itself, relative.
        length: the length of the vector, relative to its terms.
    """

    weights: Float[np.ndarray, "b m"]
    gap: Float[np.ndarray, " b"]
    length: Float[np.ndarray, " b"]


def shortest(candidates: Candidates, first: Int[np.ndarray, "b s"]) -> Shortest:
    """Solve b problems at once, starting with the hulls of the members ``first``."""
    count, m = candidates.axes.shape
    weights, gap, length = np.empty((count, m)), np.empty(count), np.empty(count)
    terms, held, at = _terms(candidates), first, np.arange(count)
    for _ in range(8 * (m + 1)):
        chosen = _vectors(candidates, held)
        shares = min_norm(_gram(chosen, candidates.products))
        found = (shares[:, None, :] @ chosen)[:, 0]
        against = _against(candidates, found)
        square = np.maximum((shares * np.take_along_axis(against, held, 1)).sum(-1), 0.0)
        size = (shares * np.take_along_axis(terms, held, 1)).sum(-1)
        scale = terms * size[:, None]
        excess = np.where(candidates.members, square[:, None] - against, 0.0)
        excess /= np.where(scale > 0, scale, 1.0)
        joins = excess.argmax(-1)[:, None]
        most = np.take_along_axis(excess, joins, 1)[:, 0]
        weights[at], gap[at] = found, np.maximum(most, 0.0)
        length[at] = np.sqrt(square) / np.where(size > 0, size, 1.0)
        going = (most > ACCURACY) & (held != joins).all(-1)
        if not going.any():
            break
        held = _with(held, joins, shares, going)
        if not going.all():
            candidates, terms, held, at = candidates[going], terms[going], held[going], at[going]
    return Shortest(weights, gap, length)


def _with(
    held: Int[np.ndarray, "b s"],
    joins: Int[np.ndarray, "b 1"],
    shares: Float[np.ndarray, "b s"],
    going: Bool[np.ndarray, " b"],
) -> Int[np.ndarray, "b t"]:
    # Replace a vector without weight or a duplicate. If there is none (dependent vectors may all
    # have weight), add the new one.
    twice = (held[:, :, None] == held[:, None, :]) & np.tri(held.shape[1], k=-1, dtype=bool)
    spare = np.where(twice.any(-1), 0.0, shares)
    if (spare.min(-1) > 0)[going].any():
        held = np.concatenate([held, held[:, :1]], axis=1)
        spare = np.concatenate([spare, np.zeros_like(spare[:, :1])], axis=1)
    held = held.copy()
    np.put_along_axis(held, spare.argmin(-1)[:, None], joins, 1)
    return held


def _vectors(candidates: Candidates, held: Int[np.ndarray, "b s"]) -> Float[np.ndarray, "b s m"]:
    m = candidates.axes.shape[1]
    border = held >= m
    gaps = np.take_along_axis(candidates.gaps, np.where(border, held - m, 0), 1)
    ends = np.concatenate([np.eye(m), candidates.points])[held]
    vectors: Float[np.ndarray, "b s m"] = ends - border[..., None] * candidates.axes[:, None]
    return vectors / np.where(border, gaps, 1.0)[..., None]


def _gram(vectors: Float[np.ndarray, "b s m"], products: Float[np.ndarray, "b m m"]) -> Gram:
    inner = vectors @ products @ vectors.swapaxes(-1, -2)
    s = inner.shape[-1]
    norms = np.sqrt(np.maximum(inner.diagonal(axis1=-2, axis2=-1), 0.0))
    safe = np.where(norms > 0, norms, 1.0)
    cosines = inner / safe[:, :, None] / safe[:, None, :]
    cosines = np.clip(0.5 * (cosines + cosines.swapaxes(-1, -2)), -1.0, 1.0)
    cosines.reshape(-1, s * s)[:, :: s + 1] = 1.0
    return Gram(cosines, norms)


def _against(candidates: Candidates, weights: Float[np.ndarray, "b m"]) -> Float[np.ndarray, "b q"]:
    # Inner products of a vector with all candidates.
    rows = (candidates.products @ weights[..., None])[..., 0]
    along = (rows[:, None, :] @ candidates.axes[..., None])[..., 0]
    borders = (rows @ candidates.points.T - along) / candidates.gaps
    return np.concatenate([rows, borders], axis=1)


def _terms(candidates: Candidates) -> Float[np.ndarray, "b q"]:
    # The length that each candidate would have if no terms canceled.
    lengths = np.sqrt(candidates.products.diagonal(axis1=-2, axis2=-1))
    total = np.zeros_like(candidates.gaps)
    for axis, point, part in zip(candidates.axes.T, candidates.points.T, lengths.T, strict=True):
        total += np.abs(point - axis[:, None]) * part[:, None]
    return np.concatenate([lengths, total / candidates.gaps], axis=1)
