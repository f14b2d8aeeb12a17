"""Finalists from inherited or from fresh weights: which search ends with the better front?

    python experiments/search/inherited_finalists.py
    python experiments/search/inherited_finalists.py --quick
    python experiments/search/inherited_finalists.py --show

All searches of a seed share the supernet and the proxy evaluations, which get 30 % of the steps.
The rest pays for finalists that are trained

- from fresh weights, by the whole recipe or by a part of it;
- from inherited weights, by a share of the recipe's epochs and at a multiple of its learning rate.
  Then batch norms are recalibrated; this is billed as well, three forward passes as one step. A
  share of 0 only recalibrates, and a share of .2 is one epoch;
- in both ways with early stopping by successive halving; or with linear scalarization as the solver
  of alpha, in the place of smooth Tchebycheff.

Shorter trainings allow more finalists. Of the trainings that were stopped, `wrongly` counts those
whose whole training, which nobody pays, would have brought them onto the final front. Random search
has no supernet and trains by the whole recipe with fresh weights for all the steps. The objectives
are the error on the validation split and the number of parameters, so no timing enters.

Each row of `inherited_finalists.csv` is a point on a front that a search returned. The hypervolume
of a front is computed twice: by the validation errors, for which it was chosen, and by the test
errors of the same points. The axes are the error and the logarithm of the number of parameters; for
each space all methods have the same reference point. A run that was stopped goes on: rows that the
file has are not computed again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import pandas as pd
import torch

from paretonas.finalists import Finalist, train_finalists
from paretonas.front import Front
from paretonas.gradient_search.plan import Plan
from paretonas.gradient_search.search import search
from paretonas.names import find_space
from paretonas.nn import NetworkSpace, Supernet
from paretonas.objectives import Parameters, TrainedMetric
from paretonas.point import Point, Stopped
from paretonas.problem import Problem
from paretonas.runs import Run
from paretonas.samplers import Random, sample
from paretonas.space import Architecture, size
from paretonas.tasks import Task
from paretonas.tasks.passes import batch_count
from paretonas.tasks.task import sized
from paretonas.training import FineTuning, Recipe, evaluate, recalibrate
from paretonas.training.fine_tuning import BATCHES

HERE = Path(__file__).parent
RECALIBRATION = -(-BATCHES // 3)  # in steps: a step is a forward pass and a backward pass of twice
MOST = 96  # finalists, where they cost next to nothing
KEYS = ["space", "steps", "seed", "method"]


@dataclass(frozen=True)
class Way:
    """A way to train finalists.

    Attributes:
        name: of the method in the table.
        share: of the recipe's epochs; 0 only recalibrates.
        rate: a factor of the learning rate.
        inherit: whether the weights are those of the supernet.
        early_stopping: of finalists.
        solver: of alpha; None: the default.
    """

    name: str
    share: float
    rate: float = 1.0
    inherit: bool = True
    early_stopping: str = "none"
    solver: str | None = None


FRESH = Way("fresh", 1.0, inherit=False)
SHORT = Way("fresh .4", 0.4, inherit=False)
NEVER = Way("inherit 0", 0.0)
ONE, TWO, FOUR, ALL = (
    {rate: Way(f"inherit {share:g} at {rate:g}", share, rate) for rate in (0.3, 1.0)}
    for share in (0.2, 0.4, 0.7, 1.0)  # one, two, four and all of the five or six epochs
)
HALVING, SHORT_HALVING = (
    replace(way, name=f"{way.name}, halving", early_stopping="halving")
    for way in (ALL[1.0], TWO[1.0])
)
LINEAR = replace(ALL[1.0], name="linear scalarization", solver="LinearScalarization")
MAIN = (ALL[1.0], TWO[1.0], FRESH, HALVING)
MORE = (*MAIN, SHORT_HALVING, LINEAR, ONE[1.0])
MANY = (*MORE, FOUR[1.0], TWO[0.3], NEVER, ONE[0.3], ALL[0.3], SHORT)


@dataclass(frozen=True)
class Job:
    """Searches of a space with a budget."""

    space: str
    steps: int
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Settings:
    """What is compared.

    Attributes:
        jobs: spaces, budgets and ways to train.
        seeds: how many.
        csv: the file of the points.
    """

    jobs: tuple[Job, ...] = (
        Job("signals", 4500, MANY),
        Job("search_spaces.digits:small", 4500, MORE),
        Job("digits", 4500, MORE),
        Job("signals", 2250, MAIN),
        Job("search_spaces.digits:small", 2250, MAIN),
        Job("digits", 2250, MAIN),
    )
    seeds: int = 3
    csv: Path = HERE / "inherited_finalists.csv"


QUICK = Settings(
    jobs=(Job("signals", 900, (FRESH, HALVING, LINEAR, NEVER)),),
    seeds=1,
    csv=Path(tempfile.gettempdir()) / "inherited_finalists.csv",
)


def main(arguments: Sequence[str] | None = None, settings: Settings | None = None) -> None:
    """Run all searches that the table lacks, and show the hypervolumes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="One small search of each kind.")
    parser.add_argument("--show", action="store_true", help="Only show what the table holds.")
    options = parser.parse_args(arguments)
    settings = settings or (QUICK if options.quick else Settings())
    torch.set_num_threads(1)
    if not options.show:
        for seed in range(settings.seeds):
            for job in settings.jobs:
                run(job, seed, settings.csv)
    print(summary(pd.read_csv(settings.csv)).to_string())


