"""The arguments of a search: each name or text becomes the object that it stands for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from .._duration import time_limit
from .._threads import cores
from .._whole import whole
from ..constraint import Constraint
from ..devices import find_backend, find_device
from ..finalists import train_finalists
from ..metric import RESERVED
from ..names import solver_of, space_of
from ..nn import NetworkSpace
from ..objectives.base import maximizes
from ..objectives.default import BESIDE_THE_METRIC
from ..objectives.trained_metric import Trainer
from ..runs import ABOUT, Run
from ..solvers import SmoothTchebycheff, Solver
from ..tasks.task import metrics_of
from ..training import FineTuning, Recipe
from .clock import Clock
from .halving import SuccessiveHalving
from .objectives import Wanted, column_of, is_only_measured, wanted_of
from .paths import Paths
from .plan import Budget, Plan, budget_of
from .target import Target

RAYS = 28
FRESH = "fresh"
DEFAULT = FineTuning()
NEVER = "none"


@dataclass(frozen=True)
class Settings:
    """The arguments of `paretonas.search`, each as the object that it stands for.

    Attributes:
        objectives: beside the metrics; those that are names are measured first.
        tuning: how finalists go on from the weights of the supernet; None: their weights are fresh.
        early_stopping: which finalists are not trained to their end; None: all are.
        paths: which paths an update of the supernet's weights trains.
        constraint: limits, that of the target as well.
        target: the cost at which the best metric is wanted, if there is one.
        backend: what runs networks whose latency is measured.
        asked_backend: whether it was named; if not, another may be taken where it cannot run.
        clock: the time since the search began.
        processes: how many evaluate finalists; None: this one does.
        evaluation_timeout: seconds in which each must be evaluated, if there are such processes.
    """

    space: NetworkSpace
    objectives: Sequence[Wanted]
    solver: Solver
    constraint: Constraint
    budget: Budget | Plan
    seed: int
    device: torch.device
    threads: int
    backend: str
    asked_backend: bool
    rays: int
    tuning: FineTuning | None
    early_stopping: SuccessiveHalving | None
    paths: Paths
    run: Run | None
    trainer: Trainer
    clock: Clock
    target: Target | None = None
    processes: int | None = None
    evaluation_timeout: float | None = None

    @classmethod
    def of(
        cls,
        space: object,
        *,
        objectives: object = None,
        solver: object = None,
        constraint: Constraint | str | None = None,
        target: Target | str | None = None,
        budget: object = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        threads: int = 1,
        backend: str | None = None,
        rays: int = RAYS,
        finalists: FineTuning | str | None = None,
        early_stopping: SuccessiveHalving | str | None = None,
        paths: Paths | str | None = None,
        run: Run | str | os.PathLike[str] | None = None,
        trainer: Trainer = train_finalists,
        workers: int | None = None,
        evaluation_timeout: float | str | None = None,
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
        own, there = trainer is not train_finalists, _there(run)
        tuning = _tuning(finalists, own=own, run=there)
        halving = _halving(early_stopping, own=own, run=there)
        seed, threads = whole("seed", seed, 0), whole("threads", threads, 1)
        rays = whole("rays", rays, 1)
        limit = time_limit(evaluation_timeout)
        workers = None if workers is None else whole("workers", workers, 1)
        space, place = space_of(space), find_device(device)
        metrics = metrics_of(space.load_task())
        runner = _backend(backend, place, threads, run=there)
        found = (
            BESIDE_THE_METRIC
            if objectives is None
            else wanted_of(
                objectives, space, place, threads, backend, there.folder if there else None
            )
        )
        columns = [metric.column for metric in metrics] + [*map(column_of, found)]
        upward = [metric.column for metric in metrics if metric.maximize]
        upward += [column_of(one) for one in found if maximizes(one)]
        for choice in space.choices:
            if choice.name in columns or choice.name in RESERVED:
                raise ValueError(
                    f"{choice.name!r} is both a choice of the network and a column of its files; "
                    "rename one of them"
                )
        limits = Constraint({})
        if constraint is not None:
            limits = Constraint.of(constraint, columns, upward)
        measured = [column_of(one) for one in found if is_only_measured(one)]
        aim = Target.of(target, columns, columns[: len(metrics)], measured)
        if aim is not None:
            limits = aim.within(limits)
        wanted = Budget() if budget is None else budget_of(budget)
        if isinstance(wanted, Plan) and tuning not in (None, FineTuning()):
            raise ValueError(
                f"a Plan has the recipe of the finalists: give {tuning!r}.of(recipe) to the plan, "
                "and finalists='inherit'"
            )
        if halving is not None and space.recipe.fit is not None:
            raise ValueError("a recipe with fit trains in one go, so no training can be stopped")
        if isinstance(wanted, Budget) and wanted.seconds is not None:
            clock.seconds = wanted.seconds
        return cls(
            space,
            objectives=found,
            solver=SmoothTchebycheff() if solver is None else solver_of(solver),
            constraint=limits,
            target=aim,
            budget=wanted,
            seed=seed,
            device=place,
            threads=threads,
            backend=runner,
            asked_backend=backend is not None or _begun(there),
            rays=rays,
            tuning=tuning,
            early_stopping=halving,
            paths=_paths(paths, run=there),
            run=_run(run, place, seed, threads),  # the last, so that nothing refused makes a folder
            trainer=partial(train_finalists, inherit=True) if tuning else trainer,
            clock=clock,
            processes=_at_once(place) if limit is not None and workers is None else workers,
            evaluation_timeout=limit,
        )

    @property
    def recipe(self) -> Recipe:
        """How finalists are trained if the budget allows it."""
        return self.tuning.of(self.space.recipe) if self.tuning else self.space.recipe

    @property
    def finalists(self) -> str:
        """How finalists are trained, as text."""
        return str(self.tuning) if self.tuning else FRESH

    def recipe_for(self, planned: Recipe) -> Recipe:
        """What was asked for: the recipe of a plan of the user's own, or else `recipe`."""
        return planned if isinstance(self.budget, Plan) else self.recipe

    @property
    def workers(self) -> int:
        """How many finalists are trained at once."""
        return _at_once(self.device)


