"""Early stopping of finalists that the front cannot need, by successive halving."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from .._whole import whole
from ..objectives.trained_metric import rung_column
from ..point import Point, Stopped
from ..space import Architecture
from ..surrogates.quality_model import QualityModel
from ..surrogates.uncovered import Matrix
from ..tasks.task import TaskScores, value_of
from ..training import Recipe

FEWEST = 4  # whole trainings that show how much is gained after a rung


@dataclass(frozen=True)
class SuccessiveHalving:
    """Stop the training of a finalist at a rung if the front cannot need it.

    The rungs of a training of E epochs are after E/factor, E/factor^2, ... of them, rounded up.
    Successive halving and ASHA keep the best part of those that reach a rung. That is for one
    objective: MO-ASHA ranks them by non-dominated sorting. Here none is stopped for its rank. A
    training is stopped if even its optimistic result is dominated by a finalist that was trained to
    its end: its costs are those of the tables, and its metrics are those of the rung, improved as
    much as any finalist has improved after this rung. The next finalist improves more than all n
    before it with a probability of about 1 / (n + 1). There must be at least four.

    The steps that are saved pay for more finalists. What a whole training was expected to give, by
    the median of the improvements, tells the surrogate what not to propose again.

    Attributes:
        factor: of the epochs from rung to rung.

    Raises:
        ValueError: the factor is below 2.

    References:
        Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
        optimization" (arXiv 1502.07943): successive halving. Li et al. 2020, "A system for
        massively parallel hyperparameter tuning" (arXiv 1810.05934): ASHA. Schmucker et al. 2021,
        "Multi-objective asynchronous successive halving" (arXiv 2106.12639): MO-ASHA.

    >>> SuccessiveHalving().rungs(6), SuccessiveHalving(2).rungs(6), SuccessiveHalving().rungs(1)
    ((1, 2), (1, 2, 3), ())
    """

    factor: int = 3

    def __post_init__(self) -> None:
        whole("factor", self.factor, 2)

    @classmethod
    def parse(cls, text: str) -> SuccessiveHalving:
        """Read ``halving`` or ``halving:FACTOR``.

        Raises:
            ValueError: it reads otherwise, or the factor is below 2.
        """
        match = re.fullmatch(r"halving(?::(\d+))?", text)
        if match is None:
            raise ValueError(f"early_stopping reads none, halving or halving:FACTOR, got {text!r}")
        return cls() if match[1] is None else cls(int(match[1]))

    def __str__(self) -> str:
        """As `parse` reads it."""
        return "halving" if self == SuccessiveHalving() else f"halving:{self.factor}"

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a training of so many may be stopped."""
        found: list[int] = []
        rung = epochs
        while rung > 1:
            rung = -(-rung // self.factor)
            found.append(rung)
        return tuple(reversed(found))


class Bar:
    """What a group of finalists must promise to be trained on; it knows what came before the group.

    So the result of a group depends neither on the order in which its trainings reach their rungs,
    nor on where a search was interrupted.

    Args:
        halving: the rungs.
        recipe: of the group.
        knowledge: fitted; gives the costs by the tables.
        finished: the finalists that were trained to their end, by the same recipe or another one.
        rivals: those of them that meet all constraints.
        group: the architectures that are trained.
    """

    def __init__(
        self,
        halving: SuccessiveHalving,
        recipe: Recipe,
        knowledge: QualityModel,
        finished: Sequence[Point],
        rivals: Sequence[Point],
        group: Sequence[Architecture],
    ) -> None:
        self._halving, self._epochs, self._rivals = halving, recipe.epochs, tuple(rivals)
        self._metrics, self._scales = knowledge.metrics, knowledge.scales
        self._costs = dict(zip(group, knowledge.costs_of(group), strict=True))
        values = [[s(p.objectives[s.metric.column]) for s in self._scales] for p in rivals]
        costs = knowledge.costs_of([p.architecture for p in rivals])
        self._known = np.hstack(
            [_rows(values, len(self._scales)), _rows(costs, len(knowledge.costs))]
        )
        self._gains = {rung: self._gains_after(rung, finished) for rung in self.rungs(self._epochs)}

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a training of so many may be stopped."""
        return self._halving.rungs(epochs)

    def __call__(
        self, architecture: Architecture, epoch: int, scores: TaskScores
    ) -> Stopped | None:
        """What is left of a training if it is to be stopped at this rung; None: it goes on."""
        gains = self._gains.get(epoch, np.zeros((0, 0)))
        if len(gains) < FEWEST:
            return None
        now = np.array([scale(value_of(scores, scale.metric)) for scale in self._scales])
        best = np.append(now - np.maximum(gains.max(axis=0), 0), self._costs[architecture])
        beaten = (self._known <= best).all(axis=1) & (self._known < best).any(axis=1)
        if not beaten.any():
            return None
        by = self._rivals[int(beaten.argmax())]
        expected = now - np.median(gains, axis=0)
        return Stopped(
            architecture,
            f"{by.id or by.architecture} is better at no higher costs, whatever can be gained",
            epoch,
            self._epochs,
            {m.column: value_of(scores, m) for m in self._metrics},
            {
                scale.metric.column: float(scale.value(torch.tensor(c, dtype=torch.float64)))
                for scale, c in zip(self._scales, expected, strict=True)
            },
        )

    def _gains_after(self, rung: int, finished: Sequence[Point]) -> Matrix:
        """By how much finalists of as many epochs have improved after a rung: (k, metrics)."""
        found = []
        for point in finished:
            told = [point.reported.get(rung_column(metric, rung)) for metric in self._metrics]
            if point.reported.get("epochs") == self._epochs and None not in told:
                pairs = zip(self._scales, map(float, told), strict=True)  # type: ignore[arg-type]
                found.append(
                    [s(value) - s(point.objectives[s.metric.column]) for s, value in pairs]
                )
        return _rows(found, len(self._scales))


def _rows(values: object, columns: int) -> Matrix:
    """A matrix of so many columns, also if it has no rows."""
    return np.reshape(np.array(values, dtype=np.float64), (-1, columns))
