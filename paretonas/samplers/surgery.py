"""Gradient surgery on a surrogate: the sampler that needs few evaluations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from paretonas.objectives.base import AnyObjective, DifferentiableObjective
from paretonas.point import Outcome, Point
from paretonas.problem import Problem
from paretonas.relaxation import one_hot_picks, sizes_of
from paretonas.samplers.base import evaluate
from paretonas.samplers.random import Random
from paretonas.solvers import LinearScalarization, Solver
from paretonas.space import Architecture, decode, encode
from paretonas.surrogates.acquisition import (
    ExpectedImprovement,
    certain,
    expected_hypervolume_improvement,
    sampled_hypervolume_improvement,
)
from paretonas.surrogates.alpha import WarmAlpha
from paretonas.surrogates.candidates import around, local_search
from paretonas.surrogates.features import Encoded, Features
from paretonas.surrogates.gaussian_process import (
    STANDARDIZED,
    WARPS,
    WARPS_OF_LOGS,
    FitWarp,
    GaussianProcess,
)
from paretonas.surrogates.initial_design import initial_design
from paretonas.surrogates.observations import Observations, Picks
from paretonas.surrogates.uncovered import MOST_BOXED, Directions

Matrix = NDArray[np.float64]

GROWTH = 1.1  # hyperparameters are optimized again once there are so many times more points
FEW = 15  # up to so many points they are optimized for each proposal
LEAST_FEASIBLE = 0.02  # least probability that an evaluation succeeds: surrogates err
FRONT = 20  # members of the front whose neighbors are candidates
RANDOM = 100  # random candidates for each proposal
NEVER = -1e6  # the logarithm of the probability of what is known to be infeasible
BEYOND = 0.01  # how far the reference is beyond the worst costs, as a part of their range


class Surgery:
    """Model-based search: surrogates, alpha on their gradients, expected hypervolume improvement.

    1. Evaluate an initial design.
    2. Fit a Gaussian process to each objective, on features of the routes through the network.
    3. Candidate generation. Relax the architecture to alpha, a row for each ray between the
       objectives. Differentiate the predictions with respect to alpha, and let the solver resolve
       the conflict. Decide alpha; add neighbors of the front, and random architectures.
    4. Local search from these candidates for the largest expected hypervolume improvement, the
       acquisition function. Evaluate the best and go on with 2.

    A batch is chosen one after the other. Each one chosen counts as evaluated, with the predicted
    costs, until the batch is full (Kriging believer).

    An architecture without any route that passes something is never proposed. One that computes the
    same function as an evaluated one is proposed only until a first such pair has equal costs; on
    real devices they differ. Failed evaluations are learned from: the acquisition function is
    multiplied by the probability that an evaluation succeeds.

    With a constraint, the expected improvement of the feasible front is multiplied by the
    probability that an architecture is feasible; as long as no feasible one is known, this
    probability alone counts. Where alpha leads, predicted violations fall first.

    An objective in ``problem.free`` is evaluated instead of predicted. If it has a relaxed form,
    that form is differentiated. A limit on it is tested.

    Args:
        problem: what to search.
        seed: of its random numbers.
        solver: resolves the conflict of the objectives, with a preference for each ray;
            `LinearScalarization` unless given.
        first: how many architectures the initial design has.
        batch: how many to evaluate before the surrogates are fitted again.
        rays: how many, at least.

    Raises:
        ValueError: an initial design of fewer than two, an empty batch, or no ray.

    References:
        Daulton, Balandat and Bakshy 2021, "Parallel Bayesian optimization of multiple noisy
        objectives with expected hypervolume improvement" (arXiv 2105.08195). White, Neiswanger and
        Savani 2021, "BANANAS" (arXiv 1910.11858): path features. Ginsbourger, Le Riche and Carraro
        2010, "Kriging is well-suited to parallelize optimization": the Kriging believer. Gardner et
        al. 2014, "Bayesian optimization with inequality constraints" (ICML): the probability of
        feasibility.
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
        design = initial_design(
            problem.choices, problem.structure, self._features, self._rng, first
        )
        named = [(picks, decode(problem.choices, picks)) for picks in design]
        self._design = [picks for picks, a in named if not problem.known_violation(a)]
        self._others = Random(problem, seed=seed)
        self._alpha = WarmAlpha(
            self._sizes, len(problem.columns), solver or LinearScalarization(), seed, rays
        )
        self._observed = Observations(problem)
        self._count = len(problem.columns)  # of the columns of costs that are objectives
        self._models: list[GaussianProcess] = []
        self._fitted_to = 0  # points when hyperparameters were optimized last
        self._useless: list[Architecture] = []
        self._free_costs: dict[tuple[str, Picks], float] = {}

    def __repr__(self) -> str:
        return f"Surgery({self._problem}, {len(self._observed)} known)"

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Remember what was found."""
        for outcome in outcomes:
            self._observed.add(outcome)

    def ask(self) -> list[Architecture]:
        """The initial design; then the best by the surrogates; nothing once all are known."""
        missing = self._first - len(self._observed)
        if missing > 0 and (fresh := self._observed.new(self._design)):
            return [self._observed.architecture(picks) for picks in fresh[:missing]]
        if len(self._observed.points) < 2:
            return self._left_over()
        batch: dict[Picks, Matrix] = {}  # with predicted costs: the Kriging believer
        while len(batch) < self._batch and (found := self._propose(batch)) is not None:
            batch[found] = self._predicted(self._encode([found]).picks)[0].numpy()
        return [self._observed.architecture(picks) for picks in batch] or self._left_over()

    def _propose(self, batch: dict[Picks, Matrix]) -> Picks | None:
        """The largest expected hypervolume improvement; None if there is no new candidate."""
        points = self._observed.points | batch
        costs = np.array(list(points.values()))
        self._fit(list(points), costs, optimize=not batch)
        low, reach = costs.min(axis=0), np.ptp(costs, axis=0)
        reach = np.where(reach > 0, reach, 1.0)
        reference = (costs.max(axis=0) + BEYOND * reach)[: self._count]
        best = self._observed.best(costs)
        met = not self._observed.violation(costs[best]).any()  # a feasible point is known
        if met:
            reference = np.minimum(reference, self._observed.bounds[: self._count])
        known = costs[best, : self._count]
        many = len(reference) > MOST_BOXED
        rest = Directions.of(known, reference, low[: self._count]) if many else None
        feasibility = self._feasibility()

        def improvement(new: list[Picks], features: Encoded) -> Matrix:
            if rest:
                drawn = partial(self._drawn, new, features)
                return sampled_hypervolume_improvement(drawn, rest)
            improvements = self._improvements(new, features)
            return expected_hypervolume_improvement(known, reference, improvements)

        def score(picks: list[Picks]) -> list[tuple[Picks, float]]:
            new = [p for p in self._observed.new(picks) if p not in batch]
            if not new:
                return []
            features = self._encode(new)
            limits = self._log_probability(new, features)
            passing = features.alive.numpy() > 0
            if met:
                gains = improvement(new, features) * feasibility(features) * np.exp(limits)
                passing &= limits > NEVER
            else:
                gains = limits + np.log(feasibility(features))
            return [(p, float(g)) for p, g, ok in zip(new, gains, passing, strict=True) if ok]

        front = [picks for picks, stays in zip(points, best, strict=True) if stays]
        starts = self._from_alpha(low, reach) + self._from_front(front)
        return next(iter(local_search(starts, self._sizes, score)), None)

    def _from_alpha(self, low: Matrix, reach: Matrix) -> list[Picks]:
        """Candidates where alpha leads; the range of each objective is scaled to 1."""
        least, scale = torch.from_numpy(low), torch.from_numpy(reach)
        bounds = torch.from_numpy(self._observed.bounds)

        def relaxed(p: Tensor) -> Tensor:
            return ((self._predicted(p) - least) / scale)[:, : self._count]

        def violation(p: Tensor) -> Tensor:
            return (torch.relu(self._predicted(p) - bounds) / scale).sum(dim=1)

        return self._alpha(relaxed, violation if self._problem.constraint else None)

    def _from_front(self, front: list[Picks]) -> list[Picks]:
        """Neighbors of the front, and a few at random."""
        if len(front) > FRONT:
            front = self._rng.sample(front, FRONT)
        return around(front, self._sizes, self._rng, RANDOM)

    def _fit(self, picks: list[Picks], costs: Matrix, optimize: bool) -> None:
        count = len(picks)
        optimize = optimize and (count < FEW or count >= GROWTH * self._fitted_to)
        observed = self._encode(picks)
        before: Sequence[GaussianProcess | None] = self._models or [None] * costs.shape[1]
        names = [objective.column for objective in self._problem.evaluated]
        self._models = [
            GaussianProcess.fit(observed, column, model, warps=self._warps(name), optimize=optimize)
            for name, column, model in zip(names, costs.T, before, strict=True)
        ]
        if optimize:
            self._fitted_to = count

    def _warps(self, column: str) -> Sequence[FitWarp]:
        return WARPS_OF_LOGS if column in self._problem.log else WARPS

    def _predicted(self, probabilities: Float[Tensor, "r K"]) -> Float[Tensor, "r c"]:
        """The expected costs of each distribution, differentiable; see `Observations.points`."""
        features = self._features(probabilities)
        columns = []
        for objective, model in zip(self._problem.evaluated, self._models, strict=True):
            if self._is_free(objective) and isinstance(objective, DifferentiableObjective):
                cost = objective.relaxed(probabilities)
                log = objective.column in self._problem.log
                columns.append(cost.sign() * cost.abs().log() if log else cost)
            else:
                columns.append(model.warp.undo(model.relaxed(features)))
        return torch.stack(columns, dim=1)

    def _improvements(self, picks: list[Picks], features: Encoded) -> list[ExpectedImprovement]:
        """The expected improvement of each objective below thresholds."""
        improvements = []
        for objective, model in zip(self._problem.objectives, self._models, strict=False):
            if self._is_free(objective):
                improvements.append(certain(np.array([self._cost(objective, p) for p in picks])))
            else:
                expected = model.warp.expected_improvement
                improvements.append(partial(expected, *model.predict(features)))
        return improvements

    def _drawn(
        self, picks: list[Picks], features: Encoded, normal: Float[Tensor, "s m"]
    ) -> Float[Matrix, "s k m"]:
        """Costs of candidates; those that need no evaluation are the same in all draws."""
        columns = []
        for objective, model, own in zip(
            self._problem.objectives, self._models[: self._count], normal.T, strict=True
        ):
            if self._is_free(objective):
                costs = torch.tensor([self._cost(objective, p) for p in picks])
                columns.append(costs.expand(len(own), -1))
            else:
                mean, deviation = map(torch.from_numpy, model.predict(features))
                columns.append(model.warp.undo(mean + own[:, None] * deviation))
        return torch.stack(columns, dim=2).numpy()

    def _log_probability(self, picks: list[Picks], features: Encoded) -> Matrix:
        """The logarithm of the probability that all limits are met.

        An architecture that is known to be infeasible gets less than `NEVER`, the less the farther
        it is beyond the limits.
        """
        total = np.zeros(len(picks))
        columns = zip(self._problem.evaluated, self._models, self._observed.bounds, strict=True)
        for objective, model, bound in columns:
            if bound < np.inf and not self._is_free(objective):
                mean, deviation = model.predict(features)
                chance = model.warp.log_probability_below(mean, deviation, float(bound))
                total += np.maximum(chance, NEVER / len(self._models))
        architectures = map(self._observed.architecture, picks)
        beyond = np.array([self._problem.known_violation(a) for a in architectures])
        return np.where(beyond > 0, NEVER * (2 + np.minimum(beyond, 1e9)), total)

    def _feasibility(self) -> Callable[[Encoded], Matrix]:
        """The probability that the evaluation of an architecture succeeds."""
        observed = self._observed
        if not observed.failed:
            return lambda features: np.ones(len(features.picks))
        encoded = self._encode([*observed.points, *observed.failed])
        failed = np.repeat([0.0, 1.0], [len(observed.points), len(observed.failed)])
        model = GaussianProcess.fit(encoded, failed, warps=STANDARDIZED)

        def probability(features: Encoded) -> Matrix:
            failure = model.warp.undo(model.relaxed(features)).numpy()
            return np.clip(1.0 - failure, LEAST_FEASIBLE, 1.0)

        return probability

    def _is_free(self, objective: AnyObjective) -> bool:
        return objective.column in self._problem.free

    def _cost(self, objective: AnyObjective, picks: Picks) -> float:
        """The cost of a free objective, evaluated once; infinite where there is no value."""
        key = objective.column, picks
        if key not in self._free_costs:
            outcome = evaluate(self._observed.architecture(picks), [objective])
            found = math.inf
            if isinstance(outcome, Point):
                values = np.array([outcome.objectives[objective.column]])
                found = float(self._problem.costs_of(objective, values)[0])
            self._free_costs[key] = found
        return self._free_costs[key]

    def _encode(self, picks: list[Picks]) -> Encoded:
        return self._features(one_hot_picks(torch.tensor(picks), self._sizes))

    def _left_over(self) -> list[Architecture]:
        """A random one that is left; nothing once all were proposed.

        Those that cannot add anything come last: equals of evaluated ones, and those without any
        route that passes something.
        """
        while fresh := self._others.ask():
            picks = [encode(self._problem.choices, fresh[0])]
            if self._observed.new(picks) and self._encode(picks).alive[0] > 0:
                return fresh
            self._useless += fresh
        while self._useless:
            last = self._useless.pop()
            if encode(self._problem.choices, last) not in self._observed:
                return [last]
        return []
