"""GradVac, Gradient Vaccine: raise the cosine of each pair of gradients to its moving average."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from paretonas.gradients.gram import dot, plain
from paretonas.gradients.kind import check_kind
from paretonas.solvers._random import check_generator
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.certificate import RESOLUTION
from paretonas.solvers.problem import GradientProblem, PerRay

Array = np.ndarray
CEILING = 1.0 - 1e-6  # highest target cosine: a cosine of 1 would need an infinite correction


@dataclass(frozen=True, eq=False)
class GradVac(WeightingSolver):
    """Turn each gradient toward those whose cosine with it is below a target; sum the results.

    Gradient i is compared with each other gradient j in turn. If their cosine is below the target
    of the pair, a multiple of gradient j is added to gradient i, so that the cosine equals the
    target. The target is the moving average of the observed cosines. It starts at 0, so the first
    call gives the answer of PCGrad. It is updated on every call, also without a correction.

    Each weight is at least 1, so the direction is 0 only if some positive combination of the
    gradients is 0. It is linear in the length of each gradient. It may conflict: with two
    objectives once a target is below 0, with three or more on any call. With three or more
    gradients the result depends on the order of the comparisons, which is random in the paper.

    A zero gradient, or one that the corrections have made 0, has no cosine; it and its target do
    not change.

    Attributes:
        beta: weight of the newest cosine in the moving average, in (0, 1].
        generator: draws the order of the comparisons of each gradient, for all rays at once; None
            is the order of the rows.

    The state holds the targets, a tensor (m, m) or (r, m, m) in float64 on the host. It is not
    symmetric, since the cosine is between the corrected gradient i and the original gradient j.

    Raises:
        ValueError: beta is out of range, or the state does not fit the jacobian.
        TypeError: the state is not a floating point tensor, or the generator has another type.

    References:
        Wang et al., Gradient Vaccine: Investigating and Improving Multi-task Optimization in
        Massively Multilingual Models (2020), arXiv 2010.05874. One target for all parameters
        together; for the paper's targets per layer or matrix, call it on each part.

    >>> import torch
    >>> solver, jacobian = GradVac(beta=0.5), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    >>> first = solver(jacobian)
    >>> first.vector, first.state[0, 1]
    (tensor([1.6000, 0.8000]), tensor(0.3000, dtype=torch.float64))
    """

    beta: float = 0.01
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        """Check both."""
        check_generator(self.generator)
        if not 0.0 < self.beta <= 1.0:
            raise ValueError(f"beta must be in (0, 1], got {self.beta}")

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the sum of the lengths."""
        return np.asarray(problem.gram.norms.sum(-1))

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Correct the weights; only angles between rows are needed."""
        cosines, norms = problem.gram.cosines, problem.gram.norms
        r, m = norms.shape
        orders = self._orders(r, m)
        if (alone := plain(problem.gram)) is not None:
            targets = _targets(problem, state)
            weights = _one_corrected(*alone, orders[0].tolist(), targets[0], self.beta)
            return Answer(weights, branch="corrected", state=problem.shaped(targets))
        rays, own = np.arange(r)[:, None, None], np.arange(m)[None, :, None]
        targets = _targets(problem, state)
        target = targets[rays, own, orders]  # (r, m, turns), like everything per turn
        aim = np.clip(target, -CEILING, CEILING)
        slope = aim / np.sqrt((1.0 - aim) * (1.0 + aim))
        lit = norms > 0
        pair = lit[:, :, None] & lit[rays, orders]
        terms, seen, found = _turn(cosines, orders, pair, aim, slope)
        targets[rays, own, orders] = np.where(seen, target + self.beta * (found - target), target)
        weights = np.where(lit, (norms[:, :, None] * terms).sum(1) / np.where(lit, norms, 1.0), 1.0)
        return Answer(weights, branch="corrected", state=problem.shaped(targets))

    def _orders(self, r: int, m: int) -> Array:
        if self.generator is None:
            order = np.arange(m - 1)[None, None]
        else:
            keys = torch.rand(r, m, m - 1, generator=self.generator, device=self.generator.device)
            order = keys.argsort(-1).cpu().numpy()
        # A number counts only the other gradients, so from i on it means the next gradient.
        return order + (order >= np.arange(m)[None, :, None])


def _turn(
    cosines: Float[Array, "r m m"],
    orders: Int[Array, "r_or_1 m turns"],
    pair: Bool[Array, "r m turns"],
    aim: Float[Array, "r m turns"],
    slope: Float[Array, "r m turns"],
) -> tuple[Float[Array, "r m m"], Bool[Array, "r m turns"], Float[Array, "r m turns"]]:
    # Each corrected unit gradient, as a sum of unit gradients, and its observed cosines.
    r, m, turns = pair.shape
    met = cosines[np.arange(r)[:, None, None], orders]  # (r, m, turns, m)
    terms = np.eye(m) + np.zeros((r, 1, 1))
    entries = terms.reshape(-1)
    places = np.arange(0, terms.size, m).reshape(r, m, 1) + orders
    size, total = np.ones((r, m)), np.ones((r, m))  # its length, and that of its terms laid out
    seen, found = np.empty(pair.shape, dtype=bool), np.empty(pair.shape)
    for turn in range(turns):
        inner = (met[:, :, turn] * terms).sum(-1)
        cosine = np.minimum(np.maximum(inner / np.maximum(size, 1e-300), -1.0), 1.0)
        exists = pair[..., turn] & (size > RESOLUTION * total)
        seen[..., turn], found[..., turn] = exists, cosine
        # The part orthogonal to gradient j stays; the part along it grows until the angle is right.
        across = size * np.sqrt((1.0 - cosine) * (1.0 + cosine))
        low = exists & (cosine < aim[..., turn])
        missing = np.where(low, across * slope[..., turn] - inner, 0.0)
        entries[places[..., turn]] = missing
        size = np.where(low, across * np.sqrt(1.0 + slope[..., turn] * slope[..., turn]), size)
        total += missing
    return terms, seen, found


def _one_corrected(
    cosines: list[list[float]],
    norms: list[float],
    orders: list[list[int]],
    targets: Float[Array, "m m"],
    beta: float,
) -> Float[Array, "1 m"]:
    # Fast path for one small matrix, in plain Python numbers; updates the targets.
    corrected = []
    for i, order in enumerate(orders):
        terms = [0.0] * len(norms)
        terms[i] = size = total = 1.0
        moved: list[float] = targets[i].tolist()
        for j in order:
            inner = dot(cosines[j], terms)
            cosine = min(max(inner / max(size, 1e-300), -1.0), 1.0)
            if not size > RESOLUTION * total:
                continue
            aim = min(max(moved[j], -CEILING), CEILING)
            moved[j] += beta * (cosine - moved[j])
            if cosine < aim:
                slope = aim / math.sqrt((1.0 - aim) * (1.0 + aim))
                across = size * math.sqrt((1.0 - cosine) * (1.0 + cosine))
                terms[j] = across * slope - inner
                size = across * math.sqrt(1.0 + slope * slope)
                total += terms[j]
        targets[i] = moved
        corrected.append(terms)
    columns = zip(*corrected, strict=True)
    return np.array([[dot(norms, c) / norm for c, norm in zip(columns, norms, strict=True)]])


def _targets(problem: GradientProblem, state: object) -> Float[Array, "r m m"]:
    r, m = problem.r, problem.m
    if state is None:
        return np.zeros((r, m, m))
    state = check_kind("state", state)
    expected = (r, m, m) if problem.batched else (m, m)
    if state.shape != expected:
        letters = "(r, m, m)" if problem.batched else "(m, m)"
        raise ValueError(
            f"state must fit the jacobian: it must have shape {letters} = {expected}, "
            f"got {tuple(state.shape)}; start again with None if objectives change"
        )
    wide = state.detach().to("cpu", torch.float64).numpy().reshape(r, m, m)
    wrong = ~(np.abs(wide) <= 1.0)
    if wrong.any():
        raise ValueError(f"state must hold cosines, in [-1, 1], got {wide[wrong][0]}")
    return wide.copy()
