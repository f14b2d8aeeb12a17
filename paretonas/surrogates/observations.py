"""What a sampler has been told, and which architectures are still worth an evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import NDArray

from paretonas.direction import turned
from paretonas.objectives.base import Objective, maximizes
from paretonas.point import Failure, Point
from paretonas.problem import Problem
from paretonas.space import Architecture, decode, encode

Matrix = NDArray[np.float64]
Picks = tuple[int, ...]  # the index of each pick, in the order of the choices

AGREE = 1e-6  # relative difference below which two costs are the same


class Observations:
    """Points and failures by their picks.

    The structure of a space tells which architectures compute the same function. They need not cost
    the same, since devices also run operations whose output is not used. So they count as different
    until a first pair of them has equal costs in every objective.

    Attributes:
        points: costs (m,), as in `Problem.costs`; after them those of what is only limited.
        failed: architectures whose evaluation failed.
        bounds: the largest feasible value of each of these columns; infinite where there is none.
    """

    def __init__(self, problem: Problem) -> None:
        self.points: dict[Picks, Matrix] = {}
        self.failed: dict[Picks, None] = {}
        self._problem = problem
        self.bounds, self._units = _bounds(problem)
        self._twins_agree = False
        self._functions: dict[Picks, str] = {}
        self._first: dict[str, Picks] = {}  # of the architectures that compute a function

    def __len__(self) -> int:
        return len(self.points) + len(self.failed)

    def __contains__(self, picks: object) -> bool:
        return picks in self.points or picks in self.failed

    @property
    def costs(self) -> Float[Matrix, "k c"]:
        """The costs of all points, those of what is only limited as well."""
        return np.array(list(self.points.values()))

    def violation(self, costs: Float[Matrix, "k c"]) -> Float[Matrix, " k"]:
        """How far costs are beyond the bounds in all; 0 for what is feasible.

        Each column counts as a part of its limit, as in `Constraint.violation`. One on a log scale
        counts as the logarithm of the ratio, which is nearly the same close to the limit.
        """
        beyond = np.maximum(costs - self.bounds, 0.0) / self._units
        total: Matrix = beyond.sum(axis=1)
        return total

    def best(self, costs: Float[Matrix, "k c"]) -> Bool[NDArray[np.bool_], " k"]:
        """Which of these no other dominates, among those with the least violation."""
        violation = self.violation(costs)
        least: NDArray[np.bool_] = violation == violation.min()
        objectives = costs[least, : len(self._problem.columns)]
        least[least] = moocore.is_nondominated(objectives, keep_weakly=False)
        return least

    def add(self, outcome: Point | Failure) -> None:
        """Remember an outcome."""
        picks = encode(self._problem.choices, outcome.architecture)
        if not isinstance(outcome, Point):
            self.failed[picks] = None
            return
        costs = self._problem.costs([outcome.objectives])[0]
        if self._problem.limited:
            besides = [_besides(objective, outcome) for objective in self._problem.limited]
            costs = np.append(costs, besides)
        self.points[picks] = costs
        if self._problem.structure is not None:
            twin = self._first.setdefault(self._function(picks), picks)
            if twin != picks and np.allclose(costs, self.points[twin], rtol=AGREE, atol=0.0):
                self._twins_agree = True

    def new(self, picks: Sequence[Picks]) -> list[Picks]:
        """Those worth an evaluation, each once: not observed, nor equal to an observed one."""
        fresh = [p for p in dict.fromkeys(picks) if p not in self]
        if self._twins_agree:
            fresh = list({self._function(p): p for p in reversed(fresh)}.values())
            fresh = [p for p in reversed(fresh) if self._function(p) not in self._first]
        return fresh

    def architecture(self, picks: Picks) -> Architecture:
        """The architecture with these picks."""
        return decode(self._problem.choices, picks)

    def _function(self, picks: Picks) -> str:
        structure = self._problem.structure
        assert structure is not None
        if picks not in self._functions:
            self._functions[picks] = structure.canonical(self.architecture(picks))
        return self._functions[picks]


def _besides(objective: Objective, point: Point) -> float:
    """The cost of what is only limited."""
    return turned(float(point.reported[objective.column]), maximizes(objective))


def _bounds(problem: Problem) -> tuple[Matrix, Matrix]:
    """The largest feasible cost of each column, and what counts as a violation of 1."""
    limits, columns = problem.constraint.limits, problem.evaluated
    bounds, units = np.full(len(columns), np.inf), np.ones(len(columns))
    for place, objective in enumerate(columns):
        if (limit := limits.get(objective.column)) is None:
            continue
        bounds[place] = turned(limit, maximizes(objective))
        if objective.column not in problem.log:
            units[place] = abs(limit) or 1.0
        elif limit:
            bounds[place] = problem.costs_of(objective, np.array([limit]))[0]
        else:  # nothing whose logarithm is taken is 0
            bounds[place] = np.inf if maximizes(objective) else np.log(np.finfo(float).tiny)
    return bounds, units
