"""What a sampler was told, and which architectures that leaves to be asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from paretonas.point import Failure, Point
from paretonas.problem import Problem
from paretonas.space import Architecture, decode, encode

Matrix = NDArray[np.float64]
Picks = tuple[int, ...]  # the index of each pick, in the order of the choices

AGREE = 1e-6  # relative difference below which two costs are the same


class Known:
    """Points and failures by their picks.

    Architectures that compute the same function, as far as the structure tells, need not cost the
    same: devices also run what leads nowhere. So they count as different until a first pair of them
    was measured and agrees in every objective.

    Attributes:
        points: costs (m,), as `Problem.costs` has them.
        failed: what could not be evaluated.
    """

    def __init__(self, problem: Problem) -> None:
        self.points: dict[Picks, Matrix] = {}
        self.failed: dict[Picks, None] = {}
        self._problem = problem
        self._twins_agree = False
        self._functions: dict[Picks, str] = {}
        self._first: dict[str, Picks] = {}  # of the architectures that compute a function

    def __len__(self) -> int:
        return len(self.points) + len(self.failed)

    def __contains__(self, picks: object) -> bool:
        return picks in self.points or picks in self.failed

    @property
    def costs(self) -> Float[Matrix, "k m"]:
        """The costs of all points."""
        return np.array(list(self.points.values()))

    def add(self, outcome: Point | Failure) -> None:
        """Remember an outcome."""
        picks = encode(self._problem.choices, outcome.architecture)
        if not isinstance(outcome, Point):
            self.failed[picks] = None
            return
        costs = self._problem.costs([outcome.objectives])[0]
        self.points[picks] = costs
        if self._problem.structure is not None:
            twin = self._first.setdefault(self._function(picks), picks)
            if twin != picks and np.allclose(costs, self.points[twin], rtol=AGREE, atol=0.0):
                self._twins_agree = True

    def new(self, picks: Sequence[Picks]) -> list[Picks]:
        """Those that are worth asking for, each once: not known, and no known one's equal."""
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
