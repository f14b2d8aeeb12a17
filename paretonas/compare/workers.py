"""Many runs, each a method with a seed, side by side in processes of one thread."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import torch

from paretonas._own_code import OwnFile, imported_files, load_all
from paretonas._threads import threads
from paretonas.compare.folder import Record, RunJournal
from paretonas.front import Front
from paretonas.point import FAILING, Point
from paretonas.problem import Problem
from paretonas.samplers import Failure, Ledger, Outcome, sample
from paretonas.samplers.base import Maker
from paretonas.space import Architecture

Begun = Mapping[Architecture, tuple[Outcome, float]]  # what is known, and its seconds
# What processes read when they begin: one thread each, and modules of the current folder, which may
# be somebody else's, do not stand before those of Python.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
}


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

    def run(self, method: str, seed: int, begun: Begun) -> Record | Broken:
        """One run, as far as it has not begun before; an exception breaks it."""
        try:
            return self._run(method, seed, begun)
        except FAILING as error:  # of whatever kind: the other runs go on
            reason = f"{type(error).__name__}: {error}"
            return Broken(method, seed, reason.encode("utf-8", "backslashreplace").decode())

    def _journal(self, folder: Path, method: str, seed: int) -> RunJournal:
        return RunJournal(folder, method, seed, self.problem.maximize)

    def _run(self, method: str, seed: int, begun: Begun) -> Record:
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
            journal=journal,
            known=known,
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
    job: Job, pairs: Sequence[tuple[str, int]], jobs: int | None = None
) -> Iterator[Record | Broken]:
    """Run each method with each seed, and yield each run when it ends, in whatever order.

    Those that have ended before come first, from disk. An interruption stops all processes; what
    has ended, and each evaluation so far, is on disk if the job has a folder.

    Args:
        job: what the runs share.
        pairs: methods and seeds.
        jobs: how many processes; None runs all in this one, 0 none.
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
    before = {process.pid for process in multiprocessing.active_children()}
    with _environment_of_processes():
        pool = ProcessPoolExecutor(
            min(jobs, len(waiting)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(imported_files(), pickle.dumps(job)),
        )
        try:
            futures = {pool.submit(_work, *pair, begun): pair for pair, begun in waiting.items()}
            yield from _as_they_end(futures)
        except BaseException:
            for process in multiprocessing.active_children():
                if process.pid not in before:
                    process.terminate()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _as_they_end(
    futures: Mapping[Future[Record | Broken], tuple[str, int]],
) -> Iterator[Record | Broken]:
    # Not by `wait`: it holds the locks of all futures for a while, and an interruption at that
    # moment leaves them locked, so that the pool could never end.
    ended: SimpleQueue[Future[Record | Broken]] = SimpleQueue()
    for future in futures:
        future.add_done_callback(ended.put)
    for _ in futures:
        future = ended.get()
        try:
            yield future.result()
        except BrokenProcessPool:
            yield Broken(*futures[future], "its process died, perhaps for want of memory")


_job: Job | None = None  # of this worker, received once instead of with every run


def _begin(files: Sequence[OwnFile], job: bytes) -> None:
    global _job
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that began them all ends them
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    torch.set_num_threads(1)
    load_all(files)  # before what is of their classes is unpickled
    _job = pickle.loads(job)  # of the process that began this one


def _end_with_the_parent() -> None:
    # If it was killed, nobody else would: the runs would go on beside those that take their place.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(method: str, seed: int, begun: Begun) -> Record | Broken:
    assert _job is not None
    return _job.run(method, seed, begun)


@contextmanager
def _environment_of_processes() -> Iterator[None]:
    """New processes get theirs; this process's is put back."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