def run(job: Job, seed: int, csv: Path) -> None:
    """One seed of a job; each method is written down as soon as it has finished."""
    known = pd.read_csv(csv) if csv.exists() else pd.DataFrame(columns=KEYS)
    about = {"space": job.space, "steps": job.steps, "seed": seed}
    same = known[(known[[*about]] == pd.Series(about)).all(axis=1)]
    ways = [way for way in job.ways if way.name not in set(same["method"])]

    def write(method: str, end: End) -> None:
        rows = [
            {
                **about,
                "method": method,
                "finalists": end.finalists,
                "cpu_seconds": round(end.seconds, 2),
                "error_percent": point.objectives["error_percent"],
                "test_error_percent": point.reported["test_error_percent"],
                "parameters": point.objectives["parameters"],
                "stopped": end.stopped,
                "wrongly": end.wrongly,
            }
            for point in end.front
        ]
        pd.DataFrame(rows).to_csv(csv, mode="a", header=not csv.exists(), index=False)
        print(f"{about} {method}: {end}", flush=True)

    space = find_space(job.space)
    assert isinstance(space, NetworkSpace)
    with tempfile.TemporaryDirectory() as folder:
        for solver in dict.fromkeys(way.solver for way in ways):
            begun = scored(space, job.steps, seed, solver, Path(folder) / f"begun-{solver}")
            for number, way in enumerate(ways):
                if way.solver == solver:
                    copy = Path(folder) / str(number)
                    shutil.copytree(begun, copy)
                    write(way.name, finished(space, job.steps, seed, way, copy))
    if "random" not in set(same["method"]):
        write("random", random_search(space, job.steps, seed))


