"""The time of a search: what is gone of its budget, and what still fits into it."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..tasks.passes import batch_count
from ..tasks.task import Task
from ..training import Recipe

CLOSING = 6.0  # seconds to time all points together and for the last files, at most


def now() -> float:
    """Seconds of a clock that never goes back."""
    return time.perf_counter()


@dataclass
class Clock:
    """The time of a search, and the seconds of its budget.

    Attributes:
        seconds: the budget; infinite if it is none of seconds.
        before: the seconds of earlier sessions, if the search was resumed.
        start: when this session began, by `now`.
        kept: seconds that the end will take, beside `closing`, as measured.
    """

    seconds: float = math.inf
    before: float = 0.0
    start: float = field(default_factory=lambda: now())
    kept: float = 0.0

    @property
    def timed(self) -> bool:
        """Whether the budget is one of seconds."""
        return self.seconds < math.inf

    @property
    def closing(self) -> float:
        """Seconds for what comes after the last finalist: of a small budget a twelfth."""
        return min(CLOSING, self.seconds / 12)

    def gone(self) -> float:
        """Seconds since the search began, without pauses between sessions."""
        return self.before + now() - self.start

    def left(self) -> float:
        """Seconds that are left for the search, 0 or more."""
        if not self.timed:
            return math.inf
        return max(0.0, self.seconds - self.closing - self.kept - self.gone())

    def moment(self, share: float) -> float:
        """When, in seconds that are gone, a share of what is left now will be over."""
        return self.gone() + share * self.left()


@dataclass
class Pace:
    """What the finalists of a search take, as measured, and how many still fit.

    They are trained in groups of as many as run side by side.

    Attributes:
        workers: finalists of a group.
        epochs: of the training of a finalist.
        group: seconds of the slowest of the last groups; estimated before there is one.
        turn: seconds to choose what to train next.
    """

    workers: int
    epochs: int
    group: float
    turn: float = 0.0
    _groups: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, task: Task, recipe: Recipe, workers: int, step: float) -> Pace:
        """What a group will take if its steps are as fast as those of the supernet."""
        return cls(workers, recipe.epochs, 1.1 * recipe.steps(batch_count(task)) * step)

    def fits(self, left: float) -> bool:
        """Whether there is time to choose a group and train it for an epoch."""
        return left > 0 and left >= self.turn + self.group / self.epochs

    def finalists(self, left: float) -> int:
        """How many can be trained for all epochs, those of one group at least."""
        return self.workers * max(1, int(left / max(self.group + self.turn, 1e-9)))

    def batch(self, left: float) -> int:
        """How many to train before the next are chosen: a sixth of all that fit."""
        return self.workers * max(1, math.ceil(self.finalists(left) / self.workers / 6))

    def shortened(self, left: float) -> int:
        """The epochs that a group has time for, one at least."""
        return max(1, min(self.epochs, int(self.epochs * left / max(self.group, 1e-9))))

    def see(self, seconds: float, epochs: Sequence[int]) -> None:
        """Learn from a batch, of which each finalist was trained for so many epochs."""
        done = [0] * self.workers  # each takes the next finalist when it is free
        for each in epochs:
            done[done.index(min(done))] += each
        self._groups = [*self._groups[-2:], seconds * self.epochs / max(done)]
        self.group = max(self._groups)
