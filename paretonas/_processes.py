"""Processes that do tasks side by side; one that dies or is too slow costs its own task alone."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import torch

from paretonas._own_code import imported_files, load_all

START = "spawn"  # a forked process could not use CUDA, nor OpenMP with several threads
STARTS = 3  # processes in a row that end before they get a task, after which no more are started
LOOK = 0.5  # seconds between two looks at whether a process lives
PATIENCE = 3.0  # seconds that a process gets to end by itself
# What processes read when they begin: one thread each, and modules of the current folder, which may
# be somebody else's, do not stand before those of Python.
_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONSAFEPATH": "1",
}


class Line:
    """What a process tells the one that began it, while it works.

    Args:
        connection: to that process.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def begin(self, what: object) -> None:
        """Something begins that counts for the time limit."""
        _send(self._connection, "begins", what)

    def end(self, found: object) -> None:
        """It has ended; the time limit stands until something else begins."""
        _send(self._connection, "ended", found)

    def alone(self) -> None:
        """Wait until no other process works; this time does not count for the limit."""
        _send(self._connection, "waits", None)
        _receive(self._connection)


Work = Callable[[Any, Line], Any]
"""Does a task in another process: from a message and the line to what comes of it."""


class Task(Protocol):
    """A task for another process, as the process that gives it sees it."""

    def message(self) -> object:
        """What the other process gets."""
        ...

    def begins(self, what: Any) -> None:
        """What `Line.begin` told."""
        ...

    def ended(self, found: Any) -> None:
        """What `Line.end` told."""
        ...

    def lost(self, why: str, seconds: float, *, late: bool) -> object | None:
        """What comes of the task if its process is gone; None: it is given to another process.

        Args:
            why: the cause.
            seconds: that were spent since `Line.begin`.
            late: whether it was ended, since it took longer than the time limit.
        """
        ...


T = TypeVar("T", bound=Task)


@dataclass(eq=False)
class _Worker(Generic[T]):
    process: BaseProcess
    connection: Connection
    task: T | None
    ready: bool = False
    waits: bool = False  # to be alone
    since: float | None = None  # when something began that counts for the time limit
    spent: float = 0.0  # seconds on it before

    @property
    def seconds(self) -> float:
        """What it has spent on what has begun."""
        return self.spent + (0.0 if self.since is None else time.monotonic() - self.since)

    def begin(self, spent: float = 0.0) -> None:
        self.since, self.spent = time.monotonic(), spent

    def pause(self) -> None:
        self.spent, self.since = self.seconds, None

    def go_on(self) -> None:
        self.waits = False
        self.begin(self.spent)
        _send(self.connection, "alone", None)


