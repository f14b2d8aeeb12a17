"""Fronts from trained networks: equal steps, and the error of what validates best."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from search_spaces.images import digits_8x8


@pytest.fixture(scope="module")
def script(experiment):
    return experiment("search/trained_networks")


def row(method, latency, valid, test, seed=0) -> dict:
    return {
        **{"data": "mnist_5k", "network": "residual", "seed": seed, "method": method},
        **{"latency_ms": latency, "original_ms": 2.0, "valid_error": valid, "test_error": test},
    }


POINTS = pd.DataFrame(
    [
        row("trained network", 2.0, 2.0, 2.5),
        row("search", 0.6, 6.0, 5.0),
        row("search", 1.0, 3.0, 4.0),
        row("search", 1.2, 2.0, 3.0),
        row("pruning", 1.2, 3.0, 2.0),
    ]
)


def test_a_curve_is_the_test_error_of_what_validates_best_within_a_latency(script):
    found = script.curves(POINTS, np.array([0.2, 0.3, 0.55, 0.6, 1.0]))
    np.testing.assert_array_equal(found["search"], [[np.nan, 5.0, 4.0, 3.0, 3.0]])
    np.testing.assert_array_equal(found["pruning"], [[np.nan, np.nan, np.nan, 2.0, 2.5]])


def test_a_method_without_a_network_at_a_latency_is_behind(script):
    table = script.summary(POINTS).set_index("method")
    assert table.loc["pruning", "30%"] == "-" and table.loc["search", "30%"] != "-"
    share = float(table.loc["pruning", "search ahead"].rstrip("%")) / 100
    assert share == pytest.approx((0.6 - 0.3) / (1 - 0.3), abs=0.01)


@pytest.mark.deep
def test_all_methods_get_equal_steps_and_nothing_runs_twice(script, tmp_path, capsys):
    pytest.importorskip("torch_pruning")
    settings = script.Settings(
        seeds=[0],
        training=(("digits", 1),),
        tuning=(("digits", 1),),
        steps=100,
        ratios=(0.5,),
        random=1,
        widths=(0.5,),
        seconds=0.1,
        csv=tmp_path / "points.csv",
        figure=tmp_path / "figure.svg",
    )
    script.run("digits", digits_8x8(), "mobile", 0, settings)
    points = pd.read_csv(settings.csv)
    assert set(points["method"]) == {"trained network", *script.METHODS}
    steps = points.groupby("method")["steps"].sum()
    batches = 16
    for method in ("pruning", "random"):
        assert 0 <= steps[method] - 100 < batches
    for method in ("uniform width", "from scratch"):
        own = points[points["method"] == method]
        assert 0 <= steps[method] - (100 + batches) < batches * len(own)
    assert steps["search"] <= 100
    original = points.loc[points["method"] == "trained network", "parameters"].item()
    assert (points.loc[points["method"] == "pruning", "parameters"] < original).all()
    script.run("digits", digits_8x8(), "mobile", 0, settings)
    assert len(pd.read_csv(settings.csv)) == len(points)
    script.draw_fronts(points, settings.figure)
    assert settings.figure.stat().st_size > 5_000
