"""What the tests of comparisons share: a small table whose truth can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paretonas.table import Table

CHOICES = ["op_0_1", "op_0_2", "op_1_2"]
OPTIONS = ["conv", "pool", "skip", "none"]


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    """64 cells of three edges; where ``ok`` is false there is nothing to measure."""
    rng = np.random.default_rng(0)
    price = {"conv": 3.0, "pool": 1.5, "skip": 0.5, "none": 0.0}
    gain = {"conv": 5.0, "pool": 2.5, "skip": 1.5, "none": 0.0}
    rows = []
    for a in OPTIONS:
        for b in OPTIONS:
            for c in OPTIONS:
                picks = (a, b, c)
                rows.append(
                    {
                        **dict(zip(CHOICES, picks, strict=True)),
                        "error": 40 - sum(gain[p] for p in picks) + rng.normal(),
                        "latency_ms": 1 + sum(price[p] for p in picks) + 0.1 * rng.random(),
                        "accuracy": 60 + sum(gain[p] for p in picks),
                        "ok": b != "none" or (a != "none" and c != "none"),
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="session")
def table(frame) -> Table:
    return Table.from_pandas(frame, CHOICES, ["error", "latency_ms"], where="ok", name="small")


@pytest.fixture
def csv(frame, tmp_path) -> Path:
    path = tmp_path / "cells.csv"
    frame.to_csv(path, index=False)
    return path
