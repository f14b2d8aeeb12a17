"""Two losses on one recurrent network: whose gradient comes from which row, on a small budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from paretonas.gradients.differentiate import differentiate


@pytest.fixture(scope="module")
def through_time(experiment):
    return experiment("conflict/through_time")


@pytest.fixture
def small(through_time, tmp_path):
    return through_time.Settings(
        problems=("slant, then digit",),
        methods=("mean", "UPGrad by step", "late loss cut after 7 rows"),
        gated_methods=("mean",),
        ratios=(1.0, 10.0),
        rates=(4e-3,),
        seeds=2,
        steps=3,
        batch=8,
        look_every=2,
        look_batch=20,
        folder=tmp_path,
        figure=tmp_path / "figure.svg",
    )


@pytest.fixture(params=["plain", "gated"])
def read(request, through_time):
    """A reader of two seeds, a few sequences and their answers."""
    problem = through_time.PROBLEMS["slant, then digit"]
    split = through_time.sequences(problem)["valid"]
    inputs = split.inputs[:6].expand(2, -1, -1, -1)
    answers = [answer[:6].expand(2, -1) for answer in split.answers]
    return through_time.Reader(request.param, range(2), problem), inputs, answers


@pytest.mark.parametrize("name", ["slant, then digit", "digit, then next digit"])
def test_sequences_hold_the_first_digit_whole_and_no_image_is_in_two_splits(through_time, name):
    from search_spaces.images import mnist_5k

    problem = through_time.PROBLEMS[name]
    data, seen = through_time.sequences(problem), set()
    for split in data:
        sequences, images = data[split], getattr(mnist_5k(), split)
        assert sequences.inputs.shape == (len(images), 14 + problem.rows_between, 14)
        first = torch.nn.functional.avg_pool2d(images.inputs, 2).squeeze(1)
        assert sequences.inputs[:, :14].equal(first)
        own = {image.numpy().tobytes() for image in first}
        assert seen.isdisjoint(own)
        seen |= own
        if problem.late == "digit":
            assert sequences.answers[1].equal(images.labels)


def test_a_plain_cell_is_that_of_torch(through_time):
    cell = through_time.Cell([3], 5, 4, 1)
    torchs = torch.nn.RNNCell(5, 4)
    with torch.no_grad():
        torchs.weight_ih.copy_(cell.into[0].T)
        torchs.weight_hh.copy_(cell.across[0].T)
        torchs.bias_ih.zero_(), torchs.bias_hh.zero_()
    seen, state = torch.randn(2, 5), torch.randn(2, 4)
    assert_close(cell(seen[None], state[None], list(cell.parameters()))[0], torchs(seen, state))


def gradients(through_time, reader, losses):
    """The jacobian of each seed with respect to the cell."""
    parameters = list(reader.cell.parameters())
    rows, _ = differentiate([loss.sum() for loss in losses], parameters)
    return through_time.by_seed(rows, parameters)


def test_contributions_of_the_rows_add_up_to_the_gradients(through_time, read):
    reader, inputs, answers = read
    parts = through_time.by_step(reader, inputs, answers)
    losses = [through_time.loss(*each) for each in zip(reader(inputs), answers, strict=True)]
    whole = gradients(through_time, reader, losses)
    assert parts.shape == (2, 21, *whole.shape[1:])
    assert_close(parts.sum(1), whole, rtol=1e-4, atol=1e-6)
    assert parts[:, 14:, 0].abs().max() == 0  # the early loss knows nothing of later rows
    assert parts[:, :14].abs().sum((1, 3)).min() > 0


def test_a_cut_late_loss_has_the_contributions_of_the_last_rows_only(through_time, read):
    reader, inputs, answers = read
    parts = through_time.by_step(reader, inputs, answers)
    losses = [through_time.loss(*each) for each in zip(reader(inputs, 7), answers, strict=True)]
    early, late = gradients(through_time, reader, losses).unbind(1)
    assert_close(early, parts[:, :, 0].sum(1), rtol=1e-4, atol=1e-6)
    assert_close(late, parts[:, -7:, 1].sum(1), rtol=1e-4, atol=1e-6)


def test_each_seed_is_trained_as_if_alone(through_time, small):
    problem, method = through_time.PROBLEMS["slant, then digit"], through_time.METHODS["mean"]
    two, _ = through_time.train(problem, "plain", method, 4e-3, small)
    one, _ = through_time.train(problem, "plain", method, 4e-3, replace(small, seeds=1))
    pd.testing.assert_frame_equal(two.iloc[:1], one, rtol=1e-3)


def test_gradients_vanish_or_explode_with_distance(through_time):
    norms = through_time.lengths_by_distance(range(2), images=8)
    last = norms[norms["distance"] == 196].groupby("network")["length"].median()
    assert (norms.loc[norms["distance"] == 0, "length"] == 1).all()
    assert last["plain, weights x 0.8"] < 1e-12
    assert last["plain, weights x 2"] > 1e6
    assert last["gated, told to keep"] > 1e3 * last["gated (GRU)"]
    assert 1e-6 < last["plain, orthogonal"] < 1


@pytest.mark.deep
def test_training_writes_what_is_shown_again(through_time, small, capsys, shown_again):
    rows = through_time.main([], small)
    told = capsys.readouterr().out
    numbers = ["test_early", "test_late", "delta_m_valid", "delta_m_test"]
    assert np.isfinite(rows[numbers]).all(axis=None)
    assert rows.groupby(["problem", "cell", "method", "seed"]).size().eq(1).all()
    grid = rows[rows["method"].isin(["mean", "weights 1 : 10"]) & (rows["cell"] == "plain")]
    best = grid.groupby("seed")["delta_m_valid"].min()
    tuned = rows[rows["method"] == through_time.TUNED].set_index("seed")["delta_m_valid"]
    np.testing.assert_allclose(tuned, best)
    shown_again(through_time, small, told)


@pytest.fixture
def rows(through_time):
    return pd.read_csv(through_time.HERE / "through_time.csv")


def test_the_page_says_what_the_rows_say(through_time, rows):
    own = rows[(rows["problem"] == "slant, then digit") & (rows["cell"] == "plain")]
    table = through_time.summary(own)
    page = (through_time.PAGES / "through-time.md").read_text()
    for name in ("mean", "tuned weights", "UPGrad", "MGDA", "IMTLG", "NashMTL", "MGDA by step"):
        cells = " | ".join(table.loc[name, ["early", "late", "delta-m"]])
        assert f"| {cells} |" in page, name
    assert (table.loc[["MGDA", "IMTLG", "NashMTL"], "better than mean"] == "5/5").all()


def test_angles_are_wider_apart_far_back(through_time, rows):
    steps = pd.read_csv(through_time.HERE / "through_time_steps.csv")
    own = steps[(steps["problem"] == "slant, then digit") & (steps["cell"] == "plain")]
    strength = own.assign(cosine=own["cosine"].abs()).groupby("row")["cosine"].mean()
    assert strength[1] == pytest.approx(0.53, abs=0.01)
    assert strength[14] == pytest.approx(0.12, abs=0.01)
