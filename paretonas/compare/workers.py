"""Many runs, each a method with a seed, side by side in processes of one thread."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from paretonas._processes import Crew, Line
from paretonas._threads import threads
from paretonas.compare.folder import Record, RunJournal
from paretonas.front import Front
from paretonas.point import FAILING, Lost, Point
from paretonas.problem import Problem
from paretonas.samplers import Failure, Ledger, Outcome, sample
from paretonas.samplers.base import Maker
from paretonas.space import Architecture

Begun = Mapping[Architecture, tuple[Outcome, float]]  # what is known, and its seconds


@dataclass(frozen=True)
class Broken:
    """A run that ended in an exception, and what it said.

    Attributes:
        method: the name of the method.
        seed: the seed of the run.
        reason: the kind of the exception and its message, in one line.
    """

    method: str
    seed: int
    reason: str


@dataclass(frozen=True)
class Job:
    """What all runs of a comparison share.

    Attributes:
        problem: what is searched.
        methods: makes the sampler of each method, by name, from the problem and a seed.
        budget: evaluations of a run.
        folder: where each run is written down, if it is.
    """

    problem: Problem
    methods: Mapping[str, Maker]
    budget: int
    folder: Path | None = None

    def finished(self, method: str, seed: int) -> Record | None:
        """What is written of a run that has ended before, with the same budget.

        Raises:
            ValueError: its points have other objectives than the problem.
        """
        if self.folder is None:
            return None
        record = self._journal(self.folder, method, seed).finished(self.budget)
        for outcome in record.outcomes if record else ():
            if isinstance(outcome, Point) and {*outcome.objectives} != {*self.problem.columns}:
                raise ValueError(
                    f"{method}, seed {seed} in {self.folder} has points with "
                    f"{', '.join(outcome.objectives)}; the objectives are "
                    f"{', '.join(self.problem.columns)}"
                )
        return record

    def begun(self, method: str, seed: int) -> Begun:
        """What is written of a run that has not ended, or has ended with a smaller budget."""
        return {} if self.folder is None else self._journal(self.folder, method, seed).begun()

    def run(
        self, method: str, seed: int, begun: Begun, line: Line | None = None
    ) -> Record | Broken:
        """One run, as far as it has not begun before; an exception breaks it.

        Args:
            method: by its name.
            seed: of the run.
            begun: what is known of it.
            line: tells another process about each evaluation.
        """
        try:
            return self._run(method, seed, begun, line)
        except FAILING as error:  # of whatever kind: the other runs go on
            return _broken(method, seed, f"{type(error).__name__}: {error}")

    def in_process(self, message: tuple[str, int, Begun], line: Line) -> Record | Broken:
        """One run, asked for by another process."""
        return self.run(*message, line)

    def lost(self, method: str, seed: int, failure: Lost, seconds: float) -> None:
        """Write down an evaluation whose process is gone."""
        if self.folder is not None:
            self._journal(self.folder, method, seed).add(failure, seconds)

    def _journal(self, folder: Path, method: str, seed: int) -> RunJournal:
        return RunJournal(folder, method, seed, self.problem.maximize)

    def _run(self, method: str, seed: int, begun: Begun, line: Line | None) -> Record:
        journal = None if self.folder is None else self._journal(self.folder, method, seed)
        columns = {*self.problem.columns}
        known = {
            architecture: outcome
            for architecture, (outcome, _) in begun.items()
            if isinstance(outcome, Failure) or {*outcome.objectives} == columns
        }
        ledger = Ledger()
        outcomes: list[Outcome] = []
        seconds: list[float] = []
        spent = 0.0
        for outcome in sample(
            self.problem,
            self.methods[method](self.problem, seed),
            Front(self.problem.columns, self.problem.maximize),
            budget=self.budget,
            ledger=ledger,
            journal=journal if line is None else _Told(journal, line),
            known=known,
            watch=None if line is None else line.begin,
        ):
            outcomes.append(outcome)
            if outcome.architecture in known:
                ledger.evaluation_seconds += begun[outcome.architecture][1]
            seconds.append(ledger.evaluation_seconds - spent)
            spent = ledger.evaluation_seconds
        if journal is not None:
            asked = {outcome.architecture for outcome in outcomes}
            spare = [pair for a, pair in begun.items() if a in known and a not in asked]
            return journal.finish(outcomes, seconds, ledger, self.budget, spare)
        return Record(method, seed, tuple(outcomes), ledger)


def run_all(
    job: Job,
    pairs: Sequence[tuple[str, int]],
    jobs: int | None = None,
    limit: float | None = None,
) -> Generator[Record | Broken, None, None]:
    """Run each method with each seed, and yield each run when it ends, in whatever order.

    Those that have ended before come first, from disk. An interruption stops all processes; what
    has ended, and each evaluation so far, is on disk if the job has a folder.

    A process that dies costs no other run. Its run is repeated with what is known of it, and so is
    the evaluation that the process died in; if another process dies in it, it has failed. So has an
    evaluation that takes longer than the limit, at once.

    Args:
        job: what the runs share.
        pairs: methods and seeds.
        jobs: how many processes; None runs all in this one, 0 none.
        limit: seconds of an evaluation, if there are processes.
    """
    waiting: dict[tuple[str, int], Begun] = {}
    for pair in pairs:
        record = job.finished(*pair)
        if record is None:
            waiting[pair] = job.begun(*pair)  # read here, where a damaged line is named
        else:
            yield record
    if not waiting or jobs == 0:
        return
    if jobs is None:
        with threads(1):
            for pair, begun in waiting.items():
                yield job.run(*pair, begun)
        return
    runs = [_Run(job, *pair, dict(begun)) for pair, begun in waiting.items()]
    with Crew[_Run](job.in_process, min(jobs, len(runs)), limit) as crew:
        for _, ended in crew.results(runs):
            yield ended


@dataclass(eq=False)
class _Run:
    """A run in another process, as this one sees it.

    Attributes:
        job: what the runs share.
        method: by its name.
        seed: of the run.
        begun: what is known of it.
        now: the architecture that is evaluated; None: the method thinks.
        died: the evaluations in which a process has died; None stands for the method.
    """

    job: Job
    method: str
    seed: int
    begun: dict[Architecture, tuple[Outcome, float]]
    now: Architecture | None = None
    died: set[Architecture | None] = field(default_factory=set)

    def message(self) -> tuple[str, int, Begun]:
        return self.method, self.seed, self.begun

    def begins(self, what: Architecture) -> None:
        self.now = what

    def ended(self, found: tuple[Outcome, float]) -> None:
        self.begun[found[0].architecture] = found
        self.now = None
        self.died.discard(None)  # the method has gone on

    def lost(self, why: str, seconds: float, *, late: bool) -> Broken | None:
        architecture, self.now = self.now, None
        if not late and architecture not in self.died:
            self.died.add(architecture)
            return None
        if architecture is None:
            return _broken(self.method, self.seed, f"{why}, twice")
        failure = Lost(architecture, why if late else f"{why}, twice")
        try:
            self.job.lost(self.method, self.seed, failure, seconds)
        except FAILING as error:  # such as a full disk
            return _broken(self.method, self.seed, f"{type(error).__name__}: {error}")
        self.begun[architecture] = failure, seconds
        return None


@dataclass(frozen=True)
class _Told:
    """The journal of a run in another process, which hears of each outcome."""

    journal: RunJournal | None
    line: Line

    def add(self, outcome: Outcome, seconds: float, network: nn.Module | None) -> Outcome:
        if self.journal is not None:
            outcome = self.journal.add(outcome, seconds, network)
        self.line.end((outcome, seconds))
        return outcome


def _broken(method: str, seed: int, reason: str) -> Broken:
    return Broken(method, seed, reason.encode("utf-8", "backslashreplace").decode())
