"""The error of a trained network: the objective that costs a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..data import Data
from ..finalists import Finalist, train_finalists, with_finite_loss
from ..nn import NetworkSpace, Supernet
from ..point import FAILING, Cell, EvaluationError, Failure
from ..space import Architecture
from ..training import Recipe
from .base import DifferentiableObjective

Trainer = Callable[..., Sequence[Finalist | Failure]]
"""Trains several architectures, as `paretonas.finalists.train_finalists` does."""


class TrainedError:
    """The validation error in percent of an architecture that is trained from fresh weights.

    With the same settings an architecture always has the same error, for every method.

    Args:
        space: the networks, the data and the recipe.
        recipe: how an architecture is trained; by default the recipe of the space.
        seed: the seed of the initial weights and of the order of the examples.
        workers: the number of architectures that are trained at once.
        trainer: a function that trains and evaluates architectures.
        reported: objectives that a point also reports, such as `Parameters`.
        supernet: builds the fresh networks; by default a supernet of the space.
        data: the data of the training; by default the data of the space.

    Attributes:
        column: what tables call it.
    """

    column = "error_percent"

    def __init__(
        self,
        space: NetworkSpace,
        *,
        recipe: Recipe | None = None,
        seed: int = 0,
        workers: int = 1,
        trainer: Trainer = train_finalists,
        reported: Sequence[DifferentiableObjective] = (),
        supernet: Supernet | None = None,
        data: Data | None = None,
    ) -> None:
        self.space, self.recipe = space, recipe or space.recipe
        self._seed, self._workers, self._trainer = seed, workers, trainer
        self._reported, self._supernet, self._data = tuple(reported), supernet, data

    def __repr__(self) -> str:
        return f"TrainedError({self.space.name!r}, {self.recipe})"

    def exact(self, architecture: Mapping[str, str]) -> float:
        """Train one architecture; this takes seconds or hours.

        Raises:
            EvaluationError: the training failed; the message says why.
        """
        (trained,) = self.train_networks([Architecture(architecture)])
        if isinstance(trained, Failure):
            raise EvaluationError(trained.reason)
        return self.measure_network(trained)[0]

    def steps(self) -> int:
        """The weight steps of one training; loads the data."""
        return self.recipe.steps(len(self._examples().train))

    def train_networks(self, architectures: Sequence[Architecture]) -> Sequence[Finalist | Failure]:
        """Train several architectures; one that fails does not stop the others."""
        if not architectures:
            return []
        try:
            trained = self._trainer(
                self._networks(),
                self._examples(),
                self.recipe,
                architectures,
                seed=self._seed,
                workers=self._workers,
            )
        except FAILING as error:  # the trainer raised because of one of them
            if len(architectures) == 1:
                return [Failure.of(architectures[0], error)]
            return [found for each in architectures for found in self.train_networks([each])]
        if not isinstance(trained, Sequence) or len(trained) != len(architectures):
            found = len(trained) if isinstance(trained, Sequence) else repr(trained)
            raise TypeError(
                f"the trainer must return a finalist or a failure for each of {len(architectures)} "
                f"architectures, got {found}"
            )
        return [with_finite_loss(each) for each in trained]

    def measure_network(self, finalist: Finalist) -> tuple[float, dict[str, Cell]]:
        """The error of a trained network, and the reported values."""
        reported: dict[str, Cell] = {"test_error_percent": finalist.test.error_percent}
        for objective in self._reported:
            reported[objective.column] = _plain(objective.exact(finalist.architecture))
        return finalist.valid.error_percent, reported

    def _networks(self) -> Supernet:
        if self._supernet is None:
            self._supernet = self.space.supernet()
        return self._supernet

    def _examples(self) -> Data:
        if self._data is None:
            self._data = self.space.data()
        return self._data

    def __getstate__(self) -> dict[str, object]:
        # Another process builds its own supernet and loads its own data.
        return {**self.__dict__, "_supernet": None, "_data": None}


def _plain(cost: float) -> int | float:
    """A whole number as such: a count is written without a point."""
    return int(cost) if cost == int(cost) else cost
