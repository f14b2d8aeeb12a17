"""The gradient search on one page: from a space to a front of measured networks.

1. Costs: every option is tried once; latency is tabulated on this device, memory by liveness.
2. Weights: the supernet is trained on single paths, drawn fairly (weight sharing).
3. Alpha: architectures get a proxy evaluation, a score with inherited weights; a surrogate is
   fitted to the scores. A solver optimizes one distribution per ray for all objectives at once,
   through the surrogate and the cost tables. What alpha leads to is scored next, and so on.
4. Finalists: the architectures with the largest expected gain of the front are trained from fresh
   weights and measured. Each result corrects the surrogate, and alpha is optimized again.

What cannot run is set aside by name, an option or an architecture, and the search goes on.
"""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass

from .._front_file import USUAL_OBJECTIVES
from .._lock import held
from .._threads import threads
from ..constraint import Constraint
from ..devices import find_device
from ..finalists import train_finalists
from ..names import solver_of, space_of
from ..nn import NetworkSpace
from ..objectives import DifferentiableObjective
from ..objectives.error import Trainer
from ..point import Outcome
from ..runs import Run
from ..solvers import SmoothTchebycheff, Solver
from ..space import Architecture
from .costs import costs_of
from .model import Model
from .plan import Budget, Plan, budget_of
from .results import Results
from .setup import Settings, Setup, tabulate
from .step import Step
from .weights import WeightTraining

__all__ = ["search"]

ROUNDS = 3  # of proxy evaluations, after the initial design
RAYS = 28


@dataclass(frozen=True)
class Batch:
    """Finalists to evaluate; whoever can sends their outcomes, or else the search does it itself.

    Attributes:
        architectures: what to evaluate.
        proxy_evaluations: how many there were until now.
        weight_steps: how many steps of the supernet's weights.
    """

    architectures: Sequence[Architecture]
    proxy_evaluations: int
    weight_steps: int


Phases = Generator[Step | Batch, Sequence[Outcome] | None, None]


def search(
    space: NetworkSpace | str,
    *,
    objectives: Sequence[DifferentiableObjective | str] | str | os.PathLike[str] | None = None,
    solver: Solver | str | None = None,
    constraint: Constraint | str | None = None,
    budget: Budget | Plan | str | None = None,
    seed: int = 0,
    device: str = "cpu",
    threads: int = 1,
    rays: int = RAYS,
    run: Run | None = None,
    trainer: Trainer = train_finalists,
) -> Iterator[Step]:
    """Search a space for its front of error, latency and memory: one run, one supernet.

    Texts are understood as on the command line: ``search("toy", solver="MGDA", budget="90s",
    constraint="latency<=2ms")``. What cannot be understood is refused before anything runs.

    Every step is yielded; the last one carries the front of measured points. Stop at any time: what
    is on the front stays there, and with a `run` the search goes on from its last checkpoint.

    An option that raises, or gives what is not finite, is set aside and never taken again; so is an
    architecture that fails alone. A step's message tells it, and `Run.failures` lists it. A
    finalist that fails is billed like any other.

    Args:
        space: the network with its choices, the data and the recipe; or its name, such as "toy" or
            "my_file:space".
        objectives: what is minimized beside the error; by default latency (tabulated on the device,
            then measured) and memory. Each as such, or by its name: "latency", "memory",
            "parameters", or one of your own, "my_file:joules". Or the file of a cost table, for
            latency and memory.
        solver: turns the gradients with respect to alpha into a direction; one with a `preference`
            gets the rays, any other is wrapped in `Weighted`. By default smooth Tchebycheff.
            Or its name, such as "MGDA" or "my_file:Mine".
        constraint: limits that points on the front must meet, such as "latency<=2ms".
        budget: weight steps or seconds, such as "600steps" or "90s", or a whole plan.
        seed: with the same objectives, threads and budget in steps, a CPU run repeats bit for bit.
        device: auto, cpu or cuda.
        threads: that latency is measured with.
        rays: how many preferences are searched at once, at least.
        run: where to write; continued if it has a checkpoint. One search at a time can.
        trainer: trains and scores finalists; see `train_finalists`. Where it raises for several,
            they are handed to it one by one.

    Raises:
        ValueError: the budget makes no step possible, or no architecture meets the constraint by
            the tables. (A limit on the error is not known before: then the front stays empty.) A
            choice has no option left that runs. A name or a text that means nothing. Another
            process, or another search of this one, is at work in the run's folder.
        TypeError: an argument of another kind, or a class in the place of an object.
        FloatingPointError: the supernet diverges whatever the path.
        Exception: what the network raises, if it does so in every architecture.

    References:
        Smooth Tchebycheff: Lin et al. 2024 (arXiv 2402.19078). Single-path supernet: Guo et al.
        2020 (arXiv 1904.00420). See `CoKriging`, `select_batch` and `fair_paths`.
    """
    if run is not None and not isinstance(run, Run):
        raise TypeError(f"run must be what Run.create or Run.open gives, got {run!r}")
    space = space_of(space)
    place = find_device(device)
    costs = (
        None if objectives is None else costs_of(objectives, space, device=place, threads=threads)
    )
    columns: Sequence[str] = USUAL_OBJECTIVES
    if costs is not None:
        columns = ("error_percent", *(cost.column for cost in costs))
    settings = Settings(
        space,
        objectives=costs,
        solver=SmoothTchebycheff() if solver is None else solver_of(solver),
        constraint=Constraint({}) if constraint is None else Constraint.of(constraint, columns),
        budget=Budget() if budget is None else budget_of(budget),
        seed=seed,
        device=place,
        threads=threads,
        rays=rays,
        run=run,
        trainer=trainer,
    )
    return _steps(settings)


