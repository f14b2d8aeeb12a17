"""Momentum, look-ahead and Adam after surgery, on a small budget; what the committed rows say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def optimizers(experiment):
    return experiment("conflict/optimizers")


@pytest.fixture
def written(optimizers):
    return pd.read_csv(optimizers.Settings().csv)


@pytest.mark.timeout(240)  # the first optimizer loads half of torch
def test_all_is_measured_and_shown_again(optimizers, tmp_path, capsys, shown_again):
    settings = optimizers.Settings(
        seeds=1, steps=6, first=1, rates=(0.1,), schedule_rates=(0.1,), schedule_steps=3,
        csv=tmp_path / "rows.csv", figure=tmp_path / "figure.svg",
    )  # fmt: skip
    rows = optimizers.main([], settings)
    told = capsys.readouterr().out
    promise = rows[rows["part"] == "promise"]
    assert len(promise) == 2 * (3 * 2 + 2 * 2 + 2)
    assert promise["uphill_percent"].between(0, 100).all()
    assert (promise["given_back_percent"] >= 0).all() and np.isfinite(promise["loss"]).all()
    plain = promise[(promise["optimizer"] == "SGD") & (promise["solver"] == "UPGrad")]
    assert (plain["uphill_percent"] == 0).all()
    assert len(rows[rows["part"] == "rate"]) == 2
    shown_again(optimizers, settings, told)


def test_the_written_rows_say_what_the_page_says(optimizers, written):
    promise = written[(written["part"] == "promise") & (written["solver"] == "UPGrad")]
    uphill = promise.pivot_table(
        "uphill_percent", ["images", "seed"], ["optimizer", "rate"], sort=False
    )
    assert uphill["SGD", 0.5].eq(0).all()
    batches = uphill[uphill.index.get_level_values("images").astype(str) == "64"]
    for rate in (0.03, 0.1, 0.3):
        assert (batches["Nesterov", rate] < batches["momentum", rate]).all()
    assert uphill["Adam", 0.01].min() > 20
    metric = written[written["solver"] == "Preconditioned(UPGrad)"]
    whole = metric[metric["images"].astype(str) == "all"]
    assert whole["uphill_percent"].max() < 5
