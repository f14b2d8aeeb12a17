"""The arguments of a search: each name or text becomes the object that it stands for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from .._threads import cores
from .._whole import whole
from ..constraint import Constraint
from ..devices import find_device
from ..finalists import train_finalists
from ..metric import RESERVED
from ..names import solver_of, space_of
from ..nn import NetworkSpace
from ..objectives.default import BESIDE_THE_METRIC
from ..objectives.trained_metric import Trainer
from ..runs import ABOUT, Run
from ..solvers import SmoothTchebycheff, Solver
from ..tasks.task import metrics_of
from ..training import FineTuning, Recipe
from .clock import Clock
from .objectives import Wanted, column_of, wanted_of
from .plan import Budget, Plan, budget_of

RAYS = 28
FINALISTS = ("fresh", "inherit")
DEFAULT = "inherit"


@dataclass(frozen=True)
class Settings:
    """The arguments of `paretonas.search`, each as the object that it stands for.

    Attributes:
        objectives: beside the metrics; those that are names are measured first.
        inherit: whether finalists go on from the weights of the supernet.
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
    inherit: bool
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
        finalists: str | None = None,
        run: Run | str | os.PathLike[str] | None = None,
        trainer: Trainer = train_finalists,
    ) -> Settings:
        """Understand the arguments of a search.

        Raises:
            ValueError: a name or a text that means nothing.
            TypeError: an argument of another kind.
        """
        clock = Clock()  # before the data is loaded
        if run is not None and not isinstance(run, Run | str | os.PathLike):
            raise TypeError(
                f"run must be a folder, or what Run.create or Run.open gives, got {run!r}"
            )
        if not callable(trainer):
            raise TypeError(f"trainer must be a function such as train_finalists, got {trainer!r}")
        inherit = _inherit(finalists, own=trainer is not train_finalists, run=_there(run))
        seed, threads = whole("seed", seed, 0), whole("threads", threads, 1)
        rays = whole("rays", rays, 1)
        space, place = space_of(space), find_device(device)
        metrics = metrics_of(space.load_task())
        found = BESIDE_THE_METRIC if objectives is None else wanted_of(objectives, space)
        columns = [metric.column for metric in metrics] + [*map(column_of, found)]
        upward = [metric.column for metric in metrics if metric.maximize]
        for choice in space.choices:
            if choice.name in columns or choice.name in RESERVED:
                raise ValueError(
                    f"{choice.name!r} is both a choice of the network and a column of its files; "
                    "rename one of them"
                )
        wanted = Budget() if budget is None else budget_of(budget)
        if isinstance(wanted, Budget) and wanted.seconds is not None:
            clock.seconds = wanted.seconds
        return cls(
            space,
            objectives=found,
            solver=SmoothTchebycheff() if solver is None else solver_of(solver),
            constraint=Constraint({})
            if constraint is None
            else Constraint.of(constraint, columns, upward),
            budget=wanted,
            seed=seed,
            device=place,
            threads=threads,
            rays=rays,
            inherit=inherit,
            run=_run(run, place, seed, threads),  # the last, so that nothing refused makes a folder
            trainer=partial(train_finalists, inherit=True) if inherit else trainer,
            clock=clock,
        )

    @property
    def recipe(self) -> Recipe:
        """How finalists are trained if the budget allows it."""
        return FineTuning().of(self.space.recipe) if self.inherit else self.space.recipe

    def recipe_for(self, planned: Recipe) -> Recipe:
        """What was asked for: the recipe of a plan of the user's own, or else `recipe`."""
        return planned if isinstance(self.budget, Plan) else self.recipe

    @property
    def workers(self) -> int:
        """How many finalists are trained at once."""
        return cores() if self.device.type == "cpu" else 1


def _run(
    run: Run | str | os.PathLike[str] | None, device: torch.device, seed: int, threads: int
) -> Run | None:
    """The run of a folder, which is begun if it is not there."""
    there = _there(run)
    if run is None or isinstance(run, Run) or there is not None:
        return there
    return Run.create(run, {"threads": threads}, device=str(device), seed=seed)


def _there(run: Run | str | os.PathLike[str] | None) -> Run | None:
    """The run of a folder, if it is there."""
    if run is None or isinstance(run, Run):
        return run
    return Run.open(run) if (Path(run) / ABOUT).exists() else None


def _inherit(finalists: str | None, *, own: bool, run: Run | None) -> bool:
    """Whether finalists inherit weights: as asked for, or as the run was begun, or by default.

    Raises:
        ValueError: an unknown word, or what was asked for is not possible.
    """
    if finalists not in (None, *FINALISTS):
        raise ValueError(f"finalists must be {' or '.join(FINALISTS)}, got {finalists!r}")
    if own and finalists == "inherit":
        raise ValueError("finalists cannot inherit weights if a trainer of your own trains them")
    begun = None
    if run is not None and run.begun:
        begun = run.about.get("finalists", "fresh")  # which runs of older versions all were
    if finalists is not None and begun is not None and finalists != begun:
        raise ValueError(f"the finalists of {run} were begun as {begun!r}, got {finalists!r}")
    return not own and (finalists or begun or DEFAULT) == "inherit"
