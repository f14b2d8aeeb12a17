"""What the finalists of a search turned out to be."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from torch import nn

from ..dominance import at_limit
from ..front import Front
from ..objectives.base import ComparedObjective
from ..objectives.calibration import rank_correlation
from ..point import FAILING, Cell, Failure, Lost, Outcome, Point, Stopped
from ..space import Architecture
from ..tasks.passes import batch_count
from .budgets import epochs_of, stopped_less, trained_less
from .clock import Pace
from .fault import shared_fault, untrained_fault
from .halving import Bar
from .measured_limits import unmet, verdict
from .model import Model
from .plan import ALPHA_TIME, WEIGHTS_TIME, Plan, full_training, in_words
from .setup import Setup
from .step import Step

TOGETHER = 0.5  # of the time after the last finalist: to measure points together
MOST_TOGETHER = 24  # points
LOADING = 1 / 24  # of a budget in seconds: to load them for that, if the front is no larger


class Results:
    """The points and failures of the finalists.

    Args:
        setup: what all phases share.
        model: learns from each outcome.

    Attributes:
        points: every point, in the order of measuring.
        measures: whether the search itself measures its finalists, and not a caller.
    """

    def __init__(self, setup: Setup, model: Model) -> None:
        self.points: list[Point] = []
        self.measures = True
        self._setup, self._model, self._knowledge = setup, model, model.knowledge
        self._run = setup.settings.run
        self._lost: set[Architecture] = set()
        self._loading: float | None = None  # seconds to load one network

    @property
    def tried(self) -> int:
        """How many finalists there were for all epochs of the plan, failures included."""
        return len(self._knowledge.trained) + len(self._knowledge.failed["trained"])

    @property
    def paid(self) -> int:
        """How many trainings for all epochs could have been had for what all finalists took."""
        epochs = sum(stopped.epochs for stopped in self._knowledge.stopped.values())
        return self.tried + math.ceil(epochs / self._setup.plan.recipe.epochs)

    @property
    def together(self) -> float:
        """Seconds in which all points are loaded and measured together."""
        return self._seconds + self._setup.settings.clock.kept

    @property
    def _seconds(self) -> float:
        return TOGETHER * self._setup.settings.clock.closing

    def keep_time(self) -> None:
        """Keep the seconds that it will take to load the points that are measured together.

        A large network takes long to be written as a file: one is loaded to tell it.
        """
        clock = self._setup.settings.clock
        if self._loading is None:
            self._loading, begun = 0.0, clock.gone()
            for architecture in [*self._knowledge.inherited][:1] if self._compared() else []:
                with suppress(*FAILING):  # if it fails at the end, it is told there
                    self._compare([self._setup.supernet.extract(architecture)], seconds=0.0)
                    self._loading = clock.gone() - begun
        most = self._most_together() if self.measures else 0
        clock.kept = self._loading * most

    def _most_together(self) -> int:
        """How many points are measured together: the front, and others that may belong to it."""
        most, clock = MOST_TOGETHER, self._setup.settings.clock
        if clock.timed and self._loading:
            most = min(most, int(LOADING * clock.seconds / self._loading))
        return max(len(self._setup.report.front), most)

    def beyond(self) -> set[Architecture]:
        """The architectures of the points that are beyond a limit."""
        satisfied = self._setup.settings.constraint.satisfied
        return {p.architecture for p in self.points if not satisfied(p.objectives)}

    def set_bar(self, group: Sequence[Architecture], finished: Sequence[Point]) -> None:
        """Say what a group of finalists must promise at a rung, if trainings are stopped early.

        Args:
            group: will be trained.
            finished: all points before the group.
        """
        setup, halving = self._setup, self._setup.settings.early_stopping
        if halving is not None:
            satisfied = setup.settings.constraint.satisfied
            trained = [p for p in finished if p.architecture in self._knowledge.trained]
            rivals = [p for p in trained if satisfied(p.objectives)]
            setup.trained.stopping = Bar(
                halving, setup.trained.recipe, self._knowledge, trained, rivals, group
            )

    def epochs(self, outcome: Outcome) -> int:
        """How long a finalist was trained."""
        recipe = self._setup.plan.recipe
        if isinstance(outcome, Stopped):
            return outcome.epochs
        return epochs_of(outcome, recipe) if isinstance(outcome, Point) else recipe.epochs

    def resume(self) -> list[Outcome]:
        """Take up what the run has recorded.

        Returns:
            What was measured after the checkpoint. The search will choose these batches once more.
        """
        recorded = self._run.outcomes() if self._run else []
        if self._run:  # what a damaged line held is not known any more, and may be trained again
            self._knowledge.forget_all_but({outcome.architecture for outcome in recorded})
        later: list[Outcome] = []
        picks = len(self._setup.supernet.choices)
        self._setup.report.finalists = 0
        last = {outcome.architecture: outcome for outcome in recorded}
        recipe = self._setup.plan.recipe
        short = trained_less(recorded, recipe)
        for outcome in recorded:
            if outcome is not last[outcome.architecture]:
                continue  # it was trained again, for longer
            stopped = isinstance(outcome, Stopped) and (
                outcome.architecture in self._knowledge.stopped or stopped_less(outcome, recipe)
            )
            if stopped or outcome.architecture in self._knowledge.failed["trained"]:
                self._count(outcome)
            elif outcome.architecture in self._model.failed() or len(outcome.architecture) < picks:
                continue  # an option is found to be to blame once more
            elif isinstance(outcome, Point) and outcome.architecture in self._knowledge.trained:
                self._learn(outcome)
                self._enter(outcome)
            elif outcome in short:
                self._enter(outcome)
            else:
                later.append(outcome)
        return later

    def show(self, outcome: Outcome) -> Step:
        """Learn from an outcome, and put a point on the front if it belongs there."""
        report = self._setup.report
        if isinstance(outcome, Stopped):
            self._knowledge.stopped[outcome.architecture] = outcome
            self._count(outcome)
            return report.step("finalists", message=str(outcome))
        if isinstance(outcome, Failure):
            self._knowledge.failed["trained"][outcome.architecture] = outcome.reason
            self._lost |= {outcome.architecture} if isinstance(outcome, Lost) else set()
            self._count(outcome)
            return report.step("finalists", message=f"set aside {outcome}")
        self._learn(outcome)
        entered = self._enter(outcome)
        if self._run:
            self._run.write_front(report.front)
        verdict = "is on the front" if entered else "is not on the front"
        return report.step(
            "finalists", objectives=outcome.objectives, message=f"{outcome.id} {verdict}"
        )

    def blame(self, failed: Sequence[Architecture]) -> Generator[Step, None, None]:
        """Set aside the options for which finalists have failed."""
        setup, trained = self._setup, self._knowledge.trained
        for architecture in failed:
            # What has ended another process would end this one.
            if not setup.left_out(architecture) and architecture not in self._lost:
                found = untrained_fault(
                    setup.supernet, setup.task, architecture, trained, seed=setup.settings.seed
                )
                yield from setup.blame("finalists", found)
        if failed:
            found = shared_fault(setup.supernet, trained, self._knowledge.failed["trained"])
            yield from setup.blame("finalists", found)

    def begin_repair(self) -> Step:
        """Measure the points together, before the last finalists are chosen by what they have."""
        setup, model = self._setup, self._model
        trouble = ""
        if setup.settings.clock.left() > self.together:
            trouble = self._measure_together()
        if self._run:
            self._run.write_front(setup.report.front)
        model.repairs = True
        limits, held = setup.settings.constraint, len(self.points) - len(self.beyond())
        told = f"{held} of {len(self.points)} networks meet {limits} as measured"
        now = setup.measured_limits.by_table(self.points)
        if now != limits:
            now = replace(now, limits={c: float(f"{x:.4g}") for c, x in now.limits.items()})
            told += f"; further ones are chosen within {now} by table"
        step = setup.report.step("finalists", message="; ".join(filter(None, [trouble, told])))
        model.save()
        return step

    def end(self, pace: Pace | None) -> Step:
        """Write the front and the supernet's weights; say how far to trust the results.

        Args:
            pace: of the finalists, if the budget is one of seconds.
        """
        report, constraint = self._setup.report, self._setup.settings.constraint
        trouble = self._measure_together()
        if self._run:
            self._run.write_front(report.front)
            self._run.save_weights("supernet", self._setup.supernet.state_dict())
            if constraint:
                self._run.tell(limits=verdict(self.points, constraint))
            failures = len(self._knowledge.failed["trained"])
            stopped = {"stopped": len(self._knowledge.stopped)}
            self._run.tell(
                ledger={
                    "evaluations": len(self._run.evaluations()) + failures,  # each training
                    "failures": failures,
                    **(stopped if self._setup.settings.early_stopping else {}),
                    "proxy_evaluations": self._model.proxy_evaluations,
                    "weight_steps": self._model.training.done,
                }
            )
        reasons = [*self._knowledge.failed["trained"].values()]
        some = bool(self.points) or not reasons
        trust = self._trust() if some else f"all finalists failed: {reasons[0]}"
        guessing = self._setup.guessing
        doubt = guessing.remark(report.front) if guessing else ""
        last_words = filter(
            None, [trouble, self._limits(), doubt, self._stopped(), self._shortened(pace), trust]
        )
        return report.step("finalists", message="; ".join(last_words))

    def _measure_together(self) -> str:
        """Measure the best points once more, alternately, so that their order can be trusted.

        Returns:
            Why that was not possible, if it was not.
        """
        setup, front = self._setup, self._setup.report.front
        # Those of the front first; the others may take their places.
        points = [*front, *(p for p in self.points if p.architecture not in front)]
        points = points[: self._most_together()]
        if not self._compared() or not points or not self.measures:
            return ""
        later: dict[Architecture, Point] = {}
        try:
            found = self._compare([self._network(point) for point in points], self._seconds)
            for point, told in zip(points, found, strict=True):
                later[point.architecture] = point.with_values(told)
            for point in later.values():
                point.check_objectives(front.objectives)
        except FAILING as error:  # what was measured before stays
            reason = Failure.of(points[0].architecture, error).reason
            return f"the points could not be measured together: {reason}"
        self.points = [later.get(point.architecture, point) for point in self.points]
        if self._run:
            self._run.keep_values(self.points)
        front = setup.report.front = Front(front.objectives, front.maximize)
        for point in self.points:
            if setup.settings.constraint.satisfied(point.objectives):
                front.add(point)
        return ""

    def _compared(self) -> list[ComparedObjective]:
        objectives = self._setup.evaluation.objectives
        return [one for one in objectives if isinstance(one, ComparedObjective)]

    def _compare(self, networks: Sequence[nn.Module], seconds: float) -> list[dict[str, Cell]]:
        """What all compared objectives measure, for each network."""
        told: list[dict[str, Cell]] = [{} for _ in networks]
        for objective in self._compared():
            example = self._setup.trained.example()
            found = objective.measure_all(networks, example, seconds=seconds)
            for own, values in zip(told, found, strict=True):
                own.update(values)
        return told

    def _network(self, point: Point) -> nn.Module:
        """The trained network of a point, or one with the same operations."""
        network = self._setup.supernet.extract(point.architecture)
        if self._run:
            network.load_state_dict(self._run.weights(point.id))
        return network

    def _learn(self, point: Point) -> None:
        values = tuple(point.objectives[m.column] for m in self._knowledge.metrics)
        self._knowledge.trained[point.architecture] = values

    def _enter(self, point: Point) -> bool:
        """Put a point on the front, in the place of one that was trained for fewer epochs."""
        self._count(point)
        front, satisfied = self._setup.report.front, self._setup.settings.constraint.satisfied
        others = [p for p in self.points if p.architecture != point.architecture]
        again = len(others) < len(self.points)
        self.points = [*others, point]
        entered = satisfied(point.objectives) and front.replace(point)
        if again:  # what the shorter training had dominated may come back
            for other in others:
                if satisfied(other.objectives):
                    front.add(other)
        return entered

    def _count(self, outcome: Outcome) -> None:
        """Count the weight steps of a finalist, whether it failed or not."""
        self._setup.report.finalists += self.epochs(outcome) * batch_count(self._setup.task)

    def _limits(self) -> str:
        """What a second measurement may find on the other side of a limit; or what is nearest."""
        front, constraint = self._setup.report.front, self._setup.settings.constraint
        if not constraint or not self.points:
            return ""
        if not len(front):
            return unmet(self.points, constraint)
        ties = [point.id for point in front if at_limit(point, constraint)]
        verb = "is" if len(ties) == 1 else "are"
        return f"{', '.join(ties)} {verb} within the spread of a limit" if ties else ""

    def _stopped(self) -> str:
        """How many trainings were stopped early."""
        stopped = len(self._knowledge.stopped)
        return (
            f"{stopped} of {self.tried + stopped} trainings were stopped early" if stopped else ""
        )

    def _shortened(self, pace: Pace | None) -> str:
        """What budget would train the finalists for all epochs of the recipe, if this one did not.

        With a budget in seconds, the trained groups tell how long that takes.
        """
        setup = self._setup
        recipe, whole = setup.plan.recipe, setup.settings.recipe
        if recipe.epochs >= whole.epochs or isinstance(setup.settings.budget, Plan):
            return ""
        if pace is None:
            budget = f"{full_training(whole, batch_count(setup.task))}steps"
        else:
            share = 1 - WEIGHTS_TIME - ALPHA_TIME
            group = pace.group * whole.epochs / recipe.epochs
            finalists = math.ceil(4 / pace.workers) * (group + pace.turn)
            budget = in_words(1.1 * (setup.planned + finalists / share))
        epochs = "1 epoch" if recipe.epochs == 1 else f"{recipe.epochs} epochs"
        return (
            f"the finalists were trained for {epochs} instead of {whole.epochs}; --budget {budget} "
            "trains them fully"
        )

    def _trust(self) -> str:
        """How well the table ranks what was measured."""
        pairs = [
            (float(point.reported["latency_table_ms"]), point.objectives["latency_ms"])
            for point in self.points
            if "latency_table_ms" in point.reported
        ]
        correlation = rank_correlation(*np.array(pairs).T) if len(pairs) > 2 else math.nan
        if not pairs:
            return ""  # no objective is timed
        if math.isnan(correlation):
            return "too few finalists to compare table and measured latency"
        return (
            "rank correlation of table and measured latency over "
            f"{len(pairs)} finalists: {correlation:.2f}"
        )