def _steps(settings: Settings) -> Iterator[Step]:
    """The steps of a search that evaluates its finalists itself."""
    run = settings.run
    with (
        held(run.folder) if run else nullcontext(),
        threads(1),
        closing(method(settings)) as phases,
    ):
        for step in phases:
            if isinstance(step, Step):
                yield step


def method(settings: Settings) -> Phases:
    """The four phases; the result of each feeds the next."""
    setup = yield from tabulate(settings)
    training = yield from train_weights(setup)
    model = yield from score_candidates(setup, training)
    yield from evaluate_finalists(setup, model)


def train_weights(setup: Setup) -> Generator[Step, None, WeightTraining]:
    """Phase 2: the weights of the supernet, on fairly drawn single paths."""
    settings, steps = setup.settings, setup.plan.supernet_steps
    training = WeightTraining(
        setup.supernet, setup.data.train, settings.space.recipe, steps=steps, seed=settings.seed
    )
    if setup.saved:
        training.resume(setup.saved["weights"])
    losses: list[float] = []
    told = len(training.failures)
    for loss in training.run():
        losses += [loss] if math.isfinite(loss) else []
        setup.report.done = training.done
        for _, failure in training.failures[told:]:
            yield setup.set_aside("weights", failure)
        told = len(training.failures)
        if losses and (training.done % 25 == 0 or training.done == training.steps):
            mean = sum(losses) / len(losses)
            losses.clear()
            yield setup.report.step("weights", message=f"loss on single paths {mean:.3f}")
        if training.done % 200 == 0:
            setup.save(training)
    setup.report.done = training.done
    return training


def score_candidates(setup: Setup, training: WeightTraining) -> Generator[Step, None, Model]:
    """Phase 3: proxy evaluations of an initial design, then of what alpha leads to."""
    model = Model.of(setup, training)
    known = model.knowledge.inherited
    before, design = len(known), setup.plan.looks // 2
    for architecture in setup.feasible.design(design):
        if model.proxy_evaluations >= design:
            break
        if architecture not in known and architecture not in model.failed():
            yield from model.score(architecture)
    if not known:  # few proxy evaluations, which all failed: one more, that works
        works = sorted(model.probe().working(), key=lambda a: not setup.feasible(a))
        for architecture in works[:1]:
            yield from model.score(architecture)
    if not known:
        first = next(iter(model.knowledge.failed["inherited"].values()), "none was found")
        raise RuntimeError(f"no architecture could be scored with inherited weights: {first}")
    if len(known) > before:
        yield setup.report.step("alpha", message=f"{len(known)} scored with inherited weights")
    for turn in range(model.turns + 1, ROUNDS + 1):
        due = design + math.ceil((setup.plan.looks - design) * turn / ROUNDS)
        if model.proxy_evaluations >= due or setup.settings.late():
            continue
        yield from model.optimize_alpha()
        blamed = -1
        while blamed < len(setup.blamed):  # again, if an option of what was chosen is to blame
            blamed = len(setup.blamed)
            for architecture in model.choose(due - model.proxy_evaluations, "inherited"):
                yield from model.score(architecture)
        model.turns = turn
        step = setup.report.step("alpha", message=f"{len(known)} scored with inherited weights")
        model.save()
        yield step
    return model


def evaluate_finalists(setup: Setup, model: Model) -> Phases:
    """Phase 4: train and measure what promises most, correct the surrogate, and so on."""
    plan, knowledge, workers = setup.plan, model.knowledge, setup.settings.workers
    results = Results(setup, model)
    later = results.resume()
    batch = workers * max(1, math.ceil(plan.finalists / 6 / workers))
    # However late it is, one batch is trained: without it there is no front at all.
    while (due := plan.finalists - results.tried) > 0 and not (
        results.tried and setup.settings.late()
    ):
        yield from model.optimize_alpha()
        chosen = model.choose(min(batch, due), "trained")
        if not chosen and not later:
            break
        failed = len(knowledge.failed["trained"])
        for outcome in later:
            yield results.show(outcome)
        later.clear()
        known = knowledge.trained.keys() | model.failed()
        chosen = [a for a in chosen if a not in known][: plan.finalists - results.tried]
        if chosen:
            answer = yield Batch(chosen, model.proxy_evaluations, model.training.done)
            for outcome in setup.evaluation(chosen) if answer is None else answer:
                yield results.show(outcome)
        yield from results.blame([*knowledge.failed["trained"]][failed:])
        model.save()
    yield results.end()
