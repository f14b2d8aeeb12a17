"""Whatever an evaluation does to its process, it costs that evaluation alone."""

import ctypes
import faulthandler
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from paretonas.compare import compare
from paretonas.problem import Problem
from paretonas.samplers.random import Random
from paretonas.table import Table

pytestmark = [
    pytest.mark.usefixtures("quick_processes"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]


FAULTS = {
    "raises": lambda: 1 / 0,
    "is not a number": lambda: float("nan"),
    "sys.exit": lambda: exit(1),
    "exits": lambda: os._exit(5),
    "crashes": lambda: (faulthandler.disable(), ctypes.string_at(0)),
    "hangs": lambda: time.sleep(60),
    "lacks memory": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
REASONS = {
    "raises": "ZeroDivisionError: division by zero",
    "is not a number": "error is nan",
    "sys.exit": "SystemExit: 1",
    "exits": "its process ended with exit code 5, twice",
    "crashes": "its process was ended by SIGSEGV, twice",
    "hangs": "it took longer than 1 s",
    "lacks memory": "its process was ended by SIGKILL, perhaps for want of memory, twice",
}
KINDS = [*FAULTS, "dies once", "fine"]
ROWS = [
    {"kind": kind, "b": b, "error": 3.0 * place + b, "ms": (9.0 - place) * (5 - b)}
    for place, kind in enumerate(KINDS)
    for b in range(5)
]
TABLE = Table.from_pandas(pd.DataFrame(ROWS), ["kind", "b"], ["error", "ms"], name="faults")


@dataclass(frozen=True)
class Faulty:
    """Fails where ``b`` is 2, in the way that the kind says, or only raises."""

    room: Path | None
    column: str = "error"

    def exact(self, architecture):
        kind = architecture["kind"]
        if architecture["b"] == "2" and kind != "fine":
            once = None if self.room is None else self.room / "once"
            if kind != "dies once":
                return FAULTS["raises" if self.room is None else kind]()
            if once is not None and not once.exists():
                once.touch()
                os._exit(1)
        return TABLE.objectives[0].exact(architecture)


def compared(objective, **settings):
    problem = Problem(TABLE, [objective, TABLE.objectives[1]])
    return compare(problem, ["random", "local"], budget=45, seeds=2, **settings)


@pytest.mark.parametrize("kept", [True, False])
def test_every_fault_costs_one_evaluation_and_the_rest_is_as_without_processes(tmp_path, kept):
    folder = tmp_path / "out" if kept else None
    found = compared(Faulty(tmp_path), jobs=3, evaluation_timeout="1s", folder=folder)
    assert not found.broken
    plain = compared(Faulty(None))
    pd.testing.assert_frame_equal(found.evaluations(), plain.evaluations())
    pd.testing.assert_frame_equal(found.anytime(), plain.anytime())
    for record in found.records.values():
        reasons = {
            outcome.architecture["kind"]: outcome.reason
            for outcome in record.outcomes
            if hasattr(outcome, "reason")
        }
        assert reasons == REASONS
        assert record.ledger.failures == len(REASONS)
    if kept:  # and it is written down
        for path in folder.glob("runs/*.jsonl"):
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            told = {entry["failure"] for entry in lines if "failure" in entry}
            assert told == {*REASONS.values()}


@dataclass(frozen=True)
class Dies:
    """A method that ends its process after some evaluations."""

    room: Path | None

    def __call__(self, problem, seed):
        sampler = Random(problem, seed=seed)
        ask, asked = sampler.ask, []

        def asks():
            asked.append(1)
            if len(asked) == 4 and seed and not (self.room and (self.room / "once").exists()):
                if self.room:
                    (self.room / "once").touch()
                os._exit(9)
            return ask()

        sampler.ask = asks
        return sampler


def test_a_method_that_ends_its_process_costs_its_run(tmp_path):
    methods = {"dies": Dies(None), "once": Dies(tmp_path), "random": make_random}
    found = compare(TABLE, methods, budget=20, seeds=2, jobs=2, folder=tmp_path / "out")
    assert [(b.method, b.seed, b.reason) for b in found.broken] == [
        ("dies", 1, "its process ended with exit code 9, twice")
    ]
    assert len(found.records) == 5


def make_random(problem, seed):
    return Random(problem, seed=seed)


def test_a_time_limit_needs_processes():
    with pytest.raises(ValueError, match=r"process of its own.*jobs=1 or more"):
        compared(Faulty(None), evaluation_timeout=5)
