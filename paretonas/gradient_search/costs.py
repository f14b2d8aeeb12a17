"""Phase 1: what runs, what each option costs, and with it the plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from ..arguments import moved
from ..devices import default_backend
from ..devices.onnx_session import NotInOnnxError
from ..evaluation import Evaluation
from ..front import Front
from ..nn import Supernet
from ..objectives import (
    DifferentiableObjective,
    Latency,
    Parameters,
    TableLatency,
    TrainedMetric,
)
from ..objectives.calibration import Calibration
from ..objectives.default import known as known_objective
from ..objectives.table_objective import TableObjective
from ..point import Failure, Outcome, Point
from ..runs import Run, keep_tables
from ..surrogates.alpha import rays, with_preference
from ..surrogates.feasible import Feasible
from ..tasks.passes import batch_count
from ..tasks.task import Task, metrics_of, on_device, sized
from .budgets import (
    Epochs,
    budgets_of,
    epochs_of,
    plan_for,
    seconds_of_a_step,
    stopped_less,
    trained_less,
    with_more,
)
from .guessing import Guessing
from .measured_limits import MeasuredLimits
from .plan import ALPHA_TIME, WEIGHTS_TIME, Budget
from .settings import Settings
from .setup import Setup
from .step import Reporter, Step
from .tables import followed
from .trying import failures_of, leave_out, left_out_by, record, try_options


def tabulate(settings: Settings) -> Generator[Step, None, Setup]:
    """Phase 1: what runs, what each option costs, and with it the plan."""
    space, run = settings.space, settings.run
    clock, budgets = settings.clock, budgets_of(settings)
    task = sized(space.load_task(), space.recipe.batch_size)
    task = on_device(task, settings.device)
    guessing = (Guessing.told(run.about) if run else None) or Guessing.of(task)
    supernet = space.supernet(settings.seed).to(settings.device)
    if run:
        about = {"name": space.name, "choices": {c.name: list(c.options) for c in supernet.choices}}
        _check_same(run, about)
        run.tell(space=about, conditions=supernet.conditions())
    saved: dict[str, Any] = (run.saved() if run else None) or {}
    clock.before = saved.get("seconds", 0.0)
    aside = failures_of(saved["aside"]) if "aside" in saved else try_options(settings, task)
    leave_out(supernet, aside)
    if run:
        run.tell(guessing=None if guessing is None else asdict(guessing))

    metrics = metrics_of(task)
    maximized = [metric.column for metric in metrics if metric.maximize]
    empty = Front([metric.column for metric in metrics], maximized)

    def step(message: str) -> Step:
        return Step("costs", 0, 0, empty, clock.gone(), message=message)

    on_host = space.supernet(settings.seed)  # on the CPU, where tables are made
    leave_out(on_host, aside)
    for failure in aside:
        record(run, failure)
        yield step(f"set aside {failure}")
    example, objectives = moved(task.example(), "cpu"), list(settings.objectives)
    took = ""
    if any(isinstance(one, str) for one in objectives):
        yield step("measuring what each option costs on this device")
        begun = clock.gone()
        for place, name in enumerate(objectives):
            if isinstance(name, str):
                objectives[place] = yield from _built(name, settings, on_host, example, step)
        took = f"tables: {clock.gone() - begun:.1f} s; "
    tables = {
        one.column: {**one.table.about, "predicted": isinstance(one, TableLatency)}
        for one in objectives
        if isinstance(one, TableLatency)
        or (isinstance(one, TableObjective) and "backend" in one.table.about)
    }
    for column, told in tables.items():
        if calibration := Calibration.told(told):
            yield step(f"{column} of {told.get('backend', 'a table')}: {calibration}")
    parameters = Parameters.of(on_host, example)
    for failure in left_out_by(on_host, supernet):  # what does not run on the example
        leave_out(supernet, [failure])
        aside.append(failure)
        record(run, failure)
        yield step(f"set aside {failure}")
    built = [one for one in objectives if not isinstance(one, str)]
    costs = [one for one in built if isinstance(one, DifferentiableObjective)]
    others = [one for one in built if not isinstance(one, DifferentiableObjective)]
    grows = bool(saved) and len(budgets) > saved.get("budgets", 1)
    pace = saved.get("pace", 0.0)
    if clock.timed and (grows or not pace):
        pace = seconds_of_a_step(settings, task, supernet)
    plan = plan_for(settings, saved, grows, task, supernet, pace)
    halving = settings.early_stopping
    if run:
        run.tell(
            budgets=budgets,
            recipe=settings.recipe_for(plan.recipe).described(),
            batch_size=_batch_size(task),
            finalists=settings.finalists,
            **({"early_stopping": str(halving)} if halving else {}),
            **({"paths": str(settings.paths)} if settings.paths.passes > 1 else {}),
        )
    known = {point.architecture: point for point in run.evaluations()} if run else {}
    recorded = run.outcomes() if run else []
    short = trained_less(recorded, plan.recipe)
    short_epochs = [epochs_of(point, plan.recipe) for point in short]
    short_epochs += [o.epochs for o in recorded if stopped_less(o, plan.recipe)]
    short_steps = sum(short_epochs) * batch_count(task)
    if grows:
        if isinstance(settings.budget, Budget) and settings.budget.steps is not None:
            # They are part of the budget as well.
            fewer = math.ceil(short_steps / plan.recipe.steps(batch_count(task)))
            plan = replace(plan, finalists=max(1, plan.finalists - fewer))
        saved = with_more(saved, plan, short, task, supernet)
    epochs = Epochs()
    trained = TrainedMetric(
        space,
        recipe=plan.recipe,
        seed=settings.seed,
        workers=settings.workers,
        trainer=settings.trainer,
        reported=[parameters, epochs],
        supernet=supernet,
        task=task,
    )
    epochs.trained = trained
    columns = tuple([m.column for m in metrics] + [o.column for o in costs])
    others_too = [*columns, *(o.column for o in others)]
    settings.constraint.satisfied(dict.fromkeys(others_too, 0.0))  # refuses other names
    aimed, preferences = list(costs), rays(len(columns), settings.rays)
    if settings.target is not None:
        aimed = settings.target.aimed(costs)
        preferences = settings.target.rays(columns, len(metrics), settings.rays)
    setup = Setup(
        settings,
        task=task,
        supernet=supernet,
        tabulated=tuple(costs),
        costs=tuple(aimed),
        limits=settings.constraint,
        solver=with_preference(settings.solver, preferences),
        rays=preferences,
        feasible=Feasible(supernet, costs, settings.constraint, seed=settings.seed),
        plan=plan,
        evaluation=Evaluation(
            [trained, *trained.others(), *built],
            journal=run or _Numbers(),
            origin="search",
            known=known,
        ),
        report=Reporter(
            run,
            clock=clock,
            columns=columns,
            names=[m.name for m in metrics] + [o.name for o in costs],
            metrics=metrics,
            others=others,
            guess=None if guessing is None else guessing.value,
        ),
        measured_limits=MeasuredLimits.of(settings.constraint, built, costs),
        trained=trained,
        guessing=guessing,
        saved=saved,
        aside=aside,
        blamed=failures_of(saved.get("blamed", [])),  # older checkpoints have none
        budgets=len(budgets),
        short_steps=short_steps,
        pace=pace,
        planned=clock.gone(),
        weights_until=clock.moment(WEIGHTS_TIME),
        alpha_until=clock.moment(WEIGHTS_TIME + ALPHA_TIME),
    )
    if run:  # only now: what is refused changes nothing
        run.rewind()
    if run and tables:  # only now, since what was refused leaves no folder
        keep_tables(run.folder, built)
        run.tell(tables=tables)
    setup.plan_anew()
    about_how_many = "about " if clock.timed else ""
    message = (
        f"{took}plan: {about_how_many}{plan.supernet_steps} weight steps, "
        f"{plan.proxy_evaluations} proxy evaluations, {plan.finalists} finalists"
    )
    if plan.recipe.epochs < settings.recipe.epochs:
        message += f" of {plan.recipe.epochs} epochs instead of {settings.recipe.epochs}"
    yield setup.report.step("costs", message=message)
    return setup


def _built(
    name: str,
    settings: Settings,
    supernet: Supernet,
    example: Any,
    step: Callable[[str], Step],
) -> Generator[Step, None, DifferentiableObjective]:
    """An objective by its name; with eager torch if a backend that nobody named cannot run it."""
    objective = known_objective(name)
    assert objective is not None
    build = partial(objective.build, supernet, example, settings.device, settings.threads)
    # The backend of a search is that of its own device.
    device = settings.device if objective.device is None else torch.device(objective.device)
    own = device.type == settings.device.type
    backend = settings.backend if own else default_backend(device)
    try:
        made = yield from followed(partial(build, backend), settings.clock, step)
    except NotInOnnxError as error:
        if own and settings.asked_backend:
            raise
        why = f"latency is measured in eager torch, since {error}"
        if settings.run:
            settings.run.tell(backend_why=why)
        yield step(why)
        made = yield from followed(partial(build, "torch"), settings.clock, step)
    if settings.run and own and isinstance(made, Latency):
        settings.run.tell(backend=made.backend)
    return made


def _check_same(run: Run, space: Mapping[str, Any]) -> None:
    """Refuse to go on with another space than the run's; older runs do not tell theirs.

    Raises:
        ValueError: the space has another name or other choices.
    """
    before = run.about.get("space")
    if not isinstance(before, dict) or before == space:
        return
    if before.get("name") != space["name"]:
        what = f"{before.get('name')!r}, not of {space['name']!r}"
    else:
        what = f"{space['name']!r}, but with other choices or options"
    raise ValueError(f"{run.folder} is a run on the space {what}")


def _batch_size(task: Task) -> int | None:
    """The number of examples in a training batch, if the task tells it."""
    size = getattr(task, "training_batch", getattr(task, "batch_size", None))
    return size if isinstance(size, int) else None


class _Numbers:
    """The journal of a search that is not written down: it numbers the points."""

    def __init__(self) -> None:
        self._count = 0

    def add(self, outcome: Outcome, seconds: float, network: object) -> Outcome:
        if isinstance(outcome, Failure):
            return outcome
        self._count += 1
        return Point(
            outcome.architecture, outcome.objectives, outcome.reported, f"a{self._count:02d}"
        )
