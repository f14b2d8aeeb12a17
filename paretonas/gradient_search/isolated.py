"""Finalists in processes of their own: one that dies, or takes too long, costs that one only."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .._processes import Crew, Line
from ..evaluation import Evaluation
from ..finalists import EarlyStopping
from ..nn import Supernet
from ..objectives import TrainedMetric
from ..point import Lost, Outcome
from ..space import Architecture
from ..training import Recipe
from .setup import Setup

Evaluate = Callable[[Sequence[Architecture]], Iterator[Outcome]]
Found = tuple[Outcome, float, Mapping[str, Tensor] | None]  # with its seconds and weights


@contextmanager
def evaluating(setup: Setup) -> Iterator[Evaluate]:
    """What evaluates finalists: this process, or several others if the settings ask for them.

    The outcomes are the same, apart from what is measured, and come in the same order. If a process
    dies, its finalist is given to another one, once. Only then it is `Lost`, and so is at once what
    takes longer than the limit. Several are trained at the same time; while one is measured, none
    is trained.
    """
    settings = setup.settings
    if settings.processes is None:
        yield setup.evaluation
        return
    with Crew[_Trial](_work(setup), settings.processes, settings.evaluation_timeout) as crew:

        def evaluate(architectures: Sequence[Architecture]) -> Iterator[Outcome]:
            trained = setup.trained
            trials = [_Trial(a, trained.recipe, trained.stopping) for a in architectures]
            found: dict[Architecture, Found] = {}
            left = list(reversed(architectures))
            for trial, came in crew.results(trials):
                found[trial.architecture] = came
                while left and left[-1] in found:  # points get their names in this order
                    outcome, seconds, weights = found.pop(left.pop())
                    network = None if weights is None else _Sent(weights)
                    yield setup.evaluation.settle(outcome, seconds, network)

        yield evaluate


def check_sendable(setup: Setup) -> None:
    """Refuse what another process cannot get, before anything is trained.

    Raises:
        ValueError: the space or an objective cannot be pickled.
    """
    if setup.settings.processes is None:
        return
    try:
        pickle.dumps(_work(setup))
    except Exception as error:  # whatever a part raises when it is pickled
        raise ValueError(
            "workers get the space and the objectives by pickle, and these cannot be pickled: "
            f"{error}; define their functions and classes at the top of a file"
        ) from error


def _work(setup: Setup) -> _Work:
    return _Work(setup.evaluation, setup.trained, setup.supernet)


@dataclass(frozen=True)
class _Work:
    """Evaluates finalists in another process."""

    evaluation: Evaluation
    trained: TrainedMetric
    supernet: Supernet  # with its weights, from which finalists may go on

    def __call__(
        self, message: tuple[Architecture, Recipe, EarlyStopping | None], line: Line
    ) -> Found:
        architecture, recipe, stopping = message
        self.trained.train_in(self.supernet)
        self.trained.recipe, self.trained.stopping = recipe, stopping
        waited = 0.0

        def quiet() -> None:
            nonlocal waited
            begun = time.perf_counter()
            line.alone()
            waited += time.perf_counter() - begun

        begun = time.perf_counter()
        line.begin(architecture)
        outcome, network = self.evaluation.apart(architecture, quiet)
        seconds = time.perf_counter() - begun - waited
        weights = None
        if network is not None:
            weights = {name: value.cpu() for name, value in network.state_dict().items()}
        return outcome, seconds, weights


@dataclass(eq=False)
class _Trial:
    """A finalist in another process, as this one sees it."""

    architecture: Architecture
    recipe: Recipe
    stopping: EarlyStopping | None
    died: bool = False

    def message(self) -> tuple[Architecture, Recipe, EarlyStopping | None]:
        return self.architecture, self.recipe, self.stopping

    def begins(self, what: object) -> None:
        pass

    def ended(self, found: object) -> None:
        pass

    def lost(self, why: str, seconds: float, *, late: bool) -> Found | None:
        if not late and not self.died:
            self.died = True
            return None
        failure = Lost(self.architecture, why if late else f"{why}, twice")
        return failure, seconds, None


class _Sent(nn.Module):
    """The weights of a network that stayed in its process."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._weights = weights

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        return {**self._weights}