def _at_once(device: torch.device) -> int:
    return cores() if device.type == "cpu" else 1


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


def _tuning(asked: object, *, own: bool, run: Run | None) -> FineTuning | None:
    """How finalists inherit weights: as asked for, or as the run was begun, or by default.

    Returns:
        None: their weights are fresh.

    Raises:
        ValueError: an unknown word, or what was asked for is not possible.
        TypeError: something else than a word or a `FineTuning`.
    """
    tuning = None if asked is None else _understood(asked)
    if own and isinstance(tuning, FineTuning):
        raise ValueError("finalists cannot inherit weights if a trainer of your own trains them")
    begun = None
    if run is not None and run.begun:
        begun = _understood(run.about.get("finalists", FRESH))  # runs of older versions all were
    if tuning is not None and begun is not None and tuning != begun:
        raise ValueError(
            f"the finalists of {run} were begun as {str(begun)!r}, got {str(tuning)!r}"
        )
    found = FRESH if own else tuning or begun or DEFAULT
    return found if isinstance(found, FineTuning) else None


def _understood(finalists: object) -> FineTuning | str:
    if isinstance(finalists, FineTuning) or finalists == FRESH:
        return finalists
    if not isinstance(finalists, str):
        raise TypeError(f"finalists must be a text or a FineTuning, got {finalists!r}")
    try:
        return FineTuning.parse(finalists)
    except ValueError as error:
        what = f"finalists must be {FRESH}, inherit, or inherit:SHARE:RATE such as inherit:0.4"
        raise ValueError(f"{what}, got {finalists!r} ({error})") from error


def _begun(run: Run | None) -> bool:
    return run is not None and run.begun


def _backend(asked: str | None, device: torch.device, threads: int, *, run: Run | None) -> str:
    """What runs networks: as asked for, or as the run was begun, or what is there.

    Raises:
        ValueError: an unknown name, or another backend than the run was begun with.
        ModuleNotFoundError: its package is missing.
    """
    begun = run.about.get("backend", "torch") if run is not None and run.begun else None
    if begun is not None and asked not in (None, begun):
        raise ValueError(f"the latencies of {run} are those of {begun!r}, got {asked!r}")
    return find_backend(begun if asked is None else asked, device, threads).name


def _paths(asked: object, *, run: Run | None) -> Paths:
    """The paths of an update: as asked for, or as the run was begun.

    Raises:
        ValueError: an unknown word, or other paths than the run was begun with.
        TypeError: something else than a word or `Paths`.
    """
    begun = run.about.get("paths", str(Paths())) if run is not None and run.begun else None
    if asked is None:
        asked = begun or Paths()
    if not isinstance(asked, str | Paths):
        raise TypeError(f"paths must be a text or Paths, got {asked!r}")
    found = Paths.parse(asked) if isinstance(asked, str) else asked
    if begun is not None and str(found) != begun:
        raise ValueError(f"the paths of {run} were begun as {begun!r}, got {str(found)!r}")
    return found


def _halving(asked: object, *, own: bool, run: Run | None) -> SuccessiveHalving | None:
    """Which finalists are stopped early: as asked for, or as the run was begun; None: none.

    Raises:
        ValueError: an unknown word, or what was asked for is not possible.
        TypeError: something else than a word or a `SuccessiveHalving`.
    """
    begun = run.about.get("early_stopping", NEVER) if run is not None and run.begun else None
    if asked is None:
        asked = NEVER if own else begun or NEVER
    if not isinstance(asked, str | SuccessiveHalving):
        raise TypeError(f"early_stopping must be a text or a SuccessiveHalving, got {asked!r}")
    found = SuccessiveHalving.parse(asked) if isinstance(asked, str) and asked != NEVER else asked
    if begun is not None and str(found) != begun:
        raise ValueError(f"early_stopping of {run} was begun as {begun!r}, got {str(found)!r}")
    if isinstance(found, SuccessiveHalving):
        if own:
            raise ValueError("trainings of a trainer of your own cannot be stopped early")
        return found
    return None
