"""Searches and comparisons that are stopped again and again: is a point lost, is the end the same?

Each child process goes on in the folder that the one before it has left, until one ends by itself;
then its results are compared with those of a run that nothing disturbed. A child is stopped

    moment   by SIGKILL, at a random moment
    write    by SIGKILL, at a call that changes a file; half of what was to be written is there
    full     by a disk that is full, or read-only, from such a call on
    gone     by its folder, which is renamed at such a call, and gets its name back afterwards
    flip     by SIGKILL; then a random bit of its last checkpoint is flipped

A row of the result is a kind of stop of one job. `points_lost` counts lines of journals, and points
without whole weights; `equal` says whether fronts, histories, journals and weights are the same,
bit for bit, apart from seconds and dates.

    .venv/bin/python experiments/soak.py           # all, about 10 minutes
    .venv/bin/python experiments/soak.py --quick   # some of it, half a minute; writes nothing
"""

from __future__ import annotations

import argparse
import errno
import itertools
import json
import math
import os
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from paretonas.compare import compare
from paretonas.data import split
from paretonas.gradient_search import Plan, model
from paretonas.gradient_search.search import search
from paretonas.nn import Linear, NetworkSpace, OneOf, Width
from paretonas.objectives import DifferentiableObjective, Memory, Parameters, TrainedMetric
from paretonas.problem import Problem
from paretonas.runs import Run
from paretonas.samplers.methods import methods
from paretonas.space import Architecture
from paretonas.table import Table
from paretonas.training import Recipe
from search_spaces import toy

HERE = Path(__file__).parent
CHANGES = (
    "write",
    "fsync",
    "ftruncate",
    "replace",
    "mkdir",
    "unlink",
)  # of `os`: they change files
STOPS = ("moment", "write", "full", "gone", "flip")
REFUSED = 3  # the exit code of a child that could not write
_REFUSAL = re.compile("^[^\n]*(No space left|Read-only file system|is gone|No such file)[^\n]*$")

Files = Mapping[str, frozenset[bytes]]  # what journals hold, by file


@dataclass(frozen=True)
class Job:
    """What is stopped again and again.

    Attributes:
        name: in the result.
        go: begins in a folder that is not there, or goes on in it.
        known: what the journals in a folder hold.
        result: what two runs must have in common, by name.
        checkpoints: whether there are any.
        stride: how many more calls each child may make than the one before it, so that the next
            checkpoint is reached.
        period: after so many calls they begin again with one, where each evaluation counts.
        most: stops of a kind, after which the last child goes on to the end.
    """

    name: str
    go: Callable[[Path], None]
    known: Callable[[Path], Files]
    result: Callable[[Path], dict[str, object]]
    checkpoints: bool = False
    stride: int = 1
    period: int = 10**9
    most: int = 100


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all jobs with all stops; 1 if something was lost or has changed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--stops", type=int, help="of a kind, at the most; quick: 5")
    parser.add_argument("--out", type=Path, default=HERE / "soak.csv")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.optim.AdamW([nn.Parameter(torch.zeros(1))])  # its imports come once, not in each child
    most = options.stops or (5 if options.quick else None)
    rows = []
    with tempfile.TemporaryDirectory() as room:
        for job in quick_jobs() if options.quick else all_jobs():
            for row in soak(job, Path(room), most or job.most):
                print(json.dumps(row), flush=True)
                rows.append(row)
    if not options.quick:
        pd.DataFrame(rows).to_csv(options.out, index=False)
    print(f"{sum(row['stops'] for row in rows)} stops")
    return int(any(row["points_lost"] or not row["equal"] for row in rows))


def soak(job: Job, room: Path, most: int) -> Iterator[dict[str, Any]]:
    """A row for each kind of stop.

    Args:
        job: what is stopped.
        room: a folder to work in.
        most: stops of a kind, after which the last child goes on to the end.
    """
    whole, counted = room / f"{job.name}-whole", room / "calls"

    def count() -> None:
        calls = _interpose(math.inf)
        job.go(whole)
        counted.write_text(str(next(calls) - 1))

    begun = time.monotonic()
    assert _code_of(_child(count)) == 0
    seconds, calls = time.monotonic() - begun, int(counted.read_text())
    expected, points = job.result(whole), sum(map(len, job.known(whole).values()))
    for stop in STOPS if job.checkpoints else STOPS[:-1]:
        rng, folder = random.Random(stop), room / f"{job.name}-{stop}"
        begun, stops, lost = time.monotonic(), 0, 0
        known: Files = {}
        for turn in itertools.count():
            at = math.inf if turn == most else 1 + turn * job.stride % job.period
            life = math.inf if turn == most else rng.uniform(0, seconds * (0.01 + 2 * at / calls))
            ended = _stopped(job, folder, stop, at, life)
            now = job.known(folder)
            lost += sum(len(lines - now.get(name, frozenset())) for name, lines in known.items())
            known = now
            if ended:
                break
            stops += 1
            if stop == "flip":
                _flip(folder, rng)
        result = job.result(folder)
        yield {
            "job": job.name,
            "stop": stop,
            "stops": stops,
            "calls": calls,
            "points": points,
            "points_lost": lost,
            "equal": result == expected,
            "differs": " ".join(name for name in expected if result.get(name) != expected[name]),
            "seconds": round(time.monotonic() - begun, 1),
        }


