"""What the phases of a search share."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..constraint import Constraint
from ..evaluation import Evaluation
from ..nn import Supernet
from ..objectives import DifferentiableObjective, TrainedMetric
from ..point import Failure
from ..solvers import Solver
from ..space import Architecture
from ..surrogates.feasible import Feasible
from ..tasks.passes import batch_count
from ..tasks.task import Task
from .budgets import stored
from .guessing import Guessing
from .measured_limits import MeasuredLimits
from .plan import Plan
from .settings import Settings
from .step import Reporter, Step
from .trying import leave_out, record
from .weights import WeightTraining


@dataclass(eq=False)
class Setup:
    """What the phases share.

    Attributes:
        settings: of the search.
        task: with its examples on the device.
        supernet: on the device; options that do not run are set aside in it.
        tabulated: the objectives beside the metrics that are known by table.
        costs: the same; nothing below a target counts.
        limits: within which architectures are chosen by table; at first those of the settings.
        solver: with the rays as its preferences.
        rays: (r, m) preference vectors.
        feasible: says whether an architecture meets the limits on its costs.
        plan: how the budget is divided.
        evaluation: trains finalists and measures them.
        report: makes the steps.
        measured_limits: those of the limits that are on what is measured.
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
    tabulated: tuple[DifferentiableObjective, ...]
    costs: tuple[DifferentiableObjective, ...]
    limits: Constraint
    solver: Solver
    rays: Float[Tensor, "r m"]
    feasible: Feasible
    plan: Plan
    evaluation: Evaluation
    report: Reporter
    measured_limits: MeasuredLimits
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
        if self.settings.run:
            self.settings.run.tell(finalist_epochs=self.plan.recipe.epochs)

    def restrict(self, limits: Constraint) -> None:
        """Choose architectures within other limits from now on; a target moves with its limit."""
        self.limits, self.feasible = limits, self.feasible.within(limits)
        if (target := self.settings.target) is not None:
            moved = replace(target, value=limits.limits[target.column])
            self.costs = tuple(moved.aimed(self.tabulated))

    def train_for(self, epochs: int) -> None:
        """Let `evaluation` train finalists for so many epochs from now on."""
        self.trained.recipe = replace(self.plan.recipe, epochs=epochs)

    def late(self) -> bool:
        """Whether the time of the proxy evaluations is over."""
        return self.settings.clock.gone() >= self.alpha_until

    def set_aside(self, phase: str, failure: Failure) -> Step:
        """Write a failure down, if it is not there already, and show it."""
        record(self.settings.run, failure)
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
        later = ("knowledge", "alpha", "turns", "repairs")
        state = {name: self.saved[name] for name in later if name in self.saved} | state
        if self.settings.run:
            self.settings.run.save(
                {
                    "plan": stored(self.plan),
                    "budgets": self.budgets,
                    "seconds": self.settings.clock.gone(),
                    "pace": self.pace,
                    "aside": [(dict(f.architecture), f.reason) for f in self.aside],
                    "blamed": [(dict(f.architecture), f.reason) for f in self.blamed],
                    "weights": training.state(),
                    **state,
                }
            )
