"""What the finalists of a search turned out to be."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np

from ..objectives.calibration import rank_correlation
from ..point import Failure, Outcome, Point
from ..space import Architecture
from .fault import shared_fault, untrained_fault
from .model import Model
from .setup import Setup
from .step import Step


class Results:
    """The points and failures of the finalists.

    Args:
        setup: what all phases share.
        model: learns from each outcome.

    Attributes:
        points: every point, in the order of measuring.
    """

    def __init__(self, setup: Setup, model: Model) -> None:
        self.points: list[Point] = []
        self._setup, self._model, self._knowledge = setup, model, model.knowledge
        self._run = setup.settings.run

    @property
    def tried(self) -> int:
        """How many finalists there were, failures included."""
        return len(self.points) + len(self._knowledge.failed["trained"])

    def resume(self) -> list[Outcome]:
        """Take up what the run has recorded.

        Returns:
            What was measured after the checkpoint. The search will choose this batch once more.
        """
        recorded = self._run.outcomes() if self._run else []
        if self._run:  # what a damaged line held is not known any more, and may be trained again
            self._knowledge.forget_all_but({outcome.architecture for outcome in recorded})
        later: list[Outcome] = []
        picks = len(self._setup.supernet.choices)
        for outcome in recorded:
            if outcome.architecture in self._knowledge.failed["trained"]:
                self._setup.report.finalist_done()
            elif outcome.architecture in self._model.failed() or len(outcome.architecture) < picks:
                continue  # an option is found to be to blame once more
            elif isinstance(outcome, Point) and outcome.architecture in self._knowledge.trained:
                self._enter(outcome)
            else:
                later.append(outcome)
        return later

    def show(self, outcome: Outcome) -> Step:
        """Learn from an outcome, and put a point on the front if it belongs there."""
        report = self._setup.report
        if isinstance(outcome, Failure):
            self._knowledge.failed["trained"][outcome.architecture] = outcome.reason
            report.finalist_done()
            return report.step("finalists", message=f"set aside {outcome}")
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
            if not setup.left_out(architecture):
                found = untrained_fault(
                    setup.supernet, setup.task, architecture, trained, seed=setup.settings.seed
                )
                yield from setup.blame("finalists", found)
        if failed:
            found = shared_fault(setup.supernet, trained, self._knowledge.failed["trained"])
            yield from setup.blame("finalists", found)

    def end(self) -> Step:
        """Write the front and the supernet's weights; say how far to trust the results."""
        report = self._setup.report
        if self._run:
            self._run.write_front(report.front)
            self._run.save_weights("supernet", self._setup.supernet.state_dict())
            self._run.tell(
                ledger={
                    "evaluations": self.tried,
                    "failures": len(self._knowledge.failed["trained"]),
                    "proxy_evaluations": self._model.proxy_evaluations,
                    "weight_steps": self._model.training.done,
                }
            )
        reasons = [*self._knowledge.failed["trained"].values()]
        some = bool(self.points) or not reasons
        trust = self._trust() if some else f"all finalists failed: {reasons[0]}"
        guessing = self._setup.guessing
        doubt = guessing.remark(report.front) if guessing else ""
        last_words = filter(None, [doubt, trust])
        return report.step("finalists", message="; ".join(last_words))

    def _enter(self, point: Point) -> bool:
        self.points.append(point)
        values = tuple(point.objectives[m.column] for m in self._knowledge.metrics)
        self._knowledge.trained[point.architecture] = values
        self._setup.report.finalist_done()
        meets = self._setup.settings.constraint.satisfied(point.objectives)
        return meets and self._setup.report.front.add(point)

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