def plan_for(space: NetworkSpace, steps: int, way: Way) -> Plan:
    """The plan of a search; the supernet gets the same steps whatever the way."""
    batches = batch_count(sized(space.load_task(), space.recipe.batch_size))
    recipe = FineTuning(way.share, way.rate).of(space.recipe) if way.share else space.recipe
    plan = Plan.of(steps, recipe, batches, size(space.choices))
    each = (plan.recipe.steps(batches) if way.share else 0) + (RECALIBRATION if way.inherit else 0)
    count = min((steps - plan.supernet_steps) // each, size(space.choices), MOST)
    return replace(plan, finalists=count)


class Scored(BaseException):
    """All proxy evaluations are done. No `Exception`, which would be a failure of finalists."""


def scored(space: NetworkSpace, steps: int, seed: int, solver: str | None, folder: Path) -> Path:
    """A run that has its supernet and all proxy evaluations, but no finalist."""

    def stop(*_: Any, **__: Any) -> Sequence[Finalist]:
        raise Scored

    run = Run.create(folder, {}, "cpu", seed)
    try:
        for _ in search(
            space,
            objectives="parameters",
            budget=plan_for(space, steps, FRESH),
            seed=seed,
            solver=solver,
            run=run,
            trainer=stop,
        ):
            pass
    except Scored:
        return folder
    raise AssertionError("no finalist was asked for")


@dataclass(frozen=True)
class End:
    """What a search came to.

    Attributes:
        finalists: that were trained to their end.
        seconds: of CPU time that all finalists took.
        front: the points.
        stopped: finalists that were stopped early.
        wrongly: those of them that the front needed.
    """

    finalists: int
    seconds: float
    front: Sequence[Point]
    stopped: int = 0
    wrongly: int = 0

    def __str__(self) -> str:
        early = f"{self.stopped} stopped, {self.wrongly} wrongly, " if self.stopped else ""
        return f"{self.finalists} trained, {early}{self.seconds:.0f} s"


def finished(space: NetworkSpace, steps: int, seed: int, way: Way, folder: Path) -> End:
    """A search that goes on from `scored`."""
    start, plan = time.process_time(), plan_for(space, steps, way)
    run = Run.open(folder)
    state = run.resume()  # the search goes on with the plan that it finds here
    run.save({**state, "plan": vars(plan) | {"recipe": plan.recipe.numbers()}})
    if way.share == 0:
        trained: dict[str, Any] = {"trainer": only_recalibrated}
    else:
        kind = "inherit" if way.inherit else "fresh"
        trained = {"finalists": kind, "early_stopping": way.early_stopping}
        run.tell(**trained)
    *_, last = search(
        space,
        objectives="parameters",
        budget=plan_for(space, steps, FRESH),  # the one that it was begun with
        seed=seed,
        solver=way.solver,
        run=run,
        **trained,
    )
    seconds, stopped = time.process_time() - start, run.stopped()
    wrongly = sum(needed(space, seed, plan.recipe, one, run, last.front) for one in stopped)
    return End(len(run.evaluations()), seconds, list(last.front), len(stopped), wrongly)


def needed(
    space: NetworkSpace, seed: int, recipe: Recipe, stopped: Stopped, run: Run, front: Front
) -> bool:
    """Whether a whole training would have brought an architecture onto the front."""
    supernet = space.supernet(seed)
    supernet.load_state_dict(run.weights("supernet"))
    (finalist,) = train_finalists(
        supernet,
        space.load_task(),
        recipe,
        [stopped.architecture],
        seed=seed,
        workers=1,
        inherit=run.about["finalists"] == "inherit",
    )
    assert isinstance(finalist, Finalist)
    parameters = Parameters.of(space.supernet(seed), space.load_task().example())
    values = {
        "error_percent": finalist.valid["error_percent"],
        "parameters": parameters.exact(stopped.architecture),
    }
    return all(any(values[name] < point.objectives[name] for name in values) for point in front)


def only_recalibrated(
    supernet: Supernet,
    task: Task,
    recipe: Recipe,
    architectures: Sequence[Architecture],
    *,
    seed: int,
    workers: int,
) -> list[Finalist]:
    """Finalists that are not trained."""
    task, found = sized(task, recipe.batch_size), []
    for architecture in architectures:
        network = supernet.extract(architecture)
        recalibrate(network, task, seed=seed)
        valid, test = (evaluate(network, task, split) for split in ("valid", "test"))
        found.append(Finalist(architecture, network, valid, test))
    return found


def random_search(space: NetworkSpace, steps: int, seed: int) -> End:
    """Random architectures, trained by the whole recipe for all the steps."""
    start = time.process_time()
    error = TrainedMetric(space, seed=seed)
    parameters = Parameters.of(space.supernet(seed), space.load_task().example())
    problem = Problem(space, (error, parameters))
    front = Front(problem.columns)
    count = min(steps // error.steps(), size(space.choices))
    for _ in sample(problem, Random(problem, seed=seed), front, budget=count):
        pass
    return End(count, time.process_time() - start, list(front))


def summary(points: pd.DataFrame) -> pd.DataFrame:
    """Medians of the hypervolumes over seeds, with their ranges, and of the CPU seconds."""
    rows = []
    for _, own in points.groupby("space", sort=False):
        reference = reference_of(own)
        for keys, front in own.groupby(KEYS, sort=False):
            about = dict(zip(KEYS, keys, strict=True))
            rows.append(
                about
                | {
                    "finalists": front["finalists"].iloc[0],
                    "cpu_seconds": front["cpu_seconds"].iloc[0],
                    "valid": hypervolume(front, "error_percent", reference),
                    "test": hypervolume(front, "test_error_percent", reference),
                }
            )
    groups = pd.DataFrame(rows).groupby(["space", "steps", "method"], sort=False)
    table = groups[["finalists", "cpu_seconds"]].median().round(0)
    for column in ("valid", "test"):
        low, middle, high = (100 * groups[column].quantile(q) for q in (0, 0.5, 1))
        table[column] = middle.round(1)
        table[f"{column}, range"] = [f"{a:.1f} to {b:.1f}" for a, b in zip(low, high, strict=True)]
    table["seeds"] = groups.size()
    return table


def reference_of(points: pd.DataFrame) -> Mapping[str, float]:
    """The ranges of a space: up to half of the error of guessing, and of all fronts' parameters."""
    return {
        "error": 45.0,
        "least": float(points["parameters"].min()),
        "most": 1.1 * float(points["parameters"].max()),
    }


def hypervolume(front: pd.DataFrame, error: str, reference: Mapping[str, float]) -> float:
    """The part of the box that a front dominates."""
    span = np.log(reference["most"] / reference["least"])
    scaled = np.column_stack(
        [
            front[error] / reference["error"],
            np.log(front["parameters"] / reference["least"]) / span,
        ]
    )
    return float(moocore.hypervolume(scaled, ref=[1, 1]))


if __name__ == "__main__":
    main()