def _stopped(job: Job, folder: Path, stop: str, at: float, life: float) -> bool:
    """Let a child go on until it is stopped; whether it has ended by itself.

    Args:
        job: what the child does.
        folder: where.
        stop: how it is stopped.
        at: at which call that changes a file, from 1.
        life: after how many seconds.
    """
    away = folder.with_name(f"{folder.name}.away")

    def kill(name: str, real: Callable[..., Any], arguments: Sequence[Any]) -> None:
        if name == "write":
            real(arguments[0], arguments[1][: len(arguments[1]) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    def refuse(name: str, *_: object) -> None:
        if name in ("write", "fsync", "mkdir"):
            number = errno.ENOSPC if int(at) % 2 else errno.EROFS
            raise OSError(number, os.strerror(number))

    def rename(*_: object) -> None:
        if folder.exists() and not away.exists():
            _REAL["replace"](folder, away)

    acts = {"write": kill, "full": refuse, "gone": rename, "flip": kill}

    def go() -> None:
        if stop in acts:
            _interpose(at, acts[stop], lasting=stop in ("full", "gone"))
        job.go(folder)

    child = _child(go)
    if stop == "moment" and life < math.inf:
        time.sleep(life)
        os.kill(child, signal.SIGKILL)
    code = _code_of(child)
    assert code in ((0, REFUSED) if stop in ("full", "gone") else (0, -signal.SIGKILL)), code
    if away.exists():
        assert not folder.exists(), f"{folder} was made again: {[*folder.rglob('*')]}"
        away.rename(folder)
    return code == 0


_REAL = {name: getattr(os, name) for name in CHANGES}


def _interpose(
    at: float, act: Callable[..., None] = lambda *_: None, *, lasting: bool = False
) -> Iterator[int]:
    """Call ``act`` before a call that changes a file, and before all after it if it is lasting.

    Returns:
        The number of the next call.
    """
    numbers = itertools.count(1)

    def wrapped(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            number = next(numbers)
            if number == at or (lasting and number > at):
                act(name, real, arguments)
            return real(*arguments, **options)

        return call

    for name, real in _REAL.items():
        setattr(os, name, wrapped(name, real))
    return numbers


def _child(go: Callable[[], None]) -> int:
    """Fork a child that does something; one process forks them all, which spares the imports."""
    child = os.fork()
    if not child:
        code = 1
        try:
            warnings.simplefilter("ignore")
            go()
            code = 0
        except BaseException as error:
            if isinstance(error, OSError | ValueError) and _REFUSAL.search(str(error)):
                code = REFUSED
            else:
                traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return child


def _code_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _flip(folder: Path, rng: random.Random) -> None:
    """Flip a bit of the last checkpoint, if there is one before it."""
    last, before = folder / "checkpoint.pt", folder / "checkpoint.previous.pt"
    if last.exists() and before.exists():
        content = bytearray(last.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        last.write_bytes(content)


def _lines(path: Path) -> frozenset[bytes]:
    """The whole lines of a journal, without their seconds, if there is one."""
    content = path.read_bytes() if path.exists() else b""
    return frozenset(
        line.partition(b', "seconds": ')[0]
        for line in content.split(b"\n")[:-1]
        if b'"architecture"' in line
    )


# --- searches ------------------------------------------------------------------------------------


def search_job(
    name: str,
    space: NetworkSpace,
    costs: Sequence[DifferentiableObjective],
    plan: Plan,
    stride: int,
) -> Job:
    """A search; a point counts if it is in the journal, and its weights are whole."""

    def go(folder: Path) -> None:
        run = Run.open(folder) if (folder / "run.json").exists() else None
        run = run or Run.create(folder, {}, "cpu", 0)
        for _ in search(space, objectives=costs, budget=plan, rays=3, run=run):
            pass

    def known(folder: Path) -> Files:
        lines = _lines(folder / "evaluations.jsonl")
        kept = [line for line in lines if _has_weights(folder, line)]
        return {"evaluations.jsonl": frozenset(kept)}

    def result(folder: Path) -> dict[str, object]:
        run = Run.open(folder)
        history = [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]
        weights = {p.name: p.read_bytes() for p in (folder / "weights").glob("*.safetensors")}
        return {
            "front": list(run.front()),
            "evaluations": run.outcomes(),
            "history": history,
            "weights": weights,
            "ledger": run.about["ledger"],
        }

    return Job(f"search {name}", go, known, result, checkpoints=True, stride=stride)


def _has_weights(folder: Path, line: bytes) -> bool:
    point = line.partition(b'{"id": "')[2].partition(b'"')[0].decode()
    if point:
        Run.open(folder).weights(point)  # raises if they are not there, or damaged
    return True


class Net(nn.Module):
    """Two hidden layers; 81 architectures."""

    def __init__(self) -> None:
        super().__init__()
        self.widths = nn.ModuleList([Width(2, 4, 8), Width(2, 4, 8)])
        self.first = Linear(2, self.widths[0])
        self.second = Linear(self.widths[0], self.widths[1])
        self.acts = nn.ModuleList([activation(), activation()])
        self.head = Linear(self.widths[1], 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.acts[1](self.second(self.acts[0](self.first(x))))
        y: Tensor = self.head(x)
        return y


def activation() -> OneOf:
    """A choice of three."""
    return OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh(), "none": nn.Identity()})


def rings() -> NetworkSpace:
    """Points in the plane, inside or outside of a circle; a training takes milliseconds."""
    x = torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
    data = split(x, (x.norm(dim=1) > 1.2).long(), valid=30, test=30)
    return NetworkSpace("rings", Net, lambda: data, Recipe(1, 30, 0.03))


def costs_of(space: NetworkSpace) -> tuple[Memory, Parameters]:
    """What does not have to be measured, so that it is always the same."""
    supernet, example = space.supernet(), space.load_task().example()
    return Memory.of(supernet, example), Parameters.of(supernet, example)


# --- comparisons ---------------------------------------------------------------------------------


def compare_job(
    name: str,
    problem: Problem,
    chosen: Sequence[str],
    budget: int,
    stride: int,
    period: int = 17,
    most: int = 100,
) -> Job:
    """A comparison of half the budget, which then goes on with all of it."""

    def go(folder: Path) -> None:
        about = folder / "compare.json"
        begun = about.exists() and json.loads(about.read_text())["settings"]["budget"] == budget
        for each in (budget,) if begun else (budget // 2, budget):
            if each == budget and not folder.exists():
                raise ValueError(f"{folder} is gone")
            found = compare(problem, chosen, budget=each, seeds=1, folder=folder)
            if found.broken:
                raise OSError(found.broken[0].reason)
        for table in ("anytime", "evaluations"):
            frame = getattr(found, table)()
            frame.to_csv(folder.with_name(f"{folder.name}-{table}.csv"), index=False)

    def known(folder: Path) -> Files:
        files: dict[str, frozenset[bytes]] = {}
        for path in folder.glob("runs/*.jsonl"):
            run = path.name.partition(".")[0]
            files[run] = files.get(run, frozenset()) | _lines(path)
        return files

    def result(folder: Path) -> dict[str, object]:
        tables = {
            table: folder.with_name(f"{folder.name}-{table}.csv").read_bytes()
            for table in ("anytime", "evaluations")
        }
        return {**tables, "runs": known(folder)}

    return Job(f"compare {name}", go, known, result, stride=stride, period=period, most=most)


class Slow:
    """An objective of a table that takes 2 ms, so that a kill finds it at work."""

    def __init__(self, table: Table) -> None:
        self.column, self._exact = "error", table.objectives[0].exact

    def exact(self, architecture: Architecture) -> float:
        """The value in the table."""
        time.sleep(0.002)
        return self._exact(architecture)


def table_problem() -> Problem:
    """125 architectures in a table."""
    rows = [
        {"a": a, "b": b, "c": c, "error": (a * 7 + b * 3 + c * 5) % 13 + a, "ms": a + b + a * b % 3}
        for a, b, c in itertools.product(range(5), repeat=3)
    ]
    table = Table.from_pandas(pd.DataFrame(rows), ["a", "b", "c"], ["error", "ms"])
    return Problem(table, [Slow(table), table.objectives[1]])


def network_problem() -> Problem:
    """Networks that are trained in milliseconds."""
    space = rings()
    return Problem(space, [TrainedMetric(space), costs_of(space)[0]])


# --- what is run ---------------------------------------------------------------------------------


def quick_jobs() -> Iterator[Job]:
    """A search and a comparison."""
    model.ALPHA_STEPS = 4
    space = rings()
    yield search_job("rings", space, costs_of(space), Plan(210, 4, 3, Recipe(1, 30, 0.03)), 17)
    yield compare_job("table", table_problem(), ["random", "local"], 12, 7)


def all_jobs() -> Iterator[Job]:
    """Searches on two spaces, and comparisons with every sampler."""
    space = rings()
    yield search_job("rings", space, costs_of(space), Plan(450, 12, 8, Recipe(2, 30, 0.03)), 3)
    small = NetworkSpace("toy", toy.Toy, toy.space.load_task, Recipe(1, learning_rate=1e-2))
    yield search_job("toy", small, costs_of(small), Plan(250, 8, 4, small.recipe), 6)
    yield compare_job("table", table_problem(), ["random", "local"], 60, 1)
    problem = network_problem()
    compare(problem, methods, budget=10, seeds=1)  # imports what the samplers need
    yield compare_job("rings", problem, methods, 10, 5, period=37, most=20)


if __name__ == "__main__":
    sys.exit(main())
