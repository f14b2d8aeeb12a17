"""The budgets of a run, and the plan for the last one: a run may go on with a larger budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeGuard

from ..nn import Supernet
from ..objectives import TrainedMetric
from ..point import Outcome, Point, Stopped
from ..runs import ABOUT
from ..space import size
from ..surrogates.quality_model import QualityModel
from ..tasks.passes import batch_count
from ..tasks.task import Task, metrics_of
from ..training import Recipe
from .plan import Budget, Plan, plain, proxy_evaluations_for, seconds_per_step, too_small
from .settings import Settings
from .trying import leave_out, left_out_by
from .weights import WeightTraining

TRIAL_SECONDS = 2.0  # about, to find out how long a step of the supernet takes


def budgets_of(settings: Settings) -> list[dict[str, Any]]:
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


def plan_for(
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


def stored(plan: Plan) -> dict[str, Any]:
    """A plan in plain values, for a checkpoint; functions of its recipe come from the space."""
    return vars(plan) | {"recipe": plan.recipe.numbers()}


def with_more(
    saved: Mapping[str, Any], plan: Plan, short: Sequence[Point], task: Task, supernet: Supernet
) -> dict[str, Any]:
    """A checkpoint from which a search goes on with a larger plan.

    The scores with inherited weights are forgotten, since the weights will change, and so are the
    results of finalists that were trained for fewer epochs than the others will be.
    """
    more = {**saved, "plan": stored(plan)}
    if "knowledge" in saved:
        knowledge = QualityModel(supernet.choices, (), metrics_of(task))
        knowledge.resume(saved["knowledge"])
        if plan.supernet_steps > saved["plan"]["supernet_steps"]:
            knowledge.inherited.clear()
        again = {point.architecture for point in short}
        again |= {a for a, one in knowledge.stopped.items() if stopped_less(one, plan.recipe)}
        knowledge.forget_all_but({*knowledge.tried("trained")} - again)
        more |= {"knowledge": knowledge.state(), "turns": 0, "repairs": False}
    return more


def trained_less(outcomes: Sequence[Outcome], recipe: Recipe) -> list[Point]:
    """The points of which each was trained for fewer epochs than a recipe has, and not again."""
    last = {outcome.architecture: outcome for outcome in outcomes if isinstance(outcome, Point)}
    return [p for p in last.values() if epochs_of(p, recipe) < recipe.epochs]


def stopped_less(outcome: Outcome, recipe: Recipe) -> TypeGuard[Stopped]:
    """Whether this is a training that was stopped when recipes had fewer epochs than now."""
    return isinstance(outcome, Stopped) and outcome.planned < recipe.epochs


class Epochs:
    """How many epochs a finalist was trained for: points report it."""

    column = "epochs"
    trained: TrainedMetric

    def exact(self, architecture: Mapping[str, str]) -> float:
        return self.trained.recipe.epochs


def epochs_of(point: Point, recipe: Recipe) -> int:
    """How long a point was trained; points of older runs do not tell it."""
    epochs = point.reported.get(Epochs.column, recipe.epochs)
    return epochs if isinstance(epochs, int) else recipe.epochs


def seconds_of_a_step(settings: Settings, task: Task, like: Supernet) -> float:
    """Seconds of a step of the supernet, measured on another one."""
    supernet = settings.space.supernet(settings.seed).to(settings.device)
    leave_out(supernet, left_out_by(like, supernet))
    training = WeightTraining(supernet, task, settings.space.recipe, steps=24, seed=settings.seed)
    clocks = [settings.clock.gone()]
    for _ in training.run():
        clocks.append(settings.clock.gone())
        if len(clocks) > 6 and clocks[-1] - clocks[0] > TRIAL_SECONDS:
            break
    return (clocks[-1] - clocks[3]) / (len(clocks) - 4)
