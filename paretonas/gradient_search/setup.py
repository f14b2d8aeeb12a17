"""Phase 1 of a search, and what it finds out for the phases after it."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..arguments import moved
from ..evaluation import Evaluation
from ..forward import device_of, evaluating, seeded
from ..front import Front
from ..nn import ShapeError, Supernet
from ..objectives import (
    DifferentiableObjective,
    Latency,
    Parameters,
    TimedLatency,
    TrainedMetric,
)
from ..objectives.default import BESIDE_THE_METRIC, OBJECTIVES
from ..point import FAILING, Failure, Outcome, Point
from ..runs import Run
from ..solvers import Solver
from ..space import Architecture, size
from ..surrogates.alpha import rays, with_preference
from ..surrogates.feasible import Feasible
from ..tasks.passes import batch_count, few
from ..tasks.task import OutputError, Task, metrics_of, on_device, sized
from .guessing import Guessing
from .plan import SUPERNET_SHARE, Plan
from .settings import Settings
from .step import Reporter, Step
from .weights import WeightTraining, trial


@dataclass(eq=False)
class Setup:
    """What the phases share.

    Attributes:
        settings: of the search.
        task: with its examples on the device.
        supernet: on the device; options that do not run are set aside in it.
        costs: the objectives beside the metrics; they are known by table.
        solver: with the rays as its preferences.
        rays: (r, m) preference vectors.
        feasible: says whether an architecture meets the limits on its costs.
        plan: how the budget is divided.
        evaluation: trains finalists and measures them.
        report: makes the steps.
        guessing: what guessing scores; None if the task does not say.
        saved: the last checkpoint; empty if there is none.
        aside: options that were set aside before anything was trained.
        blamed: options that were set aside since, by proxy evaluations and finalists.
    """

    settings: Settings
    task: Task
    supernet: Supernet
    costs: tuple[DifferentiableObjective, ...]
    solver: Solver
    rays: Float[Tensor, "r m"]
    feasible: Feasible
    plan: Plan
    evaluation: Evaluation
    report: Reporter
    guessing: Guessing | None
    saved: Mapping[str, Any]
    aside: list[Failure]
    blamed: list[Failure] = field(default_factory=list)

    def set_aside(self, phase: str, failure: Failure) -> Step:
        """Write a failure down, if it is not there already, and show it."""
        _record(self.settings.run, failure)
        return self.report.step(phase, message=f"set aside {failure}")

    def blame(self, phase: str, failures: Sequence[Failure]) -> Generator[Step, None, None]:
        """Never take again the options that are to blame."""
        for failure in failures:
            self.blamed.append(failure)
            leave_out(self.supernet, [failure])
            yield self.set_aside(phase, failure)

    def left_out(self, architecture: Architecture) -> bool:
        """Whether an option was set aside since the architecture was proposed."""
        return not self.supernet.aside.keys().isdisjoint(self.supernet.taken(architecture))

    def save(self, training: WeightTraining, **state: Any) -> None:
        """Write a checkpoint of the weights, and of the state of the later phases."""
        if self.settings.run:
            self.settings.run.save(
                {
                    "plan": vars(self.plan) | {"recipe": self.plan.recipe.numbers()},
                    "aside": [(dict(f.architecture), f.reason) for f in self.aside],
                    "blamed": [(dict(f.architecture), f.reason) for f in self.blamed],
                    "weights": training.state(),
                    **state,
                }
            )


def tabulate(settings: Settings) -> Generator[Step, None, Setup]:
    """Phase 1: what runs, what each option costs, and with it the plan."""
    space, run = settings.space, settings.run
    saved: Mapping[str, Any] = (run.resume() if run else None) or {}
    task = sized(space.load_task(), space.recipe.batch_size)
    task = on_device(task, settings.device)
    guessing = (Guessing.told(run.about) if run else None) or Guessing.of(task)
    supernet = space.supernet(settings.seed).to(settings.device)
    if run:
        about = {"name": space.name, "choices": {c.name: list(c.options) for c in supernet.choices}}
        _check_same(run, about)
        run.tell(space=about)
    aside = _failures(saved["aside"]) if "aside" in saved else _try_options(settings, task)
    leave_out(supernet, aside)
    if run:
        run.tell(guessing=None if guessing is None else asdict(guessing))

    metrics = metrics_of(task)
    maximized = [metric.column for metric in metrics if metric.maximize]
    empty = Front([metric.column for metric in metrics], maximized)

    def step(message: str) -> Step:
        seconds = time.perf_counter() - settings.start
        return Step("costs", 0, 0, empty, seconds, message=message)

    on_host = space.supernet(settings.seed)  # on the CPU, where tables are made
    leave_out(on_host, aside)
    for failure in aside:
        _record(run, failure)
        yield step(f"set aside {failure}")
    example, objectives = moved(task.example(), "cpu"), settings.objectives
    if objectives is None:
        yield step("measuring what each option costs on this device")
        objectives = tuple(
            OBJECTIVES[name].build(on_host, example, settings.device, settings.threads)
            for name in BESIDE_THE_METRIC
        )
    parameters = Parameters.of(on_host, example)
    for failure in _left_out_by(on_host, supernet):  # what does not run on the example
        leave_out(supernet, [failure])
        aside.append(failure)
        _record(run, failure)
        yield step(f"set aside {failure}")
    plan = _plan(settings, saved, task, supernet)
    if run:
        run.tell(
            recipe=plan.recipe.described(), finalists="inherit" if settings.inherit else "fresh"
        )
    trained = TrainedMetric(
        space,
        recipe=plan.recipe,
        seed=settings.seed,
        workers=settings.workers,
        trainer=settings.trainer,
        reported=[parameters],
        supernet=supernet,
        task=task,
    )
    columns = tuple([m.column for m in metrics] + [o.column for o in objectives])
    settings.constraint.satisfied(dict.fromkeys(columns, 0.0))  # refuses other names
    preferences = rays(len(columns), settings.rays)
    steps_each = plan.recipe.steps(batch_count(task))
    setup = Setup(
        settings,
        task=task,
        supernet=supernet,
        costs=tuple(objectives),
        solver=with_preference(settings.solver, preferences),
        rays=preferences,
        feasible=Feasible(supernet, objectives, settings.constraint, seed=settings.seed),
        plan=plan,
        evaluation=Evaluation(
            [
                trained,
                *trained.others(),
                *(_timed(objective, example, settings) for objective in objectives),
            ],
            journal=run or _Numbers(),
            origin="search",
        ),
        report=Reporter(
            run,
            start=settings.start,
            columns=columns,
            names=[m.name for m in metrics] + [o.name for o in objectives],
            steps=plan.supernet_steps + plan.finalists * steps_each,
            steps_each=steps_each,
            metrics=metrics,
            guess=None if guessing is None else guessing.value,
        ),
        guessing=guessing,
        saved=saved,
        aside=aside,
        blamed=_failures(saved.get("blamed", [])),  # older checkpoints have none
    )
    message = (
        f"plan: {plan.supernet_steps} weight steps, {plan.proxy_evaluations} proxy "
        f"evaluations, {plan.finalists} finalists"
    )
    yield setup.report.step("costs", message=message)
    return setup


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


def leave_out(supernet: Supernet, failures: Sequence[Failure]) -> None:
    """Set single options aside in a supernet."""
    for failure in failures:
        ((choice, option),) = failure.architecture.items()
        supernet.set_aside(choice, option, failure.reason)


def _record(run: Run | None, failure: Failure) -> None:
    if run and failure not in run.failures():
        run.record(failure)


def _failures(saved: Sequence[tuple[Mapping[str, str], str]]) -> list[Failure]:
    return [Failure(Architecture(picks), reason) for picks, reason in saved]


def _timed(
    objective: DifferentiableObjective, example: Any, settings: Settings
) -> DifferentiableObjective:
    if isinstance(objective, Latency):
        return TimedLatency(objective, example, settings.device, settings.threads)
    return objective


def _left_out_by(one: Supernet, other: Supernet) -> list[Failure]:
    """The options that one supernet has set aside, and the other has not yet."""
    found = []
    for (index, pick), reason in one.aside.items():
        if (index, pick) not in other.aside:
            choice = one.choices[index]
            found.append(Failure(Architecture({choice.name: choice.options[pick]}), reason))
    return found


def _try_options(settings: Settings, task: Task) -> list[Failure]:
    """What does not run, before anything is trained; a network that cannot run is refused."""
    network = settings.space.supernet(settings.seed).to(settings.device)
    _check_outputs(network, task)
    probe = trial(network, task, settings.space.recipe, seed=settings.seed)
    works = next(probe.working(), None)
    if works is None:
        first = probe.starts[0]
        try:
            probe.attempt(first)
        except SystemExit as error:
            reason = Failure.of(first, error)
            raise RuntimeError(f"no architecture runs; this is of {reason}") from error
        except Exception as error:
            error.add_note(f"(no architecture runs; this is of {first})")
            raise
    _check_outputs(network, task, works)
    return probe.options()


def _check_outputs(supernet: Supernet, task: Task, gates: Architecture | None = None) -> None:
    """Run an architecture or a mixture once: what cannot be searched is refused before training.

    Raises:
        OutputError: outputs that do not fit the task.
        ShapeError: options of different shapes, in a mixture.
    """
    kind = {p.dtype for p in supernet.parameters() if p.is_floating_point()} or {torch.float32}
    batch = moved(few(task, "train", 2), device_of(supernet), copies=True)
    mixture = [
        torch.full((len(c.options),), 1 / len(c.options), dtype=kind.copy().pop()).to(
            device_of(supernet)
        )
        for c in supernet.choices
    ]
    try:
        with (
            evaluating(supernet),
            seeded(0, supernet),
            torch.no_grad(),
            supernet.path(mixture if gates is None else gates) as network,
        ):
            task.loss(network, batch)
    except (ShapeError, OutputError):
        raise
    except FAILING:  # one option may be to blame; the probe finds out
        return


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


def _plan(settings: Settings, saved: Mapping[str, Any], task: Task, supernet: Supernet) -> Plan:
    """The plan of the checkpoint, or else one for the budget."""
    budget = settings.budget
    if saved:
        plan = dict(saved["plan"])
        if "looks" in plan:  # as older checkpoints call them
            plan["proxy_evaluations"] = plan.pop("looks")
        recipe = budget.recipe if isinstance(budget, Plan) else settings.recipe
        return Plan(**{**plan, "recipe": replace(recipe, **plan["recipe"])})
    if isinstance(budget, Plan):
        return budget
    known = (settings.recipe, batch_count(task), size(supernet.choices))
    if budget.steps is not None:
        return Plan.of(budget.steps, *known)
    seconds, each = budget.seconds or 0.0, _seconds_per_step(settings, task, supernet)
    spent = time.perf_counter() - settings.start
    try:
        return Plan.of(max(0, int((seconds - spent) / each)), *known)
    except ValueError as error:
        raise ValueError(
            f"{error}: {spent:.1f} of {seconds:g} s went into the tables of costs and a trial, "
            f"and a step takes about {each:.3g} s"
        ) from error


def _seconds_per_step(settings: Settings, task: Task, like: Supernet) -> float:
    """Of wall time a weight step, everything else spread over the weight steps."""
    supernet = settings.space.supernet(settings.seed).to(settings.device)
    leave_out(supernet, _left_out_by(like, supernet))
    training = WeightTraining(supernet, task, settings.space.recipe, steps=24, seed=settings.seed)
    clocks = [time.perf_counter() for _ in training.run()]
    step = (clocks[-1] - clocks[3]) / (len(clocks) - 4)
    # The steps of the supernet have proxy evaluations and alpha beside them. The other steps train
    # finalists, side by side on the cores, with alpha and the measuring between them.
    fine = 1.1 / settings.workers + 0.3
    return step * (SUPERNET_SHARE * 1.8 + (1 - SUPERNET_SHARE) * fine)
