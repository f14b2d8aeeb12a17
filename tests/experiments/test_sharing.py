"""One encoder or two kept close, on a small budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from paretonas.multitask import TaskGradients
from paretonas.solvers import LinearScalarization, UPGrad

pytestmark = pytest.mark.timeout(240)  # the first optimizer loads half of torch


@pytest.fixture(scope="module")
def sharing(experiment):
    return experiment("conflict/sharing")


def small(sharing, **changes):
    few = {"problems": (sharing.COLLECTIONS,), "solvers": ("plain sum", "UPGrad")}
    few |= {"weights": (0.01, 1.0), "rates": (1e-2,), "seeds": 1, "steps": 4, "batch": 10}
    few |= {"look_every": 2, "csv": None, "figure": None}
    return sharing.Settings(**(few | changes))


def weighted(weight):
    three = torch.tensor([1.0, 1.0, weight], dtype=torch.float64) / (2 + weight)
    return lambda generator: LinearScalarization(three)


def test_few_images_are_labeled_and_all_are_held_out_whole(sharing):
    places, collections = (sharing.data_of(p) for p in (sharing.PLACES, sharing.COLLECTIONS))
    assert [len(digits) for _, digits in places["train"]] == [1000, 1000]
    assert [len(digits) for _, digits in places["test"]] == [4000, 4000]
    assert [len(digits) for _, digits in collections["test"]] == [1000, 400]
    for images, digits in collections["train"]:
        assert images.shape == (len(digits), 1, 8, 8)
        assert images.mean() == pytest.approx(0, abs=1e-4)
        assert images.std() == pytest.approx(1, abs=1e-4)
    for split in ("train", "valid", "test"):
        for _, digits in collections[split]:
            assert set(digits.tolist()) == set(range(10))


def test_half_the_squared_distance_pulls_each_towards_the_other(sharing):
    one, other = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    distance = sharing.apart(one, other)
    pieces = zip(one.parameters(), other.parameters(), strict=True)
    expected = sum((p - q).square().sum() for p, q in pieces)
    assert distance.item() == pytest.approx(expected.item() / 2)
    distance.backward()
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        assert p.grad.allclose(p - q) and q.grad.allclose(q - p)


def test_without_weight_the_distance_changes_nothing(sharing):
    settings = small(sharing)
    arguments = (1e-2, 0, settings)
    plain = sharing.SOLVERS["plain sum"]
    alone = sharing.train(sharing.COLLECTIONS, sharing.SEPARATE, plain, *arguments)
    loose = sharing.train(sharing.COLLECTIONS, sharing.SOFT, weighted(1e-30), *arguments)
    assert {key: loose[key] for key in alone} == alone


def test_a_heavier_distance_keeps_encoders_closer(sharing):
    settings = small(sharing, steps=20)
    ways = [
        sharing.train(sharing.COLLECTIONS, sharing.SOFT, weighted(weight), 1e-2, 0, settings)
        for weight in (1e-3, 1e-1, 10.0)
    ]
    assert ways[0]["apart"] > ways[1]["apart"] > ways[2]["apart"] > 0
    assert ways[0]["cosine_tasks"] == 0  # they share nothing but the distance


def test_from_one_start_a_solver_that_spares_the_smallest_gradient_never_leaves(sharing):
    mgda = sharing.SOLVERS["MGDA"]
    found = sharing.train(sharing.COLLECTIONS, sharing.SOFT, mgda, 1e-2, 0, small(sharing))
    assert found["apart"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_direction_without_conflict_takes_encoders_no_further_apart(sharing, seed):
    torch.manual_seed(seed)
    one, other = (sharing.encoder_of(sharing.COLLECTIONS, 1) for _ in range(2))
    other.load_state_dict({k: v + 0.01 * torch.randn_like(v) for k, v in one.state_dict().items()})
    images = torch.randn(20, 1, 8, 8)
    losses = [one(images).sum(), -other(images).sum(), sharing.apart(one, other)]
    shared = [*one.parameters(), *other.parameters()]
    gradients = TaskGradients(shared, heads=[[], [], []])
    gradients.add(losses)
    row = torch.cat([g.flatten() for g in gradients.rows[2]])
    pieces = zip(*gradients.rows[:2], strict=True)
    plain = torch.cat([(a if a is not None else b).flatten() for a, b in pieces])
    step = gradients.resolve(UPGrad()).vector
    assert step @ row >= -1e-6 * step.norm() * row.norm()
    assert plain @ row < 0  # while the sum of the tasks does pull them apart


def test_everything_is_trained_and_shown_again(sharing, tmp_path, capsys, shown_again):
    csv, figure = tmp_path / "rows.csv", tmp_path / "figure.svg"
    settings = small(sharing, seeds=2, csv=csv, figure=figure)
    frame = sharing.main([], settings)
    told = capsys.readouterr().out
    assert frame.groupby(["method", "seed"]).size().eq(1).all()
    assert np.isfinite(frame[["delta_m_valid", "delta_m_test", "apart"]]).all(axis=None)
    by_method = frame.groupby("method")
    assert by_method["delta_m_test"].mean()[sharing.SEPARATE] == pytest.approx(0, abs=1e-3)
    assert by_method["apart"].max()[[sharing.HARD, "hard, UPGrad"]].eq(0).all()
    for _, seed in frame.groupby("seed"):
        grid = seed[seed["method"].str.startswith("weight ")]
        tuned = seed[seed["method"] == sharing.SOFT_TUNED]
        assert tuned["delta_m_valid"].item() == grid["delta_m_valid"].min()
    shown_again(sharing, settings, told)


def test_the_page_tells_what_the_committed_rows_say(sharing):
    settings = sharing.Settings()
    frame = pd.read_csv(settings.csv)
    page = settings.figure.with_name("sharing.md").read_text()
    places = frame[frame["problem"] == sharing.PLACES].groupby("method")
    for method, values in places["delta_m_test"]:
        if not method.startswith("weight "):
            told = f"{round(values.median())} ({round(values.min())} to {round(values.max())})"
            assert f"\n| {method} | {told} |" in page
    delta, apart = places["delta_m_test"].median(), places["apart"].max()
    assert delta[sharing.SOFT_TUNED] < 5 < delta[sharing.HARD]
    assert apart[["soft, UPGrad", "soft, NashMTL"]].max() < 0.01 < apart[sharing.SOFT_TUNED]
    assert apart["soft, MGDA"] == 0
