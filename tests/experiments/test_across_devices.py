"""The experiment across devices: its tables, its baselines, and what it shows."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def script(experiment):
    return experiment("search/across_devices")


@pytest.fixture(scope="module")
def cells(script, shared_data):
    frame = pd.read_parquet(shared_data / "nb201.parquet")
    return script.Cells(frame[frame["connected"]].reset_index(drop=True))


def test_the_table_of_a_device_is_its_least_squares_fit(script, cells):
    table, ms = cells.table("1080ti_1"), cells.ms("1080ti_1")
    totals = cells.totals(table)
    design = np.hstack([cells.picks, np.ones((len(ms), 1))])
    best = design @ np.linalg.lstsq(design, ms, rcond=None)[0]
    assert np.allclose(totals, best)
    assert totals[7] == pytest.approx(table.total_at(cells.cell(7)))
    assert all(float(slot.values.min()) == 0 for slot in table.slots[1:])


def test_ridge_regression_alone_finds_a_device_of_operations(script, cells):
    ms = 1.0 + cells.counts @ [0.1, 0.5, 0.2, 0.0]
    few = np.random.default_rng(0).choice(len(ms), 10, replace=False)
    assert np.allclose(script.ridge(cells.counts, few, ms[few]), ms, rtol=0.02)


def test_every_pair_has_a_row_for_each_method_and_seed(script, shared_data, tmp_path, capsys):
    settings = replace(
        script.Settings(), devices=("1080ti_1", "edgegpu"), seeds=1, csv=tmp_path / "rows.csv"
    )
    script.main(["--data", str(shared_data)], settings)
    rows = pd.read_csv(settings.csv)
    assert rows.groupby(["known", "new"])["method"].apply(set).tolist() == [{*script.METHODS}] * 2
    assert rows["rank_correlation"].between(-1, 1).all()
    shown = capsys.readouterr().out
    script.main(["--show"], settings)
    assert capsys.readouterr().out == shown
