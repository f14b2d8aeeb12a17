"""What a comparison on a space of networks measures: an evaluation trains the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from paretonas.data import Data
from paretonas.gradient_search.finalists import train_finalists
from paretonas.names import OBJECTIVES, any_space_of
from paretonas.nn import NetworkSpace, Supernet
from paretonas.objectives.base import Objective
from paretonas.point import EvaluationError, Failure
from paretonas.problem import Problem
from paretonas.space import Architecture


def problem_of(value: object) -> Problem:
    """A problem as it is; of a space, or of the name of one, with the objectives that it knows.

    Raises:
        ValueError: a name that means nothing, or a space that knows no objectives.
        TypeError: something else was given.
    """
    if isinstance(value, Problem):
        return value
    space = any_space_of(value)
    if getattr(space, "objectives", None) is None and isinstance(space, NetworkSpace):
        return Problem(space, trained_objectives(space))
    return Problem(space)


def trained_objectives(
    space: NetworkSpace, names: Sequence[str] = ("latency", "memory")
) -> tuple[Objective, ...]:
    """The validation error after training by the space's recipe, and others by their names.

    The table of latencies is measured here, once, so that all methods see the same ones. It is
    found again when a comparison goes on.

    Args:
        space: of networks.
        names: of `paretonas.names.OBJECTIVES`.
    """
    supernet, example = space.supernet(), space.data().example
    others = (OBJECTIVES[name].build(supernet, example, "cpu", 1) for name in names)
    return TrainedError(space), *others


class TrainedError:
    """The validation error in percent of an architecture trained from fresh weights, seed 0.

    An architecture has one error, whichever method asks and however often.

    Args:
        space: its data and its recipe.
    """

    column = "error_percent"

    def __init__(self, space: NetworkSpace) -> None:
        self._space = space

    def exact(self, architecture: Mapping[str, str]) -> float:
        """Train it; a matter of seconds or of hours.

        Raises:
            EvaluationError: the training failed; the message says how.
        """
        (trained,) = train_finalists(
            self._supernet,
            self._data,
            self._space.recipe,
            [Architecture(architecture)],
            seed=0,
            workers=1,
        )
        if isinstance(trained, Failure):
            raise EvaluationError(trained.reason)
        return trained.valid.error_percent

    @cached_property
    def _supernet(self) -> Supernet:
        return self._space.supernet()

    @cached_property
    def _data(self) -> Data:
        return self._space.data()

    def __reduce__(self) -> tuple[type[TrainedError], tuple[NetworkSpace]]:
        return TrainedError, (self._space,)  # the other process loads its own data
