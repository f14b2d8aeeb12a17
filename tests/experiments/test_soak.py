"""Searches and comparisons that are stopped again and again lose nothing and end with the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "soak.py"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.deep
def test_nothing_is_lost_whatever_stops_a_search_or_a_comparison():
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", str(SCRIPT)]
    command += ["--quick", "--stops", "60"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    *rows, last = result.stdout.splitlines()
    counts = {(row["job"], row["stop"]): row["stops"] for row in map(json.loads, rows)}
    assert len(counts) == 9 and min(counts.values()) > 1, counts
    assert sum(counts.values()) >= 20, last
