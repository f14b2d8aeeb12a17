"""The comparison of surgery with evolution runs from end to end and counts right."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paretonas.compare import compare
from paretonas.table import Table


def tiny() -> Table:
    """27 architectures of which an operation more is a lower error and more time."""
    rows = [
        {"a": a, "b": b, "c": c, "error": 9.0 - 2 * a - b - 0.5 * c * b, "ms": 1.0 + a + b * b + c}
        for a, b, c in itertools.product(range(3), repeat=3)
    ]
    return Table.from_pandas(pd.DataFrame(rows), ["a", "b", "c"], ["error", "ms"])


@pytest.fixture
def run(experiment, monkeypatch):
    def run(name: str, *arguments: str) -> None:
        shared = experiment("surgery_vs_evolution")
        module = experiment(name)
        known = {"tiny": shared.Case(lambda data: tiny(), ("ms",))}
        for one in (shared, module):
            monkeypatch.setattr(one, "cases", lambda: known)
        # Processes of their own would not know the table above.
        monkeypatch.setattr(module, "compare", lambda *a, **k: compare(*a, **{**k, "jobs": None}))
        monkeypatch.setattr(sys, "argv", [name, "--data", "none", "--tables", "tiny", *arguments])
        module.main()

    return run


def test_it_writes_scores_and_what_each_method_needs(run, tmp_path, capsys):
    methods = ["--methods", "surgery", "random", "--seeds", "2", "--budget", "27"]
    run("surgery_vs_evolution", "--out", str(tmp_path), *methods)
    scores = pd.read_csv(tmp_path / "surgery_vs_evolution.csv")
    assert list(scores.evaluations.unique()) == [10, 24]
    assert (scores.worst <= scores["mean"]).all() and (scores["mean"] <= 1).all()
    reach = pd.read_csv(tmp_path / "surgery_vs_evolution_reach.csv")
    assert reach.groupby("method").of_the_mean.apply(lambda n: n.is_monotonic_increasing).all()
    assert (reach.of_the_mean <= 27).all()  # everything was measured then
    assert (tmp_path / "surgery.svg").stat().st_size > 1000


def test_variants_of_surgery_run(run, tmp_path, capsys):
    out = tmp_path / "variants.csv"
    variants = (
        *("no_alpha", "no_climbing", "as_they_are", "mgda", "batch_5"),
        *("no_presence", "normal_prior", "ridge"),
    )
    run(
        "surgery_variants", "--out", str(out), "--seeds", "1", "--budget", "16", "--only", *variants
    )
    table = pd.read_csv(out)
    assert tuple(table.variant) == variants
    assert table.after_16.between(0.5, 1).all()
    assert capsys.readouterr().out.count("| no presence | ") == 1


def test_evaluations_to_a_target_are_counted_from_one(experiment):
    shared = experiment("surgery_vs_evolution")
    assert shared.first(np.array([0.1, 0.95, 0.99]), 0.95) == 2
    assert shared.first(np.array([0.1, 0.2]), 0.95) is None
    assert shared.median([3, None, 5]) == 5 and shared.median([None, None, 5]) is None


def test_the_page_shows_the_tables_that_were_written(experiment):
    page = (Path(__file__).parents[2] / "docs" / "surgery.md").read_text()
    for table in experiment("surgery_tables").tables():
        assert table in page
