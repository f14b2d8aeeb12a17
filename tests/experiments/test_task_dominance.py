"""Unequal data and weights, on a small budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

pytestmark = pytest.mark.timeout(240)  # the first optimizer loads half of torch


@pytest.fixture(scope="module")
def dominance(experiment):
    return experiment("conflict/task_dominance")


def small(dominance, **changes):
    few = {
        "widths": (8,),
        "methods": (dominance.PLAIN, dominance.LENGTHS),
        "ratios": (0.1, 1.0),
        "roomy": 16,
    }
    few |= {"rates": (1e-2,), "seeds": 1, "steps": 3, "batch": 10, "look_every": 1}
    few |= {"csv": None, "course": None, "figure": None}
    return dominance.Settings(**(few | changes))


@pytest.mark.parametrize("heads", ["ONE_HEAD", "LINEAR", "DEEP"])
def test_every_weight_is_shared_or_of_one_task(dominance, heads):
    case = dominance.Case(heads=getattr(dominance, heads))
    network = dominance.Network(case, dominance.TASKS)
    places = [*network.shared(), *(p for own in network.own(dominance.TASKS) for p in own)]
    assert len({id(p) for p in places}) == len(places)
    assert {id(p) for p in places} == {id(p) for p in network.parameters()}
    images = torch.randn(3, 1, 18, 18), torch.randn(2, 1, 18, 18)
    assert [out.shape for out in network(images)] == [(3, 10), (2, 10)]


def test_a_single_head_answers_by_the_question(dominance):
    network = dominance.Network(dominance.Case(heads=dominance.ONE_HEAD), dominance.TASKS)
    images = torch.randn(4, 1, 18, 18)
    left, right = network([images, images])
    assert not left.allclose(right)
    with torch.no_grad():
        network.encoder[0].weight[:, -2:] = 0  # deaf to the question
    left, right = network([images, images])
    assert left.equal(right)


def test_a_task_alone_starts_from_the_same_encoder(dominance):
    starts = []
    for tasks in (dominance.TASKS, ("right",)):
        torch.manual_seed(0)
        starts.append(dominance.Network(dominance.Case(), tasks).encoder.state_dict())
    assert all(starts[0][name].equal(starts[1][name]) for name in starts[0])


def test_a_factor_on_a_loss_shifts_dominance_as_computed(dominance):
    settings = small(dominance, steps=1)
    plain, heavy = (
        dominance.train(
            dominance.Case(500, weight),
            dominance.TASKS,
            dominance.METHODS[dominance.PLAIN],
            1e-2,
            0,
            settings,
        )[0]
        for weight in (1.0, 10.0)
    )
    share = plain["dominance_early"]
    assert heavy["dominance_early"] == pytest.approx(10 * share / (10 * share + 1 - share))
    assert heavy["cosine"] == pytest.approx(plain["cosine"], abs=1e-6)
    ratio = share / (1 - share)
    assert plain["magnitude_similarity"] == pytest.approx(2 * ratio / (1 + ratio**2))


def test_errors_on_train_are_of_labeled_images(dominance):
    from overlapped_digits import pairs

    network = dominance.Network(dominance.Case(), dominance.TASKS)
    labels = {"left": 9000, "right": 40}
    found = dominance.errors_of(network, dominance.TASKS, pairs(), labels)
    train = pairs()["train"]
    with torch.no_grad():
        guesses = network([train.inputs, train.inputs[:40]])[1].argmax(dim=1)
    wrong = (guesses != train.answers["right"][:40]).sum().item()
    assert found["train_right"] == pytest.approx(100 * wrong / 40)


def test_delta_m_compares_with_the_same_width_and_labels(dominance):
    rows = [
        ("single-task", 8, 9000, 10.0, np.nan),
        ("single-task", 8, 9000, np.nan, 20.0),
        ("single-task", 8, 500, np.nan, 40.0),
        ("plain sum", 8, 500, 20.0, 30.0),
        ("plain sum", 8, 9000, 11.0, 20.0),
    ]
    frame = pd.DataFrame(rows, columns=["method", "width", "labels", "test_left", "test_right"])
    frame["valid_left"], frame["valid_right"] = frame["test_left"], frame["test_right"]
    judged = dominance.judged(frame)
    expected = [100 * (2 + 0.75) / 2 - 100, 100 * (1.1 + 1) / 2 - 100]
    assert judged["delta_m_test"].iloc[:3].isna().all()
    np.testing.assert_allclose(judged["delta_m_test"].iloc[3:], expected)


@pytest.mark.deep
def test_everything_is_trained_and_shown_again(dominance, tmp_path, capsys, shown_again):
    files = {"csv": tmp_path / "rows.csv", "course": tmp_path / "course.csv"}
    figure = tmp_path / "figure.svg"
    settings = small(dominance, seeds=2, **files, figure=figure)
    frame = dominance.main([], settings)
    told = capsys.readouterr().out
    assert len(frame) == 2 * len(list(dominance.trainings(settings)))
    several = frame[frame["method"] != dominance.ALONE]
    assert np.isfinite(several[["delta_m_valid", "delta_m_test", "dominance_early"]]).all(axis=None)
    tuned = dominance.compared(frame, settings, 8).query("method == @dominance.TUNED")
    for _, row in tuned.iterrows():
        grid = several[several["seed"].eq(row["seed"]) & several["heads"].eq(dominance.LINEAR)]
        grid = grid[grid["labels"].eq(500) & grid["weight"].eq(10) & grid["width"].eq(8)]
        grid = grid[grid["method"].str.startswith("x ") | grid["method"].eq(dominance.PLAIN)]
        assert row["delta_m_valid"] == grid["delta_m_valid"].min()
    shown_again(dominance, settings, told)


def test_the_same_seed_trains_the_same_network(dominance):
    make, settings = dominance.METHODS["RandomWeights"], small(dominance)
    one, two = (
        dominance.train(dominance.Case(500), dominance.TASKS, make, 1e-2, 1, settings)[0]
        for _ in range(2)
    )
    assert one == two


def test_the_page_tells_what_the_committed_rows_say(dominance):
    settings = dominance.Settings()
    frame = pd.read_csv(settings.csv)
    page = settings.figure.with_name("task-dominance.md").read_text()
    delta = dominance.compared(frame, settings, 8).groupby("method")["delta_m_test"]
    for method, values in delta:
        told = f"{round(values.median())} ({round(values.min())} to {round(values.max())})"
        assert f"\n| {method} | {told} |" in page
    assert delta.median()[dominance.LENGTHS] < 0.5 * delta.median()[dominance.PLAIN]
    harm = dominance.tables(frame, settings)["Errors, percent; medians"]
    both, alone = harm.loc[(dominance.PLAIN, 500, 10)], harm.loc[(dominance.ALONE, 9000, 1)]
    assert both["train_left"] > 5 * alone["train_left"]  # underfits
    assert both["train_right"] < 2 and both["gap_right"] > 20  # overfits
    room = dominance.tables(frame, settings)["More room, both unequal; medians"]
    assert room.loc[dominance.PLAIN, "test_left"].is_monotonic_decreasing
