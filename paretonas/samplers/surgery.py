"""Gradient surgery on a surrogate: the sampler that needs few evaluations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import moocore
import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from paretonas.objectives.base import DifferentiableObjective, Objective
from paretonas.point import Outcome, Point
from paretonas.problem import Problem, logarithm
from paretonas.relaxation import one_hot_picks, sizes_of
from paretonas.samplers.base import evaluate
from paretonas.samplers.random import Random
from paretonas.solvers import LinearScalarization, Solver
from paretonas.space import Architecture, encode
from paretonas.surrogates.acquisition import Shortfall, expected_improvement
from paretonas.surrogates.climb import climb, neighbors
from paretonas.surrogates.features import Encoded, Features
from paretonas.surrogates.gaussian_process import AS_IS, WARPS, WARPS_OF_LOGARITHMS, Make, Surrogate
from paretonas.surrogates.initial_design import first_design
from paretonas.surrogates.observations import Known, Picks
from paretonas.surrogates.rays import Rays

Matrix = NDArray[np.float64]

GROWTH = 1.1  # the surrogates' weights are sought anew after this much more was measured
FEW = 15  # points up to which they are sought anew each time
RARE = 0.02  # least probability that an evaluation succeeds: surrogates err
FRONT = 20  # members of the front whose neighbors are looked at each time
DRAWN = 100  # random architectures that are looked at each time
BEYOND = 0.01  # how far the reference is beyond the worst costs, as a part of their range


class Surgery:
    """Fit surrogates, drive alpha down their gradients along rays, measure what promises most.

    1. Measure a first design.
    2. Fit a Gaussian process to each objective, on features of the routes through the network.
    3. Relax the architecture to alpha, a row for each ray between the objectives; differentiate
       what the surrogates predict with respect to alpha, and let the solver resolve the conflict.
    4. Discretize. From there, and from the front, climb from neighbor to neighbor towards the
       largest expected gain of hypervolume; measure the best and go on with 2.

    Architectures through which nothing passes are never asked for. Those that compute the same
    function as one that was measured are asked for only until a first pair of them costs the same:
    on real devices they do not. Evaluations that fail are learned from.

    An objective in ``problem.free`` is looked up instead of predicted, and differentiated itself if
    it has a relaxed form.

    Args:
        problem: what to search.
        seed: of its random numbers.
        solver: resolves the conflict of the objectives, aimed at each ray; `LinearScalarization`
            unless given.
        first: how many architectures the first design has.
        batch: how many to measure before the surrogates learn from them.
        rays: along how many, at least.

    Raises:
        ValueError: a first design of fewer than two, an empty batch, or no ray.

    References:
        Daulton, Balandat and Bakshy 2021, "Parallel Bayesian optimization of multiple noisy
        objectives with expected hypervolume improvement" (arXiv 2105.08195). White, Neiswanger and
        Savani 2021, "BANANAS" (arXiv 1910.11858): path features.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        seed: int = 0,
        solver: Solver | None = None,
        first: int = 8,
        batch: int = 1,
        rays: int = 12,
    ) -> None:
        for name, value, least in (("first", first, 2), ("batch", batch, 1), ("rays", rays, 1)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        self._problem, self._first, self._batch = problem, first, batch
        self._rng = random.Random(seed)
        self._sizes = sizes_of(problem.choices)
        self._features = Features(problem.choices, problem.structure)
        self._design = first_design(
            problem.choices, problem.structure, self._features, self._rng, first
        )
        self._others = Random(problem, seed=seed)
        self._rays = Rays(
            self._sizes, len(problem.columns), solver or LinearScalarization(), seed, rays
        )
        self._known = Known(problem)
        self._models: list[Surrogate] = []
        self._sought = 0  # points when the surrogates' weights were sought last
        self._set_aside: list[Architecture] = []
        self._looked_up: dict[tuple[str, Picks], float] = {}

    def __repr__(self) -> str:
        return f"Surgery({self._problem}, {len(self._known)} known)"

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Remember what was found."""
        for outcome in outcomes:
            self._known.add(outcome)

    def ask(self) -> list[Architecture]:
        """The first design; then what promises most; nothing once all are known."""
        missing = self._first - len(self._known)
        if missing > 0 and (fresh := self._known.new(self._design)):
            return [self._known.architecture(picks) for picks in fresh[:missing]]
        if len(self._known.points) < 2:
            return self._left_over()
        chosen: list[Picks] = []
        believed: dict[Picks, Matrix] = {}
        while len(chosen) < self._batch and (found := self._best(believed)) is not None:
            chosen.append(found)
            # Until it is measured, the rest of the batch is chosen as if it were as predicted.
            likely = self._predicted(self._encode([found]).picks)[0]
            believed[found] = likely.numpy()
        return [self._known.architecture(picks) for picks in chosen] or self._left_over()

    def _best(self, believed: dict[Picks, Matrix]) -> Picks | None:
        """What is expected to add the most hypervolume; None if nothing new is in sight."""
        points = self._known.points | believed
        costs = np.array(list(points.values()))
        self._fit(list(points), costs, search=not believed)
        low, reach = costs.min(axis=0), np.ptp(costs, axis=0)
        reach = np.where(reach > 0, reach, 1.0)
        reference = costs.max(axis=0) + BEYOND * reach
        best = moocore.is_nondominated(costs, keep_weakly=False)
        feasible = self._feasible()

        def score(picks: list[Picks]) -> list[tuple[Picks, float]]:
            new = [p for p in self._known.new(picks) if p not in believed]
            if not new:
                return []
            features = self._encode(new)
            gains = expected_improvement(costs[best], reference, self._shortfalls(new, features))
            gains = gains * feasible(features)
            passing = features.alive > 0
            return [(p, float(g)) for p, g, ok in zip(new, gains, passing, strict=True) if ok]

        members = [picks for picks, stays in zip(points, best, strict=True) if stays]
        starts = self._along_rays(low, reach) + self._around(members)
        return next(iter(climb(starts, self._sizes, score)), None)

    def _along_rays(self, low: Matrix, reach: Matrix) -> list[Picks]:
        """What alpha meets on its way down the predicted objectives, these scaled alike."""
        least, scale = torch.from_numpy(low), torch.from_numpy(reach)
        return self._rays(lambda p: (self._predicted(p) - least) / scale)

    def _around(self, members: list[Picks]) -> list[Picks]:
        """Neighbors of the front, and a few at random."""
        if len(members) > FRONT:
            members = self._rng.sample(members, FRONT)
        near = [picks for member in members for picks in neighbors(member, self._sizes)]
        return near + [tuple(map(self._rng.randrange, self._sizes)) for _ in range(DRAWN)]

    def _fit(self, picks: list[Picks], costs: Matrix, search: bool) -> None:
        count = len(picks)
        search = search and (count < FEW or count >= GROWTH * self._sought)
        known = self._encode(picks)
        before: Sequence[Surrogate | None] = self._models or [None] * costs.shape[1]
        self._models = [
            Surrogate.fit(known, column, model, warps=self._warps(name), search=search)
            for name, column, model in zip(self._problem.columns, costs.T, before, strict=True)
        ]
        if search:
            self._sought = count

    def _warps(self, column: str) -> Sequence[Make]:
        return WARPS_OF_LOGARITHMS if column in self._problem.log else WARPS

    def _predicted(self, probabilities: Float[Tensor, "r K"]) -> Float[Tensor, "r m"]:
        """What is expected of each distribution, differentiable, as `Problem.costs` counts."""
        features = self._features(probabilities)
        columns = []
        for objective, model in zip(self._problem.objectives, self._models, strict=True):
            if self._is_free(objective) and isinstance(objective, DifferentiableObjective):
                cost = objective.relaxed(probabilities)
                columns.append(cost.log() if objective.column in self._problem.log else cost)
            else:
                columns.append(model.warp.undo(model.relaxed(features)))
        return torch.stack(columns, dim=1)

    def _shortfalls(self, picks: list[Picks], features: Encoded) -> list[Shortfall]:
        shortfalls: list[Shortfall] = []
        for objective, model in zip(self._problem.objectives, self._models, strict=True):
            if self._is_free(objective):
                costs = np.array([self._cost(objective, p) for p in picks])[:, None]
                shortfalls.append(partial(_certain, costs))
            else:
                shortfalls.append(partial(model.warp.shortfall, *model.predict(features)))
        return shortfalls

    def _feasible(self) -> Callable[[Encoded], Matrix]:
        """How probable it is that evaluations of architectures succeed."""
        known = self._known
        if not known.failed:
            return lambda features: np.ones(len(features.picks))
        encoded = self._encode([*known.points, *known.failed])
        failed = np.repeat([0.0, 1.0], [len(known.points), len(known.failed)])
        model = Surrogate.fit(encoded, failed, warps=AS_IS)

        def probability(features: Encoded) -> Matrix:
            failure = model.warp.undo(model.relaxed(features)).numpy()
            return np.clip(1.0 - failure, RARE, 1.0)

        return probability

    def _is_free(self, objective: Objective) -> bool:
        return objective.column in self._problem.free

    def _cost(self, objective: Objective, picks: Picks) -> float:
        """A free objective, looked up once; infinite where there is no value."""
        key = objective.column, picks
        if key not in self._looked_up:
            outcome = evaluate(self._known.architecture(picks), [objective])
            found = outcome.objectives[objective.column] if isinstance(outcome, Point) else math.inf
            if math.isfinite(found) and objective.column in self._problem.log:
                found = float(logarithm(np.array([found]), objective.column)[0])
            self._looked_up[key] = found
        return self._looked_up[key]

    def _encode(self, picks: list[Picks]) -> Encoded:
        return self._features(one_hot_picks(torch.tensor(picks), self._sizes))

    def _left_over(self) -> list[Architecture]:
        """One of those that nothing speaks for; nothing once all were asked for.

        Last come those that cannot add anything: equals of known ones, and what lets nothing pass.
        """
        while fresh := self._others.ask():
            picks = [encode(self._problem.choices, fresh[0])]
            if self._known.new(picks) and self._encode(picks).alive[0] > 0:
                return fresh
            self._set_aside += fresh
        while self._set_aside:
            last = self._set_aside.pop()
            if encode(self._problem.choices, last) not in self._known:
                return [last]
        return []


def _certain(costs: Float[Matrix, "k 1"], thresholds: Float[Matrix, " b"]) -> Float[Matrix, "k b"]:
    return np.maximum(thresholds - costs, 0.0)
