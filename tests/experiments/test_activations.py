"""Sigmoid against ReLU, on a small budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from paretonas.conflict import cosine_similarity


@pytest.fixture(scope="module")
def activations(experiment):
    return experiment("conflict/activations")


@pytest.fixture
def net(activations):
    def make(activation):
        torch.manual_seed(0)
        hidden, head = activations.layer(9, 32, activation), torch.nn.Linear(32, 4)
        return hidden, head, torch.randn(12, 9), torch.arange(12) % 4

    return make


@pytest.mark.parametrize("k", range(4))
def test_the_gradient_of_an_image_is_that_of_its_own_loss(activations, net, k):
    hidden, head, inputs, labels = net(activations.ACTIVATIONS[k])
    rows, errors, _ = activations.by_sample(hidden, head, inputs, labels)
    for i, row in enumerate(rows):
        loss = functional.cross_entropy(head(hidden(inputs[i : i + 1])), labels[i : i + 1])
        (gradient,) = torch.autograd.grad(loss, hidden[0].weight)
        torch.testing.assert_close(row, gradient.flatten())
    product = cosine_similarity(inputs) * cosine_similarity(errors)
    torch.testing.assert_close(cosine_similarity(rows), product, atol=1e-6, rtol=1e-5)


def test_without_an_active_unit_in_common_gradients_are_exactly_orthogonal(activations, net):
    hidden, head, inputs, labels = net(activations.WINNERS)
    rows, _, active = activations.by_sample(hidden, head, inputs, labels)
    assert active.sum(1).max() <= 4
    disjoint = active.float() @ active.float().T == 0
    assert disjoint.any()
    assert (cosine_similarity(rows)[disjoint] == 0).all()
    _, _, always = activations.by_sample(*net(activations.SIGMOID))
    assert always.all()


def test_winners_are_the_four_largest(activations):
    inputs = torch.tensor([[3.0, -1, 5, 4, 2, 1], [-1, -2, 0.5, -3, -4, -5]])
    kept = torch.tensor([[3.0, 0, 5, 4, 2, 0], [0, 0, 0.5, 0, 0, 0]])
    assert activations.Winners()(inputs).equal(kept)


def test_what_tasks_share_decides_the_angle(activations):
    cosines, ratios = {}, {}
    for case in activations.EXAMPLES:
        rows = activations.unit_gradients(case)
        cosines[case] = cosine_similarity(rows)[0, 1].item()
        ratios[case] = (rows[1].norm() / rows[0].norm()).item()
    assert cosines["disjoint"] == 0
    assert -1 < cosines["one shared"] < -0.1
    assert cosines["all shared"] == pytest.approx(-1)
    assert list(ratios.values()) == pytest.approx([3, 3, 3])


@pytest.mark.parametrize("method", ["UPGrad", "DualProj", "PCGrad", "MGDA", "NashMTL"])
def test_in_perfect_antagonism_a_safe_solver_stands_still_and_its_certificate_says_why(
    activations, method
):
    direction = activations.ON_UNITS[method](activations.unit_gradients("all shared"))
    assert direction.vector.norm() < 1e-6
    assert direction.certificate.stationarity_gap < 1e-6
    assert direction.certificate.rank == 1


@pytest.mark.parametrize("method", ["UPGrad", "DualProj", "PCGrad", "MGDA", "NashMTL", "IMTLG"])
@pytest.mark.parametrize("case", ["disjoint", "one shared"])
def test_elsewhere_it_moves_and_harms_nobody(activations, method, case):
    rows = activations.unit_gradients(case)
    direction = activations.ON_UNITS[method](rows)
    assert direction.vector.norm() > 0.1
    assert (rows @ direction.vector >= -1e-9).all()


def test_the_table_of_units_names_every_case(activations):
    table = activations.on_units()
    assert list(table.columns) == list(activations.EXAMPLES)
    assert (table.loc[["UPGrad", "MGDA", "NashMTL"], "all shared"] == "stands still").all()
    assert table.loc[activations.PLAIN, "all shared"].startswith("-1.00 +1.00")


@pytest.mark.parametrize("seed", range(3))
def test_gradients_vanish_through_sigmoids_and_not_through_relus(activations, seed):
    rows = pd.DataFrame(activations.layers(seed))
    norms = rows.pivot(index="layer", columns="activation", values="norm")
    assert norms.loc[1, "sigmoid"] < 1e-3 * norms.loc[10, "sigmoid"]
    for activation in ("tanh", "ReLU"):
        assert norms.loc[1, activation] > 0.1 * norms.loc[10, activation]


def test_states_of_pairs_add_up(activations):
    before, after = (
        row for row in activations.samples(0, steps=2) if row["activation"] == activations.WINNERS
    )
    for row in (before, after):
        states = [row[f"{state}_percent"] for state in ("conflict", "orthogonal", "agreement")]
        assert sum(states) == pytest.approx(100, abs=1e-3)
        assert 0 < row["disjoint_percent"] <= row["orthogonal_percent"]
        assert row["active_percent"] <= 100 * 4 / 64


def quick(activations, **changes):
    small = {"depths": (0, 1), "deep": 1, "methods": ("plain sum", "UPGrad"), "rates": (1e-2,)}
    small |= {"seeds": 1, "steps": 2, "processes": 1, "csv": None, "figure": None}
    return activations.Settings(**(small | changes))


@pytest.mark.timeout(240)
@pytest.mark.deep
def test_it_runs_and_shows_the_same_again(activations, tmp_path, capsys, monkeypatch, shown_again):
    monkeypatch.setattr(activations.samples, "__defaults__", (1,))
    csv, figure = tmp_path / "rows.csv", tmp_path / "figure.svg"
    settings = quick(activations, csv=csv, figure=figure)
    frame = activations.main([], settings)
    told = capsys.readouterr().out
    part = frame[frame["part"] == "tasks"]
    assert part.groupby(["activation", "depth", "method", "seed"]).size().eq(1).all()
    assert part["test_left"].between(0, 100).all() and part["test_right"].between(0, 100).all()
    assert (frame["part"] == "layers").sum() == 30 and (frame["part"] == "samples").sum() == 8
    alone = part[part["method"] == activations.ALONE]
    assert alone["delta_m_test"].to_numpy() == pytest.approx(0, abs=1e-9)
    shown_again(activations, settings, told)


def test_tuned_weights_are_the_best_on_valid_and_delta_m_is_against_the_mean_alone(activations):
    errors = {
        (activations.ALONE, 0): (10, 20),
        (activations.ALONE, 1): (30, 20),
        (activations.PLAIN, 0): (40, 40),
        (activations.PLAIN, 1): (20, 20),
        ("1 : 3", 0): (30, 20),
        ("1 : 3", 1): (60, 20),
    }
    rows = []
    for (method, seed), (left, right) in errors.items():
        row = {"part": "tasks", "activation": "sigmoid", "depth": 2, "method": method, "seed": seed}
        for split in ("valid", "test"):
            row |= {f"{split}_left": left, f"{split}_right": right}
        rows.append(row)
    frame = activations.judged(pd.DataFrame(rows)).set_index(["method", "seed"])
    assert frame.loc[(activations.PLAIN, 0), "delta_m_test"] == pytest.approx(100)
    assert frame.loc[(activations.TUNED, 0), "weights"] == "1 : 3"
    assert frame.loc[(activations.TUNED, 1), "weights"] == activations.PLAIN
    assert frame.loc[(activations.ALONE, 0), "delta_m_test"] == pytest.approx(-25)


def test_the_same_seed_trains_the_same_network(activations):
    settings = quick(activations)
    make = activations.METHODS["RandomWeights"]
    one, two = (activations.train("ReLU", 1, make, 1e-2, 0, settings) for _ in range(2))
    assert one == two
    assert np.isfinite(list(one.values())).all()


@pytest.fixture(scope="module")
def written(activations):
    return pd.read_csv(activations.Settings().csv)


def test_what_the_page_says_of_the_deep_task_is_what_was_written(activations, written):
    page = (activations.Settings().figure.parent / "activations.md").read_text()
    part = written[(written["part"] == "tasks") & (written["depth"] == 3)]
    right = part.pivot_table("test_right", ["activation", "seed"], "method")
    for activation in ("sigmoid", "ReLU"):
        medians = right.loc[activation].median()
        for method in (activations.PLAIN, "NashMTL", activations.ALONE):
            assert f"{medians[method]:.1f}" in page, (activation, method)
    sigmoid = right.loc["sigmoid"]
    for method in ("NashMTL", "InverseMagnitude", "UPGrad"):  # in every seed
        assert (sigmoid[method] < sigmoid[activations.PLAIN]).all()
    assert (right.loc["ReLU", activations.PLAIN] < sigmoid["NashMTL"]).all()


def test_what_the_page_says_of_shared_units_is_what_was_written(written):
    part = written[(written["part"] == "samples") & (written["step"] > 0)]
    means = part.groupby("activation").mean(numeric_only=True)
    assert means["conflict_percent"].idxmax() == "sigmoid"
    assert (part.loc[part["activation"] == "ReLU", "disjoint_percent"] == 0).all()
    assert 40 < means.loc["ReLU, 4 winners", "disjoint_percent"] < 60
