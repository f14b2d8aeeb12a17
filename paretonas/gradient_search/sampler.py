"""The one-shot search as a sampler: it asks for its finalists, and is told their outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from ..nn import NetworkSpace
from ..objectives import DifferentiableObjective, MeasuredMetric, MeasuredObjective, TrainedMetric
from ..point import Outcome
from ..problem import Problem
from ..space import Architecture, size
from .phases import Batch, Phases, all_phases
from .plan import SUPERNET_SHARE, Plan, proxy_evaluations_for
from .settings import Settings

__all__ = ["OneShotSearch"]


class OneShotSearch:
    """The gradient search of `paretonas.search`, for comparisons with other samplers.

    The steps that train the supernet count as evaluations, as many as that many steps would train;
    the rest of the budget goes into finalists.

    Args:
        problem: on a space of networks; its objectives are `TrainedMetric` and others that are
            differentiable, or only measured.
        seed: of all random numbers.

    Attributes:
        proxy_evaluations: architectures scored with inherited weights.
        weight_steps: training steps of the supernet.
        weight_evaluations: how many evaluations these steps count as.

    Raises:
        ValueError: the space has no networks, or an objective cannot be searched so.
    """

    def __init__(self, problem: Problem, *, seed: int = 0) -> None:
        if not isinstance(problem.space, NetworkSpace):
            raise ValueError(
                f"search trains networks, and {problem.space.name!r} has none; other methods work "
                "on tables and on spaces without networks"
            )
        errors = [o for o in problem.objectives if isinstance(o, TrainedMetric)]
        costs = [
            o
            for o in problem.objectives
            if isinstance(o, DifferentiableObjective | MeasuredObjective)
        ]
        metrics = [o for o in problem.objectives if isinstance(o, MeasuredMetric)]
        others = [o.column for o in problem.objectives if o not in [*errors, *metrics, *costs]]
        if others or not errors:
            raise ValueError(
                "search improves the metrics of trained networks, and beside them objectives with "
                f"a relaxed form or a measurement; got {', '.join(others) or 'no error'}"
            )
        if problem.limited:
            raise ValueError(
                f"search can limit objectives only; minimize {problem.limited[0].column} as well"
            )
        self.proxy_evaluations = self.weight_steps = self.weight_evaluations = 0
        self._problem, self._seed = problem, seed
        self._space, self._error, self._costs = problem.space, errors[0], costs
        self._phases: Phases | None = None
        self._budget = 0  # not known yet
        self._outcomes: Sequence[Outcome] | None = None

    def __repr__(self) -> str:
        return f"OneShotSearch({self._problem})"

    def plan(self, budget: int) -> None:
        """Divide a budget, in evaluations, between the supernet and the finalists.

        Raises:
            ValueError: the budget leaves nothing for either.
        """
        if budget < 2:
            raise ValueError(
                "search needs a budget of 2 evaluations or more, one for the supernet and one for "
                f"a finalist, got {budget}"
            )
        self._budget = budget

    def ask(self) -> list[Architecture]:
        """The next finalists; nothing once the plan is done."""
        if self._phases is None:
            self._phases = self._begun()
        outcomes, self._outcomes = self._outcomes, None
        try:
            step = self._phases.send(outcomes)
            while not isinstance(step, Batch):
                step = next(self._phases)
        except StopIteration:
            return []
        self.proxy_evaluations, self.weight_steps = step.proxy_evaluations, step.weight_steps
        self.weight_evaluations = self._supernet_evaluations
        return list(step.architectures)

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What the finalists turned out to be."""
        self._outcomes = list(outcomes)

    def _begun(self) -> Phases:
        if not self._budget:
            raise RuntimeError("the search has no budget yet: call plan(budget) first")
        lacks = [m.column for m in self._error.metrics if m.column not in self._problem.columns]
        if lacks:
            raise ValueError(
                f"search needs all metrics of the task as objectives, {', '.join(lacks)} is "
                "missing: add TrainedMetric(...).others()"
            )
        steps = self._supernet_evaluations * self._error.steps()
        plan = Plan(
            steps,
            proxy_evaluations_for(steps, size(self._space.choices)),
            self._budget - self._supernet_evaluations,
            self._error.recipe,
        )
        return all_phases(
            Settings.of(
                self._space,
                objectives=self._costs,
                constraint=self._problem.constraint,
                budget=plan,
                seed=self._seed,
                device=self._error.device,
                finalists="fresh",  # as every method's are
            )
        )

    @property
    def _supernet_evaluations(self) -> int:
        """How many evaluations the steps of the supernet count as."""
        return max(1, round(SUPERNET_SHARE * self._budget))
