"""Phase 1 of a search, and what it finds out for the phases after it."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeGuard

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
from ..objectives.default import OBJECTIVES
from ..point import FAILING, Failure, Outcome, Point, Stopped
from ..runs import ABOUT, Run
from ..solvers import Solver
from ..space import Architecture, size
from ..surrogates.alpha import rays, with_preference
from ..surrogates.feasible import Feasible
from ..surrogates.quality_model import QualityModel
from ..tasks.passes import batch_count, few
from ..tasks.task import OutputError, Task, metrics_of, on_device, sized
from ..training import Recipe
from .guessing import Guessing
from .plan import (
    ALPHA_TIME,
    WEIGHTS_TIME,
    Budget,
    Plan,
    plain,
    proxy_evaluations_for,
    seconds_per_step,
    too_small,
)
from .settings import Settings
from .step import Reporter, Step
from .tables import followed
from .weights import WeightTraining, trial

TRIAL_SECONDS = 2.0  # about, to find out how long a step of the supernet takes


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
        trained: the metric for which `evaluation` trains finalists.
        guessing: what guessing scores; None if the task does not say.
        saved: the last checkpoint; empty if there is none.
        aside: options that were set aside before anything was trained.
        blamed: options that were set aside since, by proxy evaluations and finalists.
        budgets: how many budgets the run has had.
        short_steps: weight steps of finalists that were trained for fewer epochs, with an earlier
            budget.
        pace: seconds of a step of the supernet, if the budget is one of seconds.
        planned: when the plan was made, in seconds that were gone.
        weights_until: when the supernet must be trained.
        alpha_until: when the proxy evaluations must have ended.
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
    trained: TrainedMetric
    guessing: Guessing | None
    saved: Mapping[str, Any]
    aside: list[Failure]
    blamed: list[Failure] = field(default_factory=list)
    budgets: int = 1
    short_steps: int = 0
    pace: float = 0.0
    planned: float = 0.0
    weights_until: float = math.inf
    alpha_until: float = math.inf

    def plan_anew(self, **changes: Any) -> None:
        """Change numbers of the plan, and with them what there is to do."""
        self.plan = replace(self.plan, **changes)
        self.trained.recipe = self.plan.recipe
        each = self.plan.recipe.steps(batch_count(self.task))
        steps = self.plan.supernet_steps + self.plan.finalists * each
        self.report.expect(steps + self.short_steps)

    def train_for(self, epochs: int) -> None:
        """Let `evaluation` train finalists for so many epochs from now on."""
        self.trained.recipe = replace(self.plan.recipe, epochs=epochs)

    def late(self) -> bool:
        """Whether the time of the proxy evaluations is over."""
        return self.settings.clock.gone() >= self.alpha_until

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
        """Write a checkpoint of the weights, and of the state of the later phases.

        If the search goes on with a larger budget, there is such a state from the beginning.
        """
        later = ("knowledge", "alpha", "turns")
        state = {name: self.saved[name] for name in later if name in self.saved} | state
        if self.settings.run:
            self.settings.run.save(
                {
                    "plan": _stored(self.plan),
                    "budgets": self.budgets,
                    "seconds": self.settings.clock.gone(),
                    "pace": self.pace,
                    "aside": [(dict(f.architecture), f.reason) for f in self.aside],
                    "blamed": [(dict(f.architecture), f.reason) for f in self.blamed],
                    "weights": training.state(),
                    **state,
                }
            )


def tabulate(settings: Settings) -> Generator[Step, None, Setup]:
    """Phase 1: what runs, what each option costs, and with it the plan."""
    space, run = settings.space, settings.run
    clock, budgets = settings.clock, _budgets(settings)
    task = sized(space.load_task(), space.recipe.batch_size)
    task = on_device(task, settings.device)
    guessing = (Guessing.told(run.about) if run else None) or Guessing.of(task)
    supernet = space.supernet(settings.seed).to(settings.device)
    if run:
        about = {"name": space.name, "choices": {c.name: list(c.options) for c in supernet.choices}}
        _check_same(run, about)
        run.tell(space=about)
    # Only now: what is refused changes nothing.
    saved: dict[str, Any] = (run.resume() if run else None) or {}
    clock.before = saved.get("seconds", 0.0)
    aside = _failures(saved["aside"]) if "aside" in saved else _try_options(settings, task)
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
        _record(run, failure)
        yield step(f"set aside {failure}")
    example, objectives = moved(task.example(), "cpu"), list(settings.objectives)
    took = ""
    if any(isinstance(one, str) for one in objectives):
        yield step("measuring what each option costs on this device")
        begun = clock.gone()
        for place, name in enumerate(objectives):
            if isinstance(name, str):
                build = partial(
                    OBJECTIVES[name].build, on_host, example, settings.device, settings.threads
                )
                objectives[place] = yield from followed(build, clock, step)
        took = f"tables: {clock.gone() - begun:.1f} s; "
    parameters = Parameters.of(on_host, example)
    for failure in _left_out_by(on_host, supernet):  # what does not run on the example
        leave_out(supernet, [failure])
        aside.append(failure)
        _record(run, failure)
        yield step(f"set aside {failure}")
    measured = [one for one in objectives if not isinstance(one, str)]
    grows = bool(saved) and len(budgets) > saved.get("budgets", 1)
    pace = saved.get("pace", 0.0)
    if clock.timed and (grows or not pace):
        pace = _seconds_of_a_step(settings, task, supernet)
    plan = _plan(settings, saved, grows, task, supernet, pace)
    halving = settings.early_stopping
    if run:
        run.tell(
            budgets=budgets,
            recipe=plan.recipe.described(),
            finalists=settings.finalists,
            **({"early_stopping": str(halving)} if halving else {}),
        )
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
        saved = _with_more(saved, plan, short, task, supernet)
    epochs = _Epochs()
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
    columns = tuple([m.column for m in metrics] + [o.column for o in measured])
    settings.constraint.satisfied(dict.fromkeys(columns, 0.0))  # refuses other names
    preferences = rays(len(columns), settings.rays)
    setup = Setup(
        settings,
        task=task,
        supernet=supernet,
        costs=tuple(measured),
        solver=with_preference(settings.solver, preferences),
        rays=preferences,
        feasible=Feasible(supernet, measured, settings.constraint, seed=settings.seed),
        plan=plan,
        evaluation=Evaluation(
            [
                trained,
                *trained.others(),
                *(_timed(objective, example, settings) for objective in measured),
            ],
            journal=run or _Numbers(),
            origin="search",
        ),
        report=Reporter(
            run,
            clock=clock,
            columns=columns,
            names=[m.name for m in metrics] + [o.name for o in measured],
            metrics=metrics,
            guess=None if guessing is None else guessing.value,
        ),
        trained=trained,
        guessing=guessing,
        saved=saved,
        aside=aside,
        blamed=_failures(saved.get("blamed", [])),  # older checkpoints have none
        budgets=len(budgets),
        short_steps=short_steps,
        pace=pace,
        planned=clock.gone(),
        weights_until=clock.moment(WEIGHTS_TIME),
        alpha_until=clock.moment(WEIGHTS_TIME + ALPHA_TIME),
    )
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


class _Epochs:
    """How many epochs a finalist was trained for: points report it."""

    column = "epochs"
    trained: TrainedMetric

    def exact(self, architecture: Mapping[str, str]) -> float:
        return self.trained.recipe.epochs


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
    device = device_of(supernet)
    floating = (p.dtype for p in supernet.parameters() if p.is_floating_point())
    even = torch.ones((), dtype=next(floating, torch.float32), device=device)
    batch = moved(few(task, "train", 2), device, copies=True)
    mixture = [even.expand(len(c.options)) / len(c.options) for c in supernet.choices]
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


def _budgets(settings: Settings) -> list[dict[str, Any]]:
    """All budgets of a run, the last one is that of the settings.

    Raises:
        ValueError: it is smaller than the one before.
    """
    run, now = settings.run, plain(settings.budget)
    now_and_when = {**now, "started": datetime.now(UTC).isoformat(timespec="seconds")}
    if run is None:
        return [now_and_when]
    told = run.about.get("budgets")
    if told is None:  # of a run that is older than this list
        text = run.settings.get("budget", str(Budget()) if "space" in run.settings else None)
        known = run.begun and isinstance(text, str)
        told = [{**plain(Budget.parse(text)), "started": run.about.get("started")}] if known else []
    if not isinstance(told, list) or not all(isinstance(one, dict) for one in told):
        raise ValueError(f"{run.folder / ABOUT}: budgets must be a list, got {told!r:.80}")
    if not told:
        return [now_and_when]
    last = {name: value for name, value in told[-1].items() if name != "started"}
    for name in ("steps", "seconds"):
        if name in now and last.get(name, 0) > now[name]:
            raise ValueError(
                f"the budget of {run.folder} can only grow: {last[name]:g} {name} before, now "
                f"{now[name]:g}"
            )
    return told if last == now else [*told, now_and_when]


def _plan(
    settings: Settings,
    saved: Mapping[str, Any],
    grows: bool,
    task: Task,
    supernet: Supernet,
    pace: float,
) -> Plan:
    """The plan of the checkpoint; if there is none, or for more than that, one for the budget."""
    before = _saved_plan(settings, saved) if saved else None
    if before is not None and not grows:
        return before
    budget, recipe = settings.budget, settings.recipe
    known = (recipe, batch_count(task), size(supernet.choices))
    if isinstance(budget, Plan):
        larger = budget
    elif budget.steps is not None:
        larger = Plan.of(budget.steps, *known)
    else:
        clock, each = settings.clock, seconds_per_step(pace, settings.workers)
        spent, least = clock.gone(), Plan.least(batch_count(task)) * each
        if clock.left() < least:
            what = f"{spent:.0f} s are gone, and the smallest search takes about {least:.0f} s more"
            raise too_small(clock, what, spent + least)
        larger = Plan.of(int(clock.left() / each), *known)
        if before is not None:  # this is what fits into the time that is left
            steps = before.supernet_steps + larger.supernet_steps
            larger = Plan(
                steps,
                proxy_evaluations_for(steps, known[-1]),
                before.finalists + larger.finalists,
                recipe=max(before.recipe, larger.recipe, key=lambda recipe: recipe.epochs),
            )
    return larger if before is None else before.grown(larger)


def _saved_plan(settings: Settings, saved: Mapping[str, Any]) -> Plan:
    plan = dict(saved["plan"])
    if "looks" in plan:  # as older checkpoints call them
        plan["proxy_evaluations"] = plan.pop("looks")
    budget = settings.budget
    recipe = budget.recipe if isinstance(budget, Plan) else settings.recipe
    return Plan(**{**plan, "recipe": replace(recipe, **plan["recipe"])})


def _stored(plan: Plan) -> dict[str, Any]:
    """A plan in plain values, for a checkpoint; functions of its recipe come from the space."""
    return vars(plan) | {"recipe": plan.recipe.numbers()}


def _with_more(
    saved: Mapping[str, Any], plan: Plan, short: Sequence[Point], task: Task, supernet: Supernet
) -> dict[str, Any]:
    """A checkpoint from which a search goes on with a larger plan.

    The scores with inherited weights are forgotten, since the weights will change, and so are the
    results of finalists that were trained for fewer epochs than the others will be.
    """
    more = {**saved, "plan": _stored(plan)}
    if "knowledge" in saved:
        knowledge = QualityModel(supernet.choices, (), metrics_of(task))
        knowledge.resume(saved["knowledge"])
        if plan.supernet_steps > saved["plan"]["supernet_steps"]:
            knowledge.inherited.clear()
        again = {point.architecture for point in short}
        again |= {a for a, one in knowledge.stopped.items() if stopped_less(one, plan.recipe)}
        knowledge.forget_all_but({*knowledge.tried("trained")} - again)
        more |= {"knowledge": knowledge.state(), "turns": 0}
    return more


def trained_less(outcomes: Sequence[Outcome], recipe: Recipe) -> list[Point]:
    """The points of which each was trained for fewer epochs than a recipe has, and not again."""
    last = {outcome.architecture: outcome for outcome in outcomes if isinstance(outcome, Point)}
    return [p for p in last.values() if epochs_of(p, recipe) < recipe.epochs]


def stopped_less(outcome: Outcome, recipe: Recipe) -> TypeGuard[Stopped]:
    """Whether this is a training that was stopped when recipes had fewer epochs than now."""
    return isinstance(outcome, Stopped) and outcome.planned < recipe.epochs


def epochs_of(point: Point, recipe: Recipe) -> int:
    """How long a point was trained; points of older runs do not tell it."""
    epochs = point.reported.get(_Epochs.column, recipe.epochs)
    return epochs if isinstance(epochs, int) else recipe.epochs


def _seconds_of_a_step(settings: Settings, task: Task, like: Supernet) -> float:
    """Seconds of a step of the supernet, measured on another one."""
    supernet = settings.space.supernet(settings.seed).to(settings.device)
    leave_out(supernet, _left_out_by(like, supernet))
    training = WeightTraining(supernet, task, settings.space.recipe, steps=24, seed=settings.seed)
    clocks = [settings.clock.gone()]
    for _ in training.run():
        clocks.append(settings.clock.gone())
        if len(clocks) > 6 and clocks[-1] - clocks[0] > TRIAL_SECONDS:
            break
    return (clocks[-1] - clocks[3]) / (len(clocks) - 4)
