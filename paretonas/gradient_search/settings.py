"""The arguments of a search: each name or text becomes the object that it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .._threads import cores
from .._whole import whole
from ..constraint import Constraint
from ..devices import find_device
from ..finalists import train_finalists
from ..names import solver_of, space_of
from ..nn import NetworkSpace
from ..objectives.default import BESIDE_THE_ERROR
from ..objectives.trained_metric import Trainer
from ..runs import Run
from ..solvers import SmoothTchebycheff, Solver
from ..tasks.task import metrics_of
from .clock import Clock
from .objectives import Wanted, column_of, wanted_of
from .plan import Budget, Plan, budget_of

RAYS = 28


@dataclass(frozen=True)
class Settings:
    """The arguments of `paretonas.search`, each as the object that it stands for.

    Attributes:
        objectives: beside the metrics; those that are names are measured first.
        clock: the time since the search began.
    """

    space: NetworkSpace
    objectives: Sequence[Wanted]
    solver: Solver
    constraint: Constraint
    budget: Budget | Plan
    seed: int
    device: torch.device
    threads: int
    rays: int
    run: Run | None
    trainer: Trainer
    clock: Clock

    @classmethod
    def of(
        cls,
        space: object,
        *,
        objectives: object = None,
        solver: object = None,
        constraint: Constraint | str | None = None,
        budget: object = None,
        seed: int = 0,
        device: str = "cpu",
        threads: int = 1,
        rays: int = RAYS,
        run: object = None,
        trainer: Trainer = train_finalists,
    ) -> Settings:
        """Understand the arguments of a search.

        Raises:
            ValueError: a name or a text that means nothing.
            TypeError: an argument of another kind.
        """
        clock = Clock()  # before the data is loaded
        if run is not None and not isinstance(run, Run):
            raise TypeError(f"run must be what Run.create or Run.open gives, got {run!r}")
        if not callable(trainer):
            raise TypeError(f"trainer must be a function such as train_finalists, got {trainer!r}")
        seed, threads = whole("seed", seed, 0), whole("threads", threads, 1)
        rays = whole("rays", rays, 1)
        space, place = space_of(space), find_device(device)
        columns = [metric.column for metric in metrics_of(space.load_task())]
        found = BESIDE_THE_ERROR if objectives is None else wanted_of(objectives, space)
        columns += map(column_of, found)
        wanted = Budget() if budget is None else budget_of(budget)
        if isinstance(wanted, Budget) and wanted.seconds is not None:
            clock.seconds = wanted.seconds
        return cls(
            space,
            objectives=found,
            solver=SmoothTchebycheff() if solver is None else solver_of(solver),
            constraint=Constraint({}) if constraint is None else Constraint.of(constraint, columns),
            budget=wanted,
            seed=seed,
            device=place,
            threads=threads,
            rays=rays,
            run=run,
            trainer=trainer,
            clock=clock,
        )

    @property
    def workers(self) -> int:
        """How many finalists are trained at once."""
        return cores() if self.device.type == "cpu" else 1
