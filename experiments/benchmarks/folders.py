"""What a hundred thousand evaluations take: opening their folders, and comparing methods.

Each row is measured in a process of its own, on one thread: processor seconds, and by how much the
memory of the process grew beyond what its imports take. A run and a comparison hold the same number
of evaluations, of 8 choices and 3 objectives; those of the run have 3 reported values. In real use
each line is forced to the disk; here that is left out, since the disk is not what is measured.

    .venv/bin/python experiments/benchmarks/folders.py          # all, some minutes
    .venv/bin/python experiments/benchmarks/folders.py --quick  # 2,000 evaluations, half a minute
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np

from paretonas.compare import Comparison, compare
from paretonas.front import Front
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.runs import Run
from paretonas.space import Choice, draw

CHOICES = tuple(Choice(f"block{n}.op", tuple(f"conv{k}x{k}" for k in range(7))) for n in range(8))
COLUMNS = ("error_percent", "latency_ms", "memory_kib")


@dataclass(frozen=True)
class Plain:
    """A space that builds no networks."""

    name: str = "plain"
    choices: tuple[Choice, ...] = CHOICES


@dataclass
class Weighted:
    """A sum over the picks; it notes the memory of the process while it is asked."""

    column: str
    every: int = 0
    memory: list[float] = field(default_factory=list)
    calls: int = 0

    def __post_init__(self) -> None:
        numbers = np.random.default_rng(zlib.crc32(self.column.encode())).random((len(CHOICES), 7))
        self._weights = {
            (choice.name, option): float(number)
            for choice, row in zip(CHOICES, numbers, strict=True)
            for option, number in zip(choice.options, row, strict=True)
        }

    def exact(self, architecture: Mapping[str, str]) -> float:
        """The sum."""
        self.calls += 1
        if self.every and self.calls % self.every == 0:
            self.memory.append(resident_mb())
        return sum(self._weights[item] for item in architecture.items())


def resident_mb() -> float:
    """The memory of this process, in units of a million bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def points(count: int) -> Iterator[Point]:
    """Points as a search records them."""
    rng = Random(0)
    for number in range(count):
        values = {column: rng.random() for column in COLUMNS}
        reported = {"parameters": number, "latency_spread_ms": rng.random(), "origin": "search"}
        yield Point(draw(CHOICES, rng), values, reported, f"a{number + 1:02d}")


def problem_of(every: int = 0) -> Problem:
    """Three sums over the picks."""
    first, *others = COLUMNS
    return Problem(Plain(), [Weighted(first, every), *map(Weighted, others)])


def write(folder: Path, count: int) -> None:
    """A run and a comparison."""
    run = Run.create(folder / "run", {}, "cpu", 0)
    front = Front(COLUMNS)
    for point in points(count):
        run.record(point)
        front.add(point)
    run.write_front(front)
    compare(problem_of(), ["random"], budget=count, seeds=1, folder=folder / "compare")


def open_run(folder: Path, count: int) -> None:
    """All evaluations, and the front."""
    run = Run.open(folder / "run")
    assert len(run.evaluations()) == count and len(run.front())


def open_comparison(folder: Path, count: int) -> Comparison:
    """All evaluations."""
    found = compare(
        problem_of(), ["random"], budget=count, seeds=1, folder=folder / "compare", jobs=0
    )
    assert len(found.records["random", 0].outcomes) == count
    return found


def score(folder: Path, count: int) -> None:
    """Open the comparison and score each evaluation."""
    assert len(open_comparison(folder, count).anytime()) == count


def evaluate(folder: Path, count: int) -> None:
    """Compare, and say how the memory grew meanwhile."""
    problem = problem_of(every=count // 5)
    compare(problem, ["random"], budget=count, seeds=1, folder=folder / "again")
    print("memory by evaluation, MB:", *(f"{mb:.0f}" for mb in problem.objectives[0].memory))


WORK: Mapping[str, Callable[[Path, int], object]] = {
    "write": write,
    "open_run": open_run,
    "open_comparison": open_comparison,
    "score": score,
    "evaluate": evaluate,
}


def one(name: str, folder: Path, count: int) -> None:
    """Do one kind of work, and print what it took."""
    warnings.simplefilter("error")
    if name in ("write", "evaluate"):
        os.fsync = lambda _: None
    before, begun = resident_mb(), time.process_time()
    kept = WORK[name](folder, count)
    seconds = time.process_time() - begun
    peak = next(
        int(line.split()[1]) * 1024 / 1e6
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    print(
        f"{name}: {count} evaluations, {seconds:.2f} processor seconds, "
        f"{peak - before:.0f} MB at most"
    )
    del kept


def main() -> None:
    """Each kind of work in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, folder, count = arguments.one
        one(name, Path(folder), int(count))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in WORK:
            count = str(2000 if arguments.quick else 100_000)
            command = [sys.executable, __file__, "--one", name, folder, count]
            subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


if __name__ == "__main__":
    main()
