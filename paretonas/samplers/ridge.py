"""Ridge regression on features: a baseline that shows what the other parts of `Surgery` add."""

from __future__ import annotations

import random
from collections.abc import Sequence

import moocore
import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from paretonas.point import Outcome
from paretonas.problem import Problem
from paretonas.relaxation import one_hot_picks
from paretonas.samplers.random import Random
from paretonas.space import Architecture, encode, neighbor_picks
from paretonas.surrogates.features import Features
from paretonas.surrogates.observations import Observations, Picks
from paretonas.surrogates.warp import unit

Matrix = NDArray[np.float64]

PENALTIES = np.logspace(-4, 1, 11)  # of the weights, in units of the features' energy
CANDIDATES = 2000  # for each proposal, at most


class Ridge:
    """Fit a ridge regression to each objective, and evaluate the predicted front.

    The initial design is random. Then each proposal is drawn from the candidates that no other
    dominates by prediction. Candidates are the neighbors of the evaluated front and random
    architectures. With a constraint these are the candidates that are feasible by prediction, or
    those with the least violation. Uncertainty, alpha and rays are what `Surgery` has besides.

    Args:
        problem: what to search.
        seed: of its random numbers.
        first: how many architectures the initial design has.

    References:
        Hoerl and Kennard 1970, "Ridge regression" (Technometrics 12). The penalty
        has the least leave-one-out error (Allen 1974, Technometrics 16).
    """

    def __init__(self, problem: Problem, *, seed: int = 0, first: int = 10) -> None:
        self._first = first
        self._rng = random.Random(seed)
        self._random = Random(problem, seed=seed)
        self._features = Features(problem.choices, problem.structure)
        self._observed = Observations(problem)
        self._problem, self._choices = problem, problem.choices
        self._known: dict[Picks, float] = {}  # violations

    def __repr__(self) -> str:
        return f"Ridge({self._problem}, {len(self._observed)} known)"

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Remember what was found."""
        for outcome in outcomes:
            self._observed.add(outcome)

    def ask(self) -> list[Architecture]:
        """The initial design; then one of the predicted front; nothing once all are known."""
        if len(self._observed) >= self._first and len(self._observed.points) > 2:
            new = self._candidates()
            if new:
                best = np.flatnonzero(self._front(new))
                return [self._observed.architecture(new[self._rng.choice(best.tolist())])]
        while fresh := self._random.ask():
            if encode(self._choices, fresh[0]) not in self._observed:
                return fresh
        return []

    def _candidates(self) -> list[Picks]:
        sizes = self._features.sizes
        points = list(self._observed.points)
        best = self._observed.best(self._observed.costs)
        near = [n for i in np.flatnonzero(best) for n in neighbor_picks(points[i], sizes)]
        if len(near) > CANDIDATES // 2:
            near = self._rng.sample(near, CANDIDATES // 2)
        drawn = [tuple(map(self._rng.randrange, sizes)) for _ in range(CANDIDATES - len(near))]
        new = self._observed.new(near + drawn)
        if not new:
            return []
        alive = self._features(one_hot_picks(torch.tensor(new), sizes)).alive
        return [picks for picks, passing in zip(new, alive, strict=True) if passing > 0]

    def _front(self, picks: list[Picks]) -> Bool[NDArray[np.bool_], " k"]:
        """Which are on the predicted front, among those with the least predicted violation.

        A limit on a free objective is tested, not predicted.
        """
        problem, observed = self._problem, self._observed
        predicted, units = self._predict(picks)
        front = np.ones(len(picks), dtype=bool)
        if problem.constraint:
            free = [objective.column in problem.free for objective in problem.evaluated]
            violation = observed.violation(np.where(free, -np.inf, predicted * units))
            violation += [self._known_violation(p) for p in picks]
            front = violation == violation.min()
        objectives = predicted[front, : len(problem.columns)]
        front[front] = moocore.is_nondominated(objectives, keep_weakly=True)
        return front

    def _known_violation(self, picks: Picks) -> float:
        """How far an architecture is beyond limits on free objectives; each is asked once."""
        if picks not in self._known:
            architecture = self._observed.architecture(picks)
            self._known[picks] = self._problem.known_violation(architecture)
        return self._known[picks]

    def _predict(self, picks: list[Picks]) -> tuple[Float[Matrix, "k c"], list[float]]:
        """What each column of `Observations.costs` is predicted to be, in a unit; the units."""
        x, costs = self._rows(list(self._observed.points)), self._observed.costs
        units = [unit(column) for column in costs.T]
        costs = costs / units
        center, mean = x.mean(axis=0), costs.mean(axis=0)
        left, values, right = np.linalg.svd(x - center, full_matrices=False)
        fitted = left.T @ (costs - mean)
        columns = []
        for j in range(costs.shape[1]):
            tried = []
            for penalty in PENALTIES * np.square(values).mean():
                shrunk = np.square(values) / (np.square(values) + penalty)
                leverage = np.square(left) @ shrunk + 1 / len(x)
                wrong = costs[:, j] - mean[j] - left @ (shrunk * fitted[:, j])
                error = float(np.square(wrong / np.maximum(1 - leverage, 1e-3)).mean())
                tried.append((error, penalty))
            penalty = min(tried)[1]
            scale = np.divide(values, np.square(values) + penalty)
            columns.append(right.T @ (scale * fitted[:, j]))
        predicted: Matrix = mean + (self._rows(picks) - center) @ np.stack(columns, axis=1)
        return predicted, units

    def _rows(self, picks: list[Picks]) -> Float[Matrix, "k D"]:
        seen = self._features(one_hot_picks(torch.tensor(picks), self._features.sizes))
        return torch.cat([seen.picks, seen.counts, seen.pairs], dim=1).numpy()
