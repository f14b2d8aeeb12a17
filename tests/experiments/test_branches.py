"""Branches on one stem, on a small budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from paretonas.conflict import cosine_similarity
from paretonas.multitask import TaskGradients
from paretonas.solvers import UPGrad


@pytest.fixture(scope="module")
def branches(experiment):
    return experiment("conflict/branches")


@pytest.fixture
def drawn(branches):
    torch.manual_seed(0)
    inputs, answers = branches.images()["train"]
    return branches.Module(2), inputs[:20], {name: answer[:20] for name, answer in answers.items()}


def jacobian(branches, network, form, inputs, answers):
    heads = [
        [*b.parameters(), *h.parameters()] if form == branches.APART else []
        for b, h in zip(network.branches, network.own, strict=True)
    ]
    gradients = TaskGradients(network.stems.parameters(), heads=heads)
    gradients.add(branches.by_branch(network, form, inputs, answers))
    return gradients.rows


def flat(row):
    return torch.cat([g.flatten() for g in row])


@pytest.mark.parametrize("which", range(3))
def test_what_comes_through_each_branch_sums_to_the_plain_gradient(branches, drawn, which):
    network, inputs, answers = drawn
    form = branches.FORMS[which]
    rows = jacobian(branches, network, form, inputs, answers)
    loss = sum(network.losses(network.stem(inputs), form, answers))
    plain = torch.autograd.grad(loss, list(network.stems.parameters()))
    torch.testing.assert_close(branches.summed(rows), flat(plain))


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("k", range(4))
def test_a_row_is_the_gradient_with_the_stem_cut_off_from_the_other_branches(
    branches, drawn, which, k
):
    network, inputs, answers = drawn
    form = branches.FORMS[which]
    rows = jacobian(branches, network, form, inputs, answers)
    seen = [z if j == k else z.detach() for j, z in enumerate(network.stem(inputs))]
    loss = sum(network.losses(seen, form, answers))
    alone = torch.autograd.grad(loss, list(network.stems.parameters()))
    torch.testing.assert_close(flat(rows[k]), flat(alone))


def test_head_and_branches_get_their_plain_gradients(branches, drawn):
    network, inputs, answers = drawn
    parameters = [*network.joined.parameters(), *network.branches.parameters()]
    (loss,) = network.losses(network.stem(inputs), branches.JOINED, answers)
    plain = torch.autograd.grad(loss, parameters)
    jacobian(branches, network, branches.JOINED, inputs, answers)
    for parameter, gradient in zip(parameters, plain, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert all(p.grad is None for p in network.stems.parameters())


def test_surgery_between_branches_still_descends_the_one_loss_but_less_steeply(branches, drawn):
    network, inputs, answers = drawn
    rows = jacobian(branches, network, branches.JOINED, inputs, answers)
    total = branches.summed(rows)
    direction = UPGrad()(rows)
    assert direction.certificate.smallest_cosine >= -1e-6
    assert 0 < functional.cosine_similarity(direction.vector, total, dim=0) <= 1 + 1e-6


def test_branches_with_their_own_stems_share_nothing(branches, drawn):
    _, inputs, answers = drawn
    network = branches.Module(1, stems=4)
    rows = jacobian(branches, network, branches.JOINED, inputs, answers)
    assert cosine_similarity(rows).equal(torch.eye(4, dtype=torch.float64))


def test_a_seed_draws_the_same_branches_whatever_the_stems(branches):
    weights = []
    for stems in (1, 4):
        torch.manual_seed(3)
        weights.append([p for p in branches.Module(2, stems).branches.parameters()])
    assert all(a.equal(b) for a, b in zip(*weights, strict=True))


def test_no_image_is_in_two_splits_and_all_questions_are_answered(branches):
    seen: set[bytes] = set()
    for name, count in {"train": 3000, "valid": 1000, "test": 1000}.items():
        inputs, answers = branches.images()[name]
        assert inputs.shape == (count, 1, 14, 14)
        images = {image.numpy().tobytes() for image in inputs}
        assert seen.isdisjoint(images)
        seen |= images
        assert set(answers) == set(branches.QUESTIONS)
        assert {*answers["digit"][answers["loop"] == 1].tolist()} == {0, 6, 8, 9}
        for question in ("ink", "slant"):  # in units of the training images
            assert answers[question].mean().item() == pytest.approx(0, abs=0.1)
            assert answers[question].std().item() == pytest.approx(1, abs=0.1)


def test_errors_are_percent_wrong_or_percent_of_the_spread(branches, drawn):
    network, inputs, answers = drawn
    said = network(network.stem(inputs))
    found = branches.errors(network, branches.APART, inputs, answers)
    assert list(found) == list(branches.QUESTIONS)
    wrong = network.own[2](said[2]).argmax(1) != answers["digit"]
    assert found["digit"] == pytest.approx(100 * wrong.float().mean().item())
    off = network.own[0](said[0])[:, 0] - answers["ink"]
    assert found["ink"] == pytest.approx(100 * off.square().mean().sqrt().item())
    joined = network.joined(torch.cat(said, dim=1)).argmax(1) != answers["digit"]
    found = branches.errors(network, branches.JOINED, inputs, answers)
    assert found == {"digit": pytest.approx(100 * joined.float().mean().item())}


def quick(branches, **changes):
    small = {"filters": (1,), "methods": ("plain sum", "UPGrad"), "rates": (1e-2,), "seeds": 1}
    small |= {"steps": 2, "looks": 1, "processes": 1, "csv": None, "figure": None}
    return branches.Settings(**(small | changes))


@pytest.mark.timeout(240)
def test_it_runs_and_shows_the_same_again(branches, tmp_path, capsys, monkeypatch, shown_again):
    few = {
        name: (inputs[:90], {question: answer[:90] for question, answer in answers.items()})
        for name, (inputs, answers) in branches.images().items()
    }
    monkeypatch.setattr(branches, "images", lambda: few)
    csv, figure = tmp_path / "rows.csv", tmp_path / "figure.svg"
    settings = quick(branches, csv=csv, figure=figure)
    frame = branches.main([], settings)
    told = capsys.readouterr().out
    assert set(frame["form"]) == set(branches.FORMS)
    assert frame.groupby(["form", "filters", "method", "seed"]).size().eq(1).all()
    assert not frame["method"].str.startswith("5 x ").any()
    assert (frame["test digit"] > 0).all() and np.isfinite(frame["delta_m_test"]).all()
    own = frame[frame["method"] == branches.OWN]
    assert own["delta_m_test"].to_numpy() == pytest.approx(0, abs=1e-6)
    assert (own["in_conflict_percent"] == 0).all()
    safe = frame[frame["method"] == "UPGrad"]
    assert (safe["paying_percent"] == 0).all() and (safe["descent_kept"] > 0).all()
    plain = frame[frame["method"] == branches.PLAIN]
    assert plain["descent_kept"].tolist() == pytest.approx([1.0] * len(plain), abs=1e-3)
    shown_again(branches, settings, told)


def test_delta_m_is_against_own_stems_and_weights_are_tuned_on_valid(branches):
    fixed = [branches.PLAIN, *(f"5 x {name}" for name in branches.BRANCHES)]
    rows = []
    for seed, start in ((0, 30), (1, 90)):
        errors = {method: start + 10 * i for i, method in enumerate(fixed)}
        if seed == 0:
            errors["5 x 3x3"] = 15
        errors |= {"UPGrad": 1, branches.OWN: 10 + 20 * seed}  # neither of them fixed weights
        for method, error in errors.items():
            row = {"form": branches.JOINED, "filters": 1, "method": method, "seed": seed}
            rows.append(row | {"valid digit": error, "test digit": 2 * error})
    frame = branches.judged(pd.DataFrame(rows)).set_index(["method", "seed"])
    assert frame.loc[(branches.OWN, 0), "delta_m_test"] == pytest.approx(-50)  # the mean is 20
    assert frame.loc[(branches.PLAIN, 0), "delta_m_valid"] == pytest.approx(50)
    assert frame.loc[(branches.TUNED, 0), "weights"] == "5 x 3x3"
    assert frame.loc[(branches.TUNED, 1), "weights"] == branches.PLAIN
    assert not frame.index.get_level_values("method").str.startswith("5 x").any()


def test_the_same_seed_trains_the_same_network(branches):
    settings = quick(branches)
    make = branches.METHODS["RandomWeights"]
    one, two = (branches.train(branches.APART, make, 1e-2, 0, settings, 1) for _ in range(2))
    assert one == two


@pytest.fixture(scope="module")
def written(branches):
    return pd.read_csv(branches.Settings().csv)


def test_what_the_page_says_of_harm_is_what_was_written(branches, written):
    page = (branches.Settings().figure.parent / "branches.md").read_text()
    errors = written.groupby(["form", "filters", "method"])["test digit"].median()
    for form in (branches.JOINED, branches.APART):
        for filters in written["filters"].unique():
            shared, own = (errors[form, filters, m] for m in (branches.PLAIN, branches.OWN))
            assert f"{shared:.1f} (" in page and f"{own:.1f} (" in page
            assert shared > own
    safe = written[written["method"].isin(["UPGrad", "MGDA", "NashMTL"])]
    assert (safe["paying_percent"] < 0.5).all()


def test_surgery_between_the_parts_of_one_loss_helped_in_no_case_worth_the_name(branches, written):
    same = written[written["filters"] == written["filters"].iloc[0]]
    gained = branches.differences(same[same["form"] == branches.JOINED])
    for method in ("UPGrad", "MGDA", "NashMTL", "RandomWeights"):
        own = gained.loc[gained["method"] == method, "difference"]
        assert own.mean() > -5, method  # points of delta-m, of which sharing costs more than 20
