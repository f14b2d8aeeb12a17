"""What a search knows once the weights are trained, and what it proposes."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Set
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ..constraint import Constraint
from ..objectives import DifferentiableObjective
from ..point import FAILING, Failure
from ..probe import Probe
from ..relaxation import sizes_of
from ..space import Architecture
from ..surrogates.alpha import LEAST, AlphaStep, Scale, optimize_alpha
from ..surrogates.candidates import candidates
from ..surrogates.quality_model import Level, QualityModel
from ..tasks.task import metrics_of
from .setup import Setup
from .step import Step
from .trying import leave_out
from .weights import RECENT, WeightTraining, inherited_scores

ALPHA_STEPS = 80  # each time alpha is optimized
NEVER = -1e4  # alpha of an option that was set aside: its probability is 0


@dataclass(eq=False)
class Model:
    """The surrogates of the metrics, alpha, and the proxy evaluations behind them.

    Attributes:
        setup: what all phases share.
        training: of the supernet's weights; it has ended.
        knowledge: what is known of the metrics, and their surrogates.
        alpha: (r, K) architecture parameters, a row for each ray.
        turns: rounds of proxy evaluations that are done.
        repairs: whether finalists are chosen by what was measured, as the last ones are under a
            limit on a measured value.
    """

    setup: Setup
    training: WeightTraining
    knowledge: QualityModel
    alpha: Float[Tensor, "r K"]
    turns: int = 0
    repairs: bool = False

    @classmethod
    def of(cls, setup: Setup, training: WeightTraining) -> Model:
        """A model that knows nothing yet, or what the checkpoint says."""
        choices = setup.supernet.choices
        knowledge = QualityModel(choices, _scored_costs(setup), metrics_of(setup.task))
        alpha = torch.zeros(len(setup.rays), sum(sizes_of(choices)))
        model = cls(setup, training, knowledge, alpha)
        leave_out(setup.supernet, setup.blamed)
        if "knowledge" in setup.saved:
            knowledge.resume(setup.saved["knowledge"])
            model.alpha, model.turns = setup.saved["alpha"], setup.saved["turns"]
            model.repairs = setup.saved.get("repairs", False)  # older checkpoints have none
            for architecture in knowledge.inherited:
                model._see(architecture)
        return model

    def save(self) -> None:
        """Write a checkpoint."""
        state = {"knowledge": self.knowledge.state(), "alpha": self.alpha, "turns": self.turns}
        self.setup.save(self.training, **state, repairs=self.repairs)

    @property
    def proxy_evaluations(self) -> int:
        """How many there were; those that failed count as well."""
        return len(self.knowledge.inherited) + len(self.knowledge.failed["inherited"])

    def failed(self) -> set[Architecture]:
        """What was set aside: whole architectures, and single picks."""
        told = [*self.setup.aside, *self.setup.blamed, *(f for _, f in self.training.failures)]
        return {failure.architecture for failure in told}.union(*self.knowledge.failed.values())

    def score(self, architecture: Architecture) -> Generator[Step, None, None]:
        """A proxy evaluation: score an architecture with inherited weights; shows what fails."""
        if self.setup.left_out(architecture):
            return
        try:
            scores = self._scored(architecture)
            self._see(architecture)
            self.knowledge.inherited[architecture] = scores
        except FAILING as error:
            failure = Failure.of(architecture, error)
            self.knowledge.failed["inherited"][architecture] = failure.reason
            found = self.probe().blame(architecture, proven=self.knowledge.inherited)
            if not found:
                yield self.setup.set_aside("alpha", failure)
            yield from self.setup.blame("alpha", found)

    def probe(self) -> Probe:
        """A probe of options by their scores with inherited weights."""
        recent = [*self.knowledge.inherited][:RECENT]
        seed = self.setup.settings.seed
        return Probe(self.setup.supernet, self._scored, recent=recent, seed=seed)

    def restrict(self, limits: Constraint) -> None:
        """Choose architectures within other limits from now on."""
        if limits != self.setup.limits:
            self.setup.restrict(limits)
            self.knowledge.costs = _scored_costs(self.setup)

    def choose(
        self,
        count: int,
        level: Level,
        more: Iterable[Architecture] = (),
        beyond: Set[Architecture] = frozenset(),
    ) -> list[Architecture]:
        """Candidates that are expected to add most to the front, at most so many.

        Args:
            count: at most how many.
            level: at which they will be scored.
            more: candidates beside those of `candidates`.
            beyond: what turned out to be beyond a limit, and is not on the front.
        """
        pool = [a for a in self._untried(level, more) if self.setup.feasible(a)]
        seed = self.setup.settings.seed
        return self.knowledge.choose(pool, count, level, seed=seed, beyond=beyond)

    def nearest(self, count: int) -> list[Architecture]:
        """The candidates for a training that are least beyond the limits by table."""
        beyond = {a: self.setup.feasible.violation(a) for a in self._untried("trained", ())}
        return sorted((a for a in beyond if beyond[a] < math.inf), key=beyond.__getitem__)[:count]

    def _untried(self, level: Level, more: Iterable[Architecture]) -> list[Architecture]:
        """The candidates that were not scored at a level, and did not fail."""
        known = self.knowledge.tried(level)
        seed = self.setup.settings.seed
        pool = candidates(
            self.setup.supernet,
            self.alpha,
            self.knowledge.leaders(),
            seed=seed * 7919 + len(known),
        )
        # The names of architectures change with the options that are left.
        tried = self.failed() | {self.setup.supernet.canonical(a) for a in known}
        return [a for a in dict.fromkeys([*pool, *more]) if a not in tried]

    def optimize_alpha(self) -> Generator[Step, None, None]:
        """Fit the surrogate, and move alpha down the gradients of all objectives."""
        setup, knowledge = self.setup, self.knowledge
        knowledge.fit()
        sizes = sizes_of(setup.supernet.choices)
        for index, pick in setup.supernet.aside:
            self.alpha[:, sum(sizes[:index]) + pick] = NEVER
        scale, surrogates = Scale.over(knowledge.coordinates(setup.costs)), knowledge.surrogates
        bounds = self._bounds()
        logs = shown = torch.zeros(setup.rays.shape[1])  # the objectives

        def relaxed(p: Tensor) -> Tensor:
            nonlocal logs, shown
            metrics = [surrogate.relaxed(p) for surrogate in surrogates]
            costs = [cost.relaxed(p).clamp_min(LEAST).log() for cost in setup.costs]
            values = [
                coordinate.value(c.detach())
                for coordinate, c in zip(knowledge.scales, metrics, strict=True)
            ]
            shown = torch.stack([*values, *(c.detach().exp() for c in costs)]).mean(dim=1)
            logs = torch.stack([*metrics, *costs], dim=1)
            return scale(logs)

        def violation(_: Tensor) -> Tensor:
            return scale.excess(logs, bounds).sum(dim=1)  # of the same distributions

        known = len(knowledge.inherited) + len(knowledge.trained)
        seed = setup.settings.seed * 7919 + known
        steps = optimize_alpha(
            self.alpha,
            sizes,
            relaxed,
            setup.solver,
            steps=ALPHA_STEPS,
            seed=seed,
            violation=violation if bounds.isfinite().any() else None,
        )
        for number, step in enumerate(steps, start=1):
            self.alpha = step.alpha
            if number % (ALPHA_STEPS // 4) == 0:
                yield self._shown(step, shown)

    def _bounds(self) -> Tensor:
        """The limits on all objectives, in the coordinates of the surrogates; infinite if none."""
        limits = self.setup.limits.limits
        bounds = [
            scale(limits[scale.metric.column]) if scale.metric.column in limits else math.inf
            for scale in self.knowledge.scales
        ]
        if not self.knowledge.trained:  # what is predicted then is the loss
            bounds = [math.inf] * len(bounds)
        for cost in self.setup.costs:
            limit = limits.get(cost.column, math.inf)
            bounds.append(math.log(max(limit, LEAST)))
        return torch.tensor(bounds)

    def _scored(self, architecture: Architecture) -> tuple[float, ...]:
        """The scores of an architecture with inherited weights."""
        setup = self.setup
        return self.knowledge.proxy(inherited_scores(setup.supernet, setup.task, architecture))

    def _shown(self, step: AlphaStep, shown: Tensor) -> Step:
        objectives = dict(zip(self.setup.report.columns, shown.tolist(), strict=True))
        if not self.knowledge.trained:  # what is predicted then is the loss
            for metric in self.knowledge.metrics:
                del objectives[metric.column]
        return self.setup.report.step(
            "alpha",
            objectives=objectives,
            cosines=self.setup.report.cosines(step.cosines),
            stationarity_gap=float(step.direction.certificate.stationarity_gap.mean()),
        )

    def _see(self, architecture: Architecture) -> None:
        self.setup.report.see([cost.exact(architecture) for cost in self.setup.costs])


def _scored_costs(setup: Setup) -> tuple[DifferentiableObjective, ...]:
    """The costs that matter for what is scored next: with a target the others do not."""
    target = setup.settings.target
    return tuple(c for c in setup.costs if target is None or c.column == target.column)
