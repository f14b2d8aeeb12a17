"""Projection that goes too far, on a small budget, and what its certificate says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def stalled(experiment):
    return experiment("conflict/stalled_axis")


def test_off_all_others_keeps_what_no_other_gradient_has(stalled, rng):
    jacobian = torch.randn(3, 7, generator=rng, dtype=torch.float64)
    left = []
    for i in range(3):
        others = np.delete(jacobian.numpy(), i, axis=0)
        fit = np.linalg.lstsq(others.T, jacobian[i].numpy(), rcond=None)[0]
        left.append(jacobian[i].numpy() - others.T @ fit)
    direction = stalled.OffAllOthers()(jacobian)
    np.testing.assert_allclose(direction.vector.numpy(), np.mean(left, axis=0), atol=1e-12)
    # It gives each gradient what is left of it and nothing else, so that it conflicts with none.
    np.testing.assert_allclose(
        (jacobian @ direction.vector).numpy(), [row @ row / 3 for row in left], atol=1e-12
    )
    assert direction.certificate.smallest_cosine > 0


def test_two_gradients_that_agree_stand_still(stalled):
    direction = stalled.OffAllOthers()(torch.tensor([[1.0, 2.0], [2.0, 4.0]]))
    assert direction.vector.abs().max() < 1e-6
    assert direction.certificate.stationarity_gap > 0.6  # though far from stationary


def test_the_clients_share_no_image_and_have_their_digits(stalled):
    clients = stalled.Clients.of(0)
    assert clients.inputs.shape[0] == 3 and clients.inputs.shape[2] == 65
    images = [image.numpy().tobytes() for image in clients.inputs.flatten(0, 1)]
    assert len(set(images)) == len(images)
    assert (clients.labels[:2] < 5).all() and (clients.labels[2] >= 5).all()


def test_a_weighted_mean_is_never_shorter_than_the_gap_and_priority_gives_others_nothing(stalled):
    clients = stalled.Clients.of(0)
    make = stalled.STEPPED_BY["SGD"]
    mean = stalled.seen_in(clients, make, stalled.SOLVERS[stalled.PLAIN](), 12)
    assert (mean["length"] >= mean["gap"] - 1e-9).all()
    first = stalled.seen_in(clients, make, stalled.SOLVERS["PriorityProjection"](), 12)
    assert first["unlike"].max() < 0  # so that the projection acts
    assert first["smallest_cosine"].abs().max() < 1e-6 and first["gap"].min() > 0.1
    off = stalled.seen_in(clients, make, stalled.SOLVERS["off all others"](), 12)
    assert (off["length"] < 0.8 * off["gap"]).all() and off["smallest_cosine"].min() > 0


@pytest.mark.timeout(240)
def test_all_is_measured_and_shown_again(stalled, tmp_path, capsys, shown_again):
    settings = stalled.Settings(
        seeds=1, steps=3, csv=tmp_path / "rows.csv", figure=tmp_path / "figure.svg"
    )
    rows = stalled.main([], settings)
    told = capsys.readouterr().out
    assert len(rows) == 8 and rows.notna().all(axis=None)
    shown_again(stalled, settings, told)


def test_the_written_rows_say_what_the_page_says(stalled):
    rows = pd.read_csv(stalled.Settings().csv)
    own = rows[rows["optimizer"] == "SGD"].set_index(["solver", "seed"])
    low = own["error_low"].unstack(0)
    assert (low["off all others"] > low["UPGrad"] + 4).all()
    assert own.loc["PriorityProjection", "error_high"].min() > 50
    off = own.loc["off all others", ["relative_length", "gap"]].median()
    assert off["relative_length"] < off["gap"]
