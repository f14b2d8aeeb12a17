"""A generator with two losses: the measures against oracles, the laws, a run on a small budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close


@pytest.fixture(scope="module")
def adversarial(experiment):
    return experiment("conflict/adversarial")


@pytest.fixture
def small(adversarial, tmp_path, monkeypatch):
    quick = adversarial.classifier
    kinds = (adversarial.convolutions, adversarial.perceptron)
    networks = {kind: quick(kind, steps=20) for kind in kinds}
    monkeypatch.setattr(adversarial, "classifier", networks.__getitem__)
    adversarial.real_moments.cache_clear()
    yield adversarial.Settings(
        compared=dict.fromkeys(
            ("completion", "perceptual mean"), ("adversary alone", "sum", "weights 10 : 1")
        ),
        seeds=2,
        steps=3,
        batch=8,
        look_every=2,
        folder=tmp_path,
        figure=tmp_path / "figure.png",
    )
    adversarial.real_moments.cache_clear()


def test_no_digit_is_in_two_splits(adversarial):
    seen: set[bytes] = set()
    for name, split in adversarial.digits().items():
        assert split.inputs.shape[1:] == (196,), name
        assert split.inputs.min() >= 0 and 0.9 < split.inputs.max() <= 1
        own = {image.numpy().tobytes() for image in split.inputs}
        assert seen.isdisjoint(own)
        seen |= own


@pytest.mark.parametrize("seed", range(5))
def test_keep_first_does_all_that_the_first_gradient_would(adversarial, seed):
    jacobian = torch.randn(40, 2, 3, generator=torch.Generator().manual_seed(seed))
    first, second = jacobian.unbind(1)
    vector = adversarial.KeepFirst()(jacobian).vector
    gained = (vector * first).sum(1)
    assert (gained >= first.square().sum(1) * (1 - 1e-4) - 1e-6).all()
    agree = (first * second).sum(1) >= 0
    assert_close(vector[agree], (first + second)[agree])
    assert_close((vector - first)[~agree].mul(first[~agree]).sum(1), torch.zeros((~agree).sum()))


def test_keep_first_is_content_with_a_zero_gradient(adversarial):
    assert_close(
        adversarial.KeepFirst()(torch.tensor([[0.0, 0.0], [1.0, 2.0]])).vector,
        torch.tensor([1.0, 2.0]),
    )


def test_the_perceptual_mean_is_feature_matching_and_a_variance(adversarial, small):
    train = adversarial.digits()["train"].inputs
    for drawn in (train[None], train[None, :50], torch.rand(1, 20, 196)):
        apart, together = (
            adversarial.other_loss(name, None, drawn, drawn, None)
            for name in ("perceptual mean", "feature matching")
        )
        variance = adversarial.perceived(drawn).var(1, correction=0).mean(1)
        assert_close(apart, together + variance)
        if drawn.shape[1] == len(train):
            assert_close(apart, torch.ones(1))
            assert_close(together, torch.zeros(1), atol=1e-6, rtol=0)


def test_neighborhoods_are_those_of_a_plain_count(adversarial):
    generator = torch.Generator().manual_seed(0)
    real, own = (torch.randn(30, 2, generator=generator) for _ in range(2))
    own = own + 1
    radius = [sorted(float((a - b).norm()) for b in real)[5] for a in real]
    inside = np.array(
        [[float((a - b).norm()) <= r for b in own] for a, r in zip(real, radius, strict=True)]
    )
    precision, coverage = adversarial.neighborhoods(own, real)
    assert precision == pytest.approx(inside.any(0).mean())
    assert coverage == pytest.approx(inside.any(1).mean())
    assert adversarial.neighborhoods(real, real) == (1.0, 1.0)
    alike = real[:1].expand(30, -1)
    assert adversarial.neighborhoods(alike, real)[1] < 0.8


def test_the_frechet_distance_of_a_shift_and_of_a_stretch_are_known(adversarial):
    points = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    assert adversarial.frechet(points, points) == pytest.approx(0, abs=1e-6)
    shift = torch.tensor([1.0, 2.0, -2.0])
    assert adversarial.frechet(points + shift, points) == pytest.approx(9, rel=1e-4)
    center = points.mean(0)
    stretched = center + 3 * (points - center)
    expected = 4 * float(points.double().T.cov().trace())
    assert adversarial.frechet(stretched, points) == pytest.approx(expected, rel=1e-4)


def test_spread_is_the_mean_distance_within_groups(adversarial):
    points = torch.tensor([[0.0], [1.0], [3.0], [10.0], [14.0]])
    everything = torch.zeros(5, dtype=torch.long)
    distances = [abs(a - b) for i, a in enumerate(points) for b in points[:i]]
    assert adversarial.spread(points, everything) == pytest.approx(float(sum(distances) / 10))
    assert adversarial.spread(points, torch.tensor([0, 0, 0, 1, 1])) == pytest.approx(3.0)


def test_completions_keep_the_half_that_was_given(adversarial):
    real = adversarial.digits()["valid"].inputs[:4].expand(2, -1, -1)
    generator = adversarial.Stack(range(2), (98 + adversarial.NOISE, 8, 98))
    drawn = adversarial.draw("completion", generator, real, None, torch.randn(2, 4, 16))
    assert drawn[..., :98].equal(real[..., :98])
    assert drawn.shape == real.shape and not drawn[..., 98:].equal(real[..., 98:])


def test_each_seed_is_trained_as_if_alone(adversarial, small):
    method = adversarial.METHODS["sum"]
    two, _ = adversarial.train("completion", method, small)
    one, _ = adversarial.train("completion", method, replace(small, seeds=1))
    pd.testing.assert_frame_equal(two.iloc[:1], one, rtol=1e-2)


def test_drawings_are_written_and_read_again(adversarial):
    drawn = adversarial.digits()["test"].inputs
    codes = adversarial.picture(drawn, "a", "b")["pixels"]
    labels = adversarial.digits()["test"].labels
    for c in range(10):
        original = drawn[labels == c][0].reshape(14, 14).numpy()
        assert np.abs(adversarial.image(codes[c]) - original).max() <= 0.5 / 15 + 1e-6


@pytest.mark.deep
def test_training_writes_what_is_shown_again(adversarial, small, capsys, shown_again):
    rows = adversarial.main([], small)
    told = capsys.readouterr().out
    assert rows.groupby(["problem", "method", "seed"]).size().eq(1).all()
    trained = rows[rows["problem"] != adversarial.REAL]
    assert np.isfinite(trained[["frechet", "coverage", "cosine"]]).all(axis=None)
    assert trained["coverage"].between(0, 1).all()
    assert trained["classes"].between(1, 10).all()
    shown_again(adversarial, small, told)


def test_the_page_says_what_the_rows_say(adversarial):
    rows = pd.read_csv(adversarial.HERE / "adversarial.csv")
    page = (adversarial.PAGES / "adversarial.md").read_text()
    shown = {
        "completion": ["pixels", "frechet", "coverage", "wrong"],
        "perceptual mean": ["frechet", "coverage", "spread", "classes"],
        "classes": ["wrong", "frechet", "coverage", "spread"],
    }
    for problem, columns in shown.items():
        for name, cells in adversarial.summary(rows[rows["problem"] == problem]).iterrows():
            assert f"| {' | '.join(cells[columns])} |" in page, (problem, name)
    medians = rows.groupby(["problem", "method"])[["pixels", "coverage", "spread"]].median()
    completion = medians.loc["completion", "pixels"]
    assert completion["PriorityProjection"] < completion[adversarial.ALONE] < completion["sum"]
    coverage = medians["coverage"]
    assert coverage["perceptual mean", "sum"] < 0.5 * coverage["feature matching", "sum"]
    assert medians.loc[("classes", "sum"), "spread"] < 0.2
