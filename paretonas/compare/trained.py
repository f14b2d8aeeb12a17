"""Spaces of networks to compare on: an evaluation trains the architecture and finds its costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from paretonas.cell import Structure
from paretonas.data import Data
from paretonas.gradient_search.finalists import train_finalists
from paretonas.nn import NetworkSpace, Supernet
from paretonas.objectives import Latency, Memory
from paretonas.objectives.base import Exact
from paretonas.space import Architecture, Choice


@dataclass(frozen=True)
class TrainedSpace:
    """A space of networks whose objectives are found by training and measuring.

    Attributes:
        name: of the space.
        choices: of its networks.
        objectives: the validation error after training by the space's recipe, latency by table, and
            memory.
        structure: how the choices are wired, if the space knows.
    """

    name: str
    choices: tuple[Choice, ...]
    objectives: tuple[Exact, ...]
    structure: Structure | None = None

    @classmethod
    def of(cls, space: NetworkSpace) -> TrainedSpace:
        """Measure the table of latencies, once, so that all methods see the same ones.

        The same table is found again when a comparison goes on.
        """
        supernet, example = space.supernet(), space.data().example
        objectives = (
            TrainedError(space),
            Latency.profile(supernet, example),
            Memory.of(supernet, example),
        )
        return cls(space.name, supernet.choices, objectives, space.structure)


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
            FloatingPointError: the loss became NaN or infinite.
        """
        (trained,) = train_finalists(
            self._supernet,
            self._data,
            self._space.recipe,
            [Architecture(architecture)],
            seed=0,
            workers=1,
        )
        return trained.valid.error_percent

    @cached_property
    def _supernet(self) -> Supernet:
        return self._space.supernet()

    @cached_property
    def _data(self) -> Data:
        return self._space.data()

    def __reduce__(self) -> tuple[type[TrainedError], tuple[NetworkSpace]]:
        return TrainedError, (self._space,)  # the other process loads its own data
