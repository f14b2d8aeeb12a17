"""Processes do tasks side by side; one that dies or hangs costs its own task, and none is left."""

import ctypes
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from paretonas import _processes
from paretonas._duration import time_limit
from paretonas._processes import Crew

pytestmark = [
    pytest.mark.usefixtures("quick_processes"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


@dataclass(eq=False)
class Task:
    kind: str
    place: object = None
    began: list = field(default_factory=list)
    deaths: list = field(default_factory=list)

    def message(self):
        return self.kind, self.place

    def begins(self, what):
        self.began.append(what)

    def ended(self, found):
        self.began.remove(found)

    def lost(self, why, seconds, *, late):
        assert (seconds >= 1) is late
        self.deaths.append((why, late))
        return why if late or len(self.deaths) == 2 else None


def hang(place):
    """Hold the lock of the interpreter, with a process of one's own beside."""
    with open(place, "a") as file:
        print(os.getpid(), subprocess.Popen(["sleep", "60"]).pid, file=file)
    ctypes.PyDLL(None).sleep(60)


def once(place):
    if not place.exists():
        place.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def segfault(place):
    faulthandler.disable()
    ctypes.string_at(0)


def fails(place):
    raise OSError("no luck")


def interrupted(place):
    raise KeyboardInterrupt


KINDS = {
    "exits": lambda place: os._exit(3),
    "crashes": segfault,
    "hangs": hang,
    "dies once": once,
    "is interrupted": interrupted,
    "works": lambda place: None,
}


def work(message, line):
    kind, place = message
    line.begin(kind)
    KINDS[kind](place)
    line.end(kind)
    return kind.upper()


def gone(pid):
    """Whether a process has ended, soon; its new parent may not have noticed yet."""
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def processes_of(place):
    return [int(pid) for pid in place.read_text().split()]


def test_each_task_that_ends_its_process_costs_itself_alone(tmp_path):
    hung = tmp_path / "hung"
    tasks = [Task("works") for _ in range(6)]
    tasks[1:1] = [Task("exits"), Task("crashes"), Task("dies once", tmp_path / "once")]
    tasks[5:5] = [Task("hangs", hung), Task("is interrupted")]
    before = {process.pid for process in multiprocessing.active_children()}
    with Crew(work, 2, limit=1) as crew:
        found = list(crew.results(tasks))
        again = list(crew.results([Task("works")]))  # the crew is whole
    assert {id(task) for task, _ in found} == {id(task) for task in tasks}
    assert len(found) == len(tasks)
    assert [came for _, came in again] == ["WORKS"]
    came = {task.kind: result for task, result in found}
    assert came == {
        "works": "WORKS",
        "dies once": "DIES ONCE",
        "exits": "its process ended with exit code 3",
        "crashes": "its process was ended by SIGSEGV",
        "hangs": "it took longer than 1 s",
        "is interrupted": "its process ended with exit code 1",
    }
    deaths = {task.kind: [late for _, late in task.deaths] for task in tasks}
    assert deaths["hangs"] == [True]
    assert deaths["dies once"] == [False]
    assert deaths["exits"] == deaths["crashes"] == deaths["is interrupted"] == [False, False]
    assert deaths["works"] == []
    assert {process.pid for process in multiprocessing.active_children()} == before
    assert all(map(gone, processes_of(hung)))


def test_a_process_that_dies_between_tasks_costs_none():
    first, later = Task("works"), Task("works")
    before = {*multiprocessing.active_children()}
    with Crew(work, 1) as crew:
        list(crew.results([first]))
        (process,) = {*multiprocessing.active_children()} - before
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert [came for _, came in crew.results([later])] == ["WORKS"]
    assert later.deaths == []


def test_no_process_outlives_its_parent_whatever_it_does(tmp_path):
    hung = tmp_path / "hung"

    def parent():
        with Crew(work, 2) as crew:
            list(crew.results([Task("hangs", hung), Task("hangs", hung)]))

    process = multiprocessing.get_context("fork").Process(target=parent)
    process.start()
    while process.is_alive() and not (hung.exists() and len(processes_of(hung)) == 4):
        time.sleep(0.02)
    process.kill()
    process.join()
    assert all(map(gone, processes_of(hung)))


def test_an_interruption_ends_all(tmp_path):
    hung = tmp_path / "hung"

    class Stops(Task):
        def begins(self, what):
            while not hung.exists():
                time.sleep(0.02)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Crew(work, 2) as crew:
        list(crew.results([Task("hangs", hung), Stops("hangs", hung)]))
    assert all(map(gone, processes_of(hung)))


# The first process that a program begins: the tracker of multiprocessing begins with it.
FIRST = """
import multiprocessing, os, signal
from paretonas._processes import _no_interruption

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=os.getpid)
    with _no_interruption():
        process.start()
        inside = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    process.join()
    print(signal.SIGINT in inside, signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))
"""


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs masks of signals")
def test_also_the_first_process_takes_no_interruption_while_it_begins(tmp_path):
    (tmp_path / "first.py").write_text(FIRST)
    told = subprocess.check_output([sys.executable, tmp_path / "first.py"], text=True)
    assert told.split() == ["True", "False"]


def measured(message, line):
    """Two intervals: at work beside others, and alone."""
    times = [time.monotonic()]
    time.sleep(message)
    times.append(time.monotonic())
    line.alone()
    times.append(time.monotonic())
    time.sleep(0.05)
    times.append(time.monotonic())
    return times


class Timed(Task):
    def message(self):
        return self.place


def test_who_is_alone_is_alone():
    with Crew(measured, 3) as crew:
        found = list(crew.results([Timed("", 0.02 * (i % 4)) for i in range(7)]))
    times = [result for _, result in found]
    assert len(times) == 7
    for mine in times:
        for other in times:
            if other is not mine:
                for begin, end in (other[:2], other[2:]):
                    assert end <= mine[2] or mine[3] <= begin


def waits(message, line):
    line.begin("")
    line.alone()
    time.sleep(0.3)
    return "done"


def test_waiting_to_be_alone_does_not_count_for_the_limit():
    with Crew(waits, 4, limit=1) as crew:  # the last one waits for longer than that
        found = [came for _, came in crew.results([Timed("") for _ in range(4)])]
    assert found == ["done"] * 4


def test_processes_that_cannot_begin_are_one_clear_error(monkeypatch):
    monkeypatch.setattr(_processes, "_serve", lambda connection: os._exit(7))
    with Crew(work, 2) as crew, pytest.raises(RuntimeError, match="started.*exit code 7.*__main__"):
        list(crew.results([Task("works") for _ in range(9)]))


class Unfit:
    def __call__(self, message, line):
        raise NotImplementedError

    def __reduce__(self):
        return fails, ("",)


def test_work_that_cannot_be_loaded_is_one_clear_error():
    with Crew(Unfit(), 2) as crew, pytest.raises(RuntimeError, match="load this: OSError: no luck"):
        list(crew.results([Task("works"), Task("works")]))


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), (" 1.5m ", 90), ("2h", 7200), (3, 3.0), (None, None)]
)
def test_a_time_limit_is_read(given, seconds):
    assert time_limit(given) == seconds


@pytest.mark.parametrize("given", ["", "5", "5 days", "-1s", "0s", 0, -1, float("nan"), True, []])
def test_what_is_no_time_is_refused(given):
    with pytest.raises((ValueError, TypeError), match="a time such as 90s, 10m or 1h, got"):
        time_limit(given)
