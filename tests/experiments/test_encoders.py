"""Three encoders under the same two tasks, on a small budget."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.timeout(240)  # the first optimizer loads half of torch


@pytest.fixture(scope="module")
def encoders(experiment):
    return experiment("conflict/encoders")


def small(encoders, **changes):
    few = {"methods": (encoders.PLAIN,), "ratios": (0.3,)}
    few |= {"rates": (1e-2,), "seeds": 1, "steps": 3, "batch": 10, "look_every": 2}
    few |= {"csv": None, "layers": None, "figure": None}
    return encoders.Settings(**(few | changes))


def test_encoders_have_about_as_many_weights_and_equally_many_features(encoders):
    images, sizes = torch.randn(3, 1, 18, 18), []
    for make in encoders.ENCODERS.values():
        network = make()
        assert network(images).shape == (3, encoders.FEATURES)
        sizes.append(sum(p.numel() for p in network.parameters()))
    assert max(sizes) < 1.1 * min(sizes)


def test_recurrent_encoders_read_from_the_top_or_upwards(encoders):
    images = torch.randn(2, 1, 18, 18)
    changed = images.clone()
    changed[:, :, 6:8] += 1  # the fourth two rows of nine
    for upwards, before in ((False, 3), (True, 5)):
        network = encoders.Recurrent(upwards)
        states = [network.rows(network.read(seen))[0].unbind(1) for seen in (images, changed)]
        same = [one.equal(other) for one, other in zip(*states, strict=True)]
        assert same == [True] * before + [False] * (9 - before)


def test_every_weight_belongs_to_a_layer_with_a_name(encoders):
    from paretonas.conflict import Layers

    names = {}
    for name, make in encoders.ENCODERS.items():
        network = make()
        layers = Layers.of(network.named_parameters(), encoders.layer_of)
        assert sum(layers.sizes) == sum(p.numel() for p in network.parameters())
        names[name] = layers.names
    assert names == {
        "perceptron": ("first", "last"),
        "convolutional": ("first", "second", "third", "last"),
        "recurrent": ("input", "recurrent", "last"),
        "recurrent, upwards": ("input", "recurrent", "last"),
    }


def test_each_encoder_is_its_own_yardstick(encoders):
    rows = [
        ("perceptron", "single-task", 10.0, np.nan),
        ("perceptron", "single-task", np.nan, 50.0),
        ("recurrent", "single-task", 20.0, np.nan),
        ("recurrent", "single-task", np.nan, 40.0),
        ("perceptron", "plain sum", 12.0, 50.0),
        ("recurrent", "plain sum", 20.0, 20.0),
        ("recurrent", "x 0.3", 20.0, 10.0),
    ]
    frame = pd.DataFrame(rows, columns=["encoder", "method", "test_left", "test_right"])
    frame = frame.assign(seed=0, valid_left=frame["test_left"], valid_right=frame["test_right"])
    judged = encoders.judged(frame)
    np.testing.assert_allclose(judged["delta_m_test"].iloc[4:7], [10, -25, -37.5])
    tuned = judged[judged["method"] == encoders.TUNED].set_index("encoder")["delta_m_test"]
    assert tuned.to_dict() == pytest.approx({"perceptron": 10, "recurrent": -37.5})


def test_everything_is_trained_and_shown_again(encoders, tmp_path, capsys, shown_again):
    files = {"csv": tmp_path / "rows.csv", "layers": tmp_path / "layers.csv"}
    figure = tmp_path / "figure.svg"
    settings = replace(
        small(encoders, **files, figure=figure), encoders=("recurrent", "perceptron")
    )
    frame = encoders.main([], settings)
    told = capsys.readouterr().out
    counts = frame.groupby("encoder")["method"].value_counts().unstack()
    assert counts.eq({"single-task": 2, encoders.PLAIN: 1, "x 0.3": 1, encoders.TUNED: 1}).all(
        axis=None
    )
    several = frame[frame["method"] != encoders.ALONE]
    assert np.isfinite(several[["test_left", "test_right", "delta_m_test"]]).all(axis=None)
    layers = pd.read_csv(files["layers"])
    assert set(layers["step"]) == {0, 2}
    assert layers["cosine"].abs().max() <= 1
    assert layers.groupby("encoder")["layer"].nunique().to_dict() == {
        "perceptron": 3, "recurrent": 4,
    }  # fmt: skip
    shown_again(encoders, settings, told)


def test_the_page_tells_what_the_committed_rows_say(encoders):
    settings = encoders.Settings()
    frame, layers = pd.read_csv(settings.csv), pd.read_csv(settings.layers)
    page = settings.figure.with_name("encoders.md").read_text()
    groups = encoders.compared(frame).groupby(["method", "encoder"])["delta_m_test"]
    for method in {*settings.methods, encoders.TUNED}:
        cells = [groups.get_group((method, encoder)) for encoder in settings.encoders]
        told = [f"{round(v.median())} ({round(v.min())} to {round(v.max())})" for v in cells]
        assert f"\n| {method} | {' | '.join(told)} |" in page
    harm = groups.median()[encoders.PLAIN]
    assert harm["convolutional"] < 0.5 * harm.drop("convolutional").min()
    whole = layers[layers["layer"] == encoders.WHOLE].groupby("encoder")["cosine"].mean()
    assert whole.abs().max() < 0.1
