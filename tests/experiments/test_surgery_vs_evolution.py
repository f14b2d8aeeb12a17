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
        shared = experiment("samplers/surgery_vs_evolution")
        module = experiment(f"samplers/{name}")
        case = shared.Case(lambda data: tiny(), ("ms",), budget=27, slow_budget=12)
        known = {"tiny": case, "nb201_edgegpu": case}
        for one in (shared, module):
            monkeypatch.setattr(one, "cases", lambda: known)
        # Processes of their own would not know the table above.
        monkeypatch.setattr(module, "compare", lambda *a, **k: compare(*a, **{**k, "jobs": None}))
        monkeypatch.setattr(sys, "argv", [name, "--data", "none", "--tables", "tiny", *arguments])
        module.main()

    return run


def test_it_writes_scores_and_what_each_method_needs(run, tmp_path, capsys):
    run("surgery_vs_evolution", "--out", str(tmp_path), "--methods", "surgery", "random",
        "--seeds", "2", "--tables", "tiny", "nb201_edgegpu")  # fmt: skip
    scores = pd.read_csv(tmp_path / "surgery_vs_evolution.csv")
    marks = scores[scores.table == "tiny"].groupby("method").evaluations.apply(list).to_dict()
    assert marks == {"surgery": [10], "random": [10, 24]}
    assert (scores.worst <= scores["mean"]).all() and (scores["mean"] <= 1).all()
    reach = pd.read_csv(tmp_path / "surgery_vs_evolution_reach.csv")
    needed = reach.fillna({"of_the_mean": np.inf}).groupby(["table", "method"]).of_the_mean
    assert needed.apply(lambda n: n.is_monotonic_increasing).all()
    assert reach.groupby("method").budget.first().to_dict() == {"surgery": 12, "random": 27}
    assert (reach.of_the_mean.fillna(0) <= reach.budget).all()
    assert reach[reach.method == "random"].of_the_mean.notna().all()  # it measured everything
    for picture in ("surgery.svg", "surgery-others.svg"):
        assert (tmp_path / picture).stat().st_size > 1000


def test_a_method_that_is_none_is_refused_before_anything_runs(run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run("surgery_vs_evolution", "--out", str(tmp_path), "--methods", "surgery", "nsga22")
    assert "invalid choice: 'nsga22'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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
    told = capsys.readouterr().out
    assert told.count("| no presence | ") == 1
    assert "±" not in told  # one seed has no spread


def test_evaluations_to_a_target_are_counted_from_one(experiment):
    shared = experiment("samplers/surgery_vs_evolution")
    assert shared.first(np.array([0.1, 0.95, 0.99]), 0.95) == 2
    assert shared.first(np.array([0.1, 0.2]), 0.95) is None
    assert shared.median([3, None, 5]) == 5 and shared.median([None, None, 5]) is None


def test_the_page_shows_the_tables_that_were_written(experiment):
    page = (Path(__file__).parents[2] / "docs" / "surgery.md").read_text()
    for table in experiment("samplers/surgery_tables").tables():
        assert table in page
    variants = experiment("samplers/surgery_variants")
    assert variants.together(pd.read_csv(variants.HERE / "surgery_variants.csv")) in page