class Crew(Generic[T]):
    """Processes of one thread each. A context manager: at its end no process is left.

    They end with the process that began them, however it ends, and so do the processes that they
    have begun themselves. There are exceptions: on systems other than Linux one waits until its
    operation at hand lets other threads run, on Windows the processes of a process stay, and so
    does one anywhere that has left its group by `os.setsid`.

    Args:
        work: does a task there; it is pickled once.
        count: how many processes at the most.
        limit: seconds from `Line.begin` on, after which a process is ended.
    """

    def __init__(self, work: Work, count: int, limit: float | None = None) -> None:
        self._work, self._count = pickle.dumps(work), count
        self._limit = math.inf if limit is None else limit
        self._workers: list[_Worker[T]] = []
        self._failed_starts = 0

    def __enter__(self) -> Crew[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            until = time.monotonic() + PATIENCE
            for worker in self._workers:
                with suppress(OSError):  # that it is dead is as good
                    _send(worker.connection, "end", None)
            for worker in self._workers:
                worker.process.join(max(0.0, until - time.monotonic()))
        while self._workers:
            self._end(self._workers[-1])

    def results(self, tasks: Iterable[T]) -> Iterator[tuple[T, Any]]:
        """Do the tasks, and yield each with what came of it, in whatever order they end.

        Raises:
            RuntimeError: the processes cannot be started, or cannot load the work.
        """
        waiting = deque(tasks)
        while waiting or any(worker.task is not None for worker in self._workers):
            self._hand_out(waiting)
            for worker in self._heard_or_late():
                task = worker.task
                assert task is not None
                try:
                    done = self._listen(worker, task)
                except (EOFError, OSError):
                    done = self._lost(worker, task)
                if done is _GIVE_AGAIN:
                    waiting.appendleft(task)
                elif done is not _GOES_ON:
                    yield task, done

    def _hand_out(self, waiting: deque[T]) -> None:
        at_work = [worker for worker in self._workers if worker.task is not None]
        if at_work and all(worker.waits for worker in at_work):
            with suppress(OSError):  # that it is dead is noticed next
                at_work[0].go_on()
            return
        if any(worker.waits for worker in at_work):
            return  # no new task before each of them was alone
        while waiting and len(at_work) < self._count:
            idle = (worker for worker in self._workers if worker.task is None)
            # One that has died since its last task is no fault of the next.
            alive = (worker for worker in idle if worker.process.exitcode is None)
            worker = next(alive, None) or self._start()
            worker.task = waiting.popleft()
            at_work.append(worker)
            if worker.ready:
                with suppress(OSError):
                    _send(worker.connection, "task", worker.task.message())

    def _heard_or_late(self) -> list[_Worker[T]]:
        """The workers that have told something, have died, or are too late."""
        at_work = [worker for worker in self._workers if worker.task is not None]
        left = min((self._left(worker) for worker in at_work), default=math.inf)
        told = wait([worker.connection for worker in at_work], min(LOOK, max(0.0, left)))
        return [
            worker
            for worker in at_work
            if worker.connection in told
            or self._left(worker) <= 0
            or worker.process.exitcode is not None  # also if a child of it holds its connection
        ]

    def _listen(self, worker: _Worker[T], task: T) -> object:
        """What came of the task, if a worker has told it.

        Raises:
            EOFError: the worker is dead or too late.
            RuntimeError: it cannot load the work.
        """
        if not worker.connection.poll():
            raise EOFError
        kind, content = _receive(worker.connection)
        match kind:
            case "here":
                _send(worker.connection, "work", (imported_files(), self._work))
            case "ready":
                worker.ready, self._failed_starts = True, 0
                _send(worker.connection, "task", task.message())
            case "begins":
                worker.begin()
                task.begins(content)
            case "ended":
                worker.pause()
                task.ended(content)
            case "waits":
                worker.pause()
                worker.waits = True
            case "done":
                worker.pause()
                worker.task = None
                return content
            case _:  # it cannot load the work, or do what no task may fail to do
                raise RuntimeError(content)
        return _GOES_ON

    def _lost(self, worker: _Worker[T], task: T) -> object:
        """What comes of the task of a worker that is dead or too late."""
        late = self._left(worker) <= 0 and worker.process.exitcode is None
        seconds = worker.seconds
        code = self._end(worker)
        why = f"it took longer than {self._limit:g} s" if late else _cause(code)
        if worker.ready:
            left = task.lost(why, seconds, late=late)
            return _GIVE_AGAIN if left is None else left
        self._failed_starts += 1
        if self._failed_starts == STARTS:
            raise RuntimeError(
                f"no process could be started: {why}; a script of your own needs "
                'if __name__ == "__main__": before what begins processes'
            )
        return _GIVE_AGAIN

    def _left(self, worker: _Worker[T]) -> float:
        """Seconds until a worker is too late."""
        return math.inf if worker.since is None else self._limit - worker.seconds

    def _start(self) -> _Worker[T]:
        context = multiprocessing.get_context(START)
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,))  # type: ignore[attr-defined]
        with _environment_of_processes(), _no_interruption():
            process.start()
            self._workers.append(_Worker(process, here, None))
        there.close()
        return self._workers[-1]

    def _end(self, worker: _Worker[T]) -> int | None:
        """End a process and those that it has begun; its exit code."""
        pid = worker.process.pid
        assert pid is not None
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)  # it leads a group
        worker.process.kill()
        worker.process.join()
        worker.connection.close()
        self._workers.remove(worker)
        return worker.process.exitcode


_GOES_ON, _GIVE_AGAIN = object(), object()


def _cause(code: int | None) -> str:
    """Why a process is gone, by its exit code."""
    if code is not None and code < 0:
        with suppress(ValueError):  # a signal without a name
            name = signal.Signals(-code).name
            memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
            return f"its process was ended by {name}{memory}"
    return f"its process ended with exit code {code}"


def _send(connection: Connection, kind: str, content: object) -> None:
    # Not by `send`, which would put tensors into shared memory that dies with its process.
    connection.send_bytes(pickle.dumps((kind, content)))


def _receive(connection: Connection) -> tuple[str, Any]:
    kind, content = pickle.loads(connection.recv_bytes())  # of a process that we have begun
    return kind, content


def _serve(connection: Connection) -> None:
    """The life of a process: it does one task after the other, until it is told to end."""
    _end_with_the_parent()
    torch.set_num_threads(1)
    try:
        _send(connection, "here", None)
        _, (files, pickled) = _receive(connection)
        try:
            load_all(files)  # before what is of their classes is unpickled
            work: Work = pickle.loads(pickled)
        except (Exception, SystemExit) as error:
            _send(connection, "unfit", f"no process can load this: {_told(error)}")
            return
        _send(connection, "ready", None)
        while True:
            kind, message = _receive(connection)
            if kind == "end":
                return
            try:
                done = "done", work(message, Line(connection))
                pickle.dumps(done)
            except (Exception, SystemExit) as error:
                done = "failed", _told(error)
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # closed by what has worked
                    stream.flush()
            _send(connection, *done)
    except (EOFError, OSError):  # it is not needed any more
        return


def _told(error: Exception | SystemExit) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _end_with_the_parent() -> None:
    """Lead a group of processes, and let it end when the parent does, however that ends."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    # Whoever began this ends it; its Ctrl-C is for the group of the terminal, which this leaves.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        with suppress(PermissionError):
            os.setsid()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if sys.platform == "linux":
        import fcntl

        # The system itself kills the group when the parent's end of this pipe closes. So it ends
        # also in the middle of an operation that lets no thread of Python run.
        end = parent.sentinel
        fcntl.fcntl(end, fcntl.F_SETOWN, -os.getpgid(0))
        fcntl.fcntl(end, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)

    def watch() -> None:
        parent.join()
        if hasattr(os, "killpg"):
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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


@contextmanager
def _no_interruption() -> Iterator[None]:
    """A process that begins here takes no Ctrl-C before it has left the group of the terminal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # The first start of a process begins the tracker too, and that lets Ctrl-C through again.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
