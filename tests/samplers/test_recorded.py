"""Surgery proposes the architectures that it proposed when `recorded.json` was written.

A change that is not meant to choose differently must not. One that is meant to, and was measured to
be no worse, writes the file again:

    .venv/bin/python tests/samplers/test_recorded.py
"""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from paretonas.cell import EdgeCell
from paretonas.front import Front
from paretonas.problem import Problem
from paretonas.samplers import Surgery, sample
from paretonas.space import Choice, encode, every
from paretonas.table import Table

RECORDED = Path(__file__).with_name("recorded.json")
LAYERS = tuple(Choice(f"layer_{i}", ("id", "mb3", "mb6")[: 2 + i % 2]) for i in range(6))
CELL = tuple(
    Choice(f"op_{a}_{b}", ("none", "skip", "conv", "pool")) for b in range(1, 4) for a in range(b)
)[1:]


def layers():
    """Two objectives that conflict in every layer."""
    worth = [0.3, 1.1, 1.9, 0.7, 1.3, 0.9]

    def costs(picks):
        good = sum(w * p**0.7 for w, p in zip(worth, picks, strict=True))
        return 40 * math.exp(-0.3 * good) + math.sin(7 * good), 1 + picks @ np.arange(1.0, 7.0)

    return Problem(table(LAYERS, costs, ("error", "ms"))), {}


def cell():
    """A known structure, failures, a logarithm, a free objective, batches."""
    ms = np.array([0.2, 0.31, 2.9, 1.07])

    def costs(picks):
        if picks[0] == picks[1] == 3:
            return math.nan, math.nan, math.nan
        good = sum(1.0 + 0.1 * i for i, p in enumerate(picks) if p == 2) + 0.3 * (picks[0] == 1)
        time = float(ms[picks] @ np.linspace(1, 1.4, 5))
        return 60 * math.exp(-0.4 * good) + 0.1 * math.cos(9 * time), time, 1.0 + 3.7 * good**2

    known = table(CELL, costs, ("error", "ms", "parameters"), EdgeCell.infer(CELL))
    return Problem(known, log=("parameters",), free=("ms",)), {"batch": 2}


def table(choices, costs, columns, structure=None):
    rows = np.array(list(product(*(range(len(c.options)) for c in choices))))
    found = np.array([costs(row) for row in rows])
    allowed = np.isfinite(found).all(1)
    return Table("made", choices, columns, tuple(every(choices)), found, allowed, structure)


def proposed(case):
    problem, settings = case()
    sampler, front = Surgery(problem, seed=0, **settings), Front(problem.columns)
    outcomes = sample(problem, sampler, front, budget=30)
    return ["".join(map(str, encode(problem.choices, o.architecture))) for o in outcomes]


@pytest.mark.parametrize("case", [layers, cell])
def test_it_proposes_what_it_proposed(case):
    assert proposed(case) == json.loads(RECORDED.read_text())[case.__name__]


if __name__ == "__main__":
    found = {case.__name__: proposed(case) for case in (layers, cell)}
    RECORDED.write_text(json.dumps(found, indent=1) + "\n")
