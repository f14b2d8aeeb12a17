"""The error of architectures at two fidelities: what is scored, predicted, and scored next."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, Literal

import moocore
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..objectives import DifferentiableObjective
from ..relaxation import sizes_of
from ..space import Architecture, Choice, decode, encode
from .acquisition import Matrix, select_batch
from .cokriging import CoKriging, Scores

Level = Literal["inherited", "trained"]

DRAWS = 24  # of the surrogate, to choose the next proxy evaluations


class ErrorModel:
    """Losses with inherited weights, errors after training, and co-kriging between the two.

    Args:
        choices: of the space.
        costs: the objectives that are known without training.
        resolution: the error of one example in percent, which keeps logarithms finite.

    Attributes:
        inherited: the loss of each architecture with inherited weights (proxy evaluation), in nats.
        trained: the error of each finalist, in percent.
        failed: why architectures could not be scored, by the level at which it was tried.
    """

    def __init__(
        self, choices: Sequence[Choice], costs: Sequence[DifferentiableObjective], resolution: float
    ) -> None:
        self.choices, self.costs, self.resolution = tuple(choices), tuple(costs), resolution
        self.inherited: dict[Architecture, float] = {}
        self.trained: dict[Architecture, float] = {}
        self.failed: dict[Level, dict[Architecture, str]] = {"inherited": {}, "trained": {}}
        self._surrogate: CoKriging | None = None
        self._hyper: Tensor | None = None

    @property
    def surrogate(self) -> CoKriging:
        """The surrogate of the last `fit`."""
        if self._surrogate is None:
            raise RuntimeError("nothing is fitted yet")
        return self._surrogate

    def fit(self) -> None:
        """Fit the surrogate to all scores."""
        known = [*self.inherited, *self.trained]
        losses = [math.log(max(loss, 1e-6)) for loss in self.inherited.values()]
        errors = [math.log(error + self.resolution / 2) for error in self.trained.values()]
        scores = Scores(
            self._picks(known),
            torch.tensor([*losses, *errors], dtype=torch.float64),
            torch.tensor([0] * len(losses) + [1] * len(errors)),
        )
        self._surrogate = CoKriging.fit(sizes_of(self.choices), scores, self._hyper)
        self._hyper = self._surrogate.hyper

    def values(self) -> Float[Tensor, "k m"]:
        """The predicted error and the costs of all architectures scored so far."""
        known = list(dict.fromkeys([*self.inherited, *self.trained]))
        errors = self.surrogate.mean(self._picks(known)).exp()
        return torch.column_stack([errors, torch.from_numpy(self.costs_of(known))])

    def costs_of(self, architectures: Sequence[Architecture]) -> Float[Matrix, "k l"]:
        """The costs of architectures."""
        return np.array([[cost.exact(a) for cost in self.costs] for a in architectures])

    def leaders(self) -> list[Architecture]:
        """The trained architectures that no other dominates, by tabulated costs.

        Measured costs vary from run to run, and the course of a search must not.
        """
        if not self.trained:
            return []
        known = list(self.trained)
        points = np.column_stack([list(self.trained.values()), self.costs_of(known)])
        best = moocore.is_nondominated(points, keep_weakly=False)
        return [a for a, leads in zip(known, best, strict=True) if leads]

    def choose(
        self, candidates: Sequence[Architecture], count: int, level: Level, *, seed: int
    ) -> list[Architecture]:
        """The candidates to score next at a level, by their expected hypervolume improvement.

        Proxy evaluations are cheap and may explore: the acquisition function takes draws of the
        surrogate. Trainings are few: it takes the mean alone, which measured better.
        """
        known = self.trained if level == "trained" else self.inherited
        both = [*known, *(a for a in dict.fromkeys(candidates) if a not in known)]
        if len(both) == len(known):
            return []
        picks = self._picks(both)
        if level == "trained":
            scores = self.surrogate.mean(picks)[None, :]
        else:
            generator = torch.Generator().manual_seed(seed * 104_729 + len(known))
            scores = self.surrogate.sample(picks, DRAWS, generator, level=0)
        errors = scores.exp().numpy()
        costs = self.costs_of(both)
        scored = self.costs_of([*self.inherited, *self.trained])
        reference = 1.05 * np.array([np.median(errors.max(axis=1)), *scored.max(axis=0)])
        chosen = select_batch(errors, costs, reference, count, known=len(known))
        return [both[index] for index in chosen]

    def state(self) -> dict[str, Any]:
        """Plain values to go on from; see `resume`."""
        return {
            "inherited": [(list(self._row(a)), loss) for a, loss in self.inherited.items()],
            "trained": [(list(self._row(a)), error) for a, error in self.trained.items()],
            "failed": {
                level: [(list(self._row(a)), reason) for a, reason in failed.items()]
                for level, failed in self.failed.items()
            },
            "hyper": self._hyper,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state`."""
        self.inherited = {decode(self.choices, picks): loss for picks, loss in state["inherited"]}
        self.trained = {decode(self.choices, picks): error for picks, error in state["trained"]}
        for level, failed in state.get("failed", {}).items():  # older ones have none
            self.failed[level] = {decode(self.choices, picks): reason for picks, reason in failed}
        self._hyper = state["hyper"]

    def forget_all_but(self, trained: Set[Architecture]) -> None:
        """Forget the trainings of other architectures."""
        self.trained = {a: error for a, error in self.trained.items() if a in trained}

    def _row(self, architecture: Architecture) -> tuple[int, ...]:
        return encode(self.choices, architecture)

    def _picks(self, architectures: Sequence[Architecture]) -> Tensor:
        return torch.tensor([self._row(a) for a in architectures], dtype=torch.long)
