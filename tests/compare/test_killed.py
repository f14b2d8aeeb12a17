"""A comparison may be killed at any moment, also while it goes on: nothing found is lost."""

import os
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from pathlib import Path
import pandas as pd
import torch
from paretonas.compare import compare
from paretonas.problem import Problem
from paretonas.table import Table

torch.set_num_threads(1)
room = Path(sys.argv[1])
rows = [
    {"a": a, "b": b, "c": c, "error": (a * 7 + b * 3 + c * 5) % 13 + a, "ms": a + b + c + a * b % 3}
    for a in range(5) for b in range(5) for c in range(5)
]
table = Table.from_pandas(pd.DataFrame(rows), ["a", "b", "c"], ["error", "ms"])

class Slow:
    column = "error"

    def exact(self, architecture):
        time.sleep(0.002)
        return table.objectives[0].exact(architecture)

def go(folder, budget=60):
    problem = Problem(table, [Slow(), table.objectives[1]])
    found = compare(problem, ["random", "local"], budget=budget, seeds=1, folder=folder)
    found.evaluations().to_csv(f"{folder}.csv", index=False)

def known():
    lines = [
        (path.name.split(".")[0], line.partition(b"}")[0])
        for path in room.glob("out/runs/*.jsonl")
        for line in path.read_bytes().split(b"\\n")[:-1]
        if b'"architecture"' in line
    ]
    return len({*lines})

go(room / "out", 20)  # a comparison that ended, and goes on with more
most = known()
assert most == 40

def look():
    global most
    now = known()
    assert now >= most, (now, most)
    most = now

kills = kill_often(lambda: go(room / "out"), look, first=0.03, longer=1.0, most=int(sys.argv[2]))
if kills == int(sys.argv[2]):
    go(room / "out")
go(room / "whole")
assert (room / "out.csv").read_bytes() == (room / "whole.csv").read_bytes()
print(kills)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("most", [30, pytest.param(200, marks=pytest.mark.deep)])
def test_no_line_is_lost_however_often_it_is_killed(tmp_path, killed, most):
    assert killed(PROGRAM, tmp_path, most) >= 10
    left = {path.name for path in Path(tmp_path / "out").iterdir() if path.name[0] != "."}
    assert left == {"compare.json", "runs"}
