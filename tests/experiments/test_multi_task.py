"""Overlapped digits, and the comparison of solvers on them, on a small budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def data(experiment):
    return experiment("conflict/overlapped_digits").pairs()


def test_every_split_has_its_pairs_with_all_answers(data):
    from overlapped_digits import PAIRS

    assert set(data) == set(PAIRS)
    for name, count in PAIRS.items():
        split = data[name]
        assert split.inputs.shape == (count, 1, 18, 18)
        assert {key: value.shape for key, value in split.answers.items()} == dict.fromkeys(
            ("left", "right", "slant"), (count,)
        )
        for side in ("left", "right"):
            assert set(split.answers[side].tolist()) == set(range(10))


def test_no_image_is_in_two_splits_and_none_is_overlapped_with_itself(data):
    from search_spaces.images import mnist_5k

    digits = mnist_5k()
    seen: set[bytes] = set()
    for name in data:
        images = {image.numpy().tobytes() for image in getattr(digits, name).inputs}
        assert seen.isdisjoint(images)
        seen |= images
        sources = data[name].sources
        assert (sources[:, 0] != sources[:, 1]).all()
        assert sources.max() < len(getattr(digits, name))
        assert len({tuple(pair) for pair in sources.tolist()}) > 0.99 * len(sources)


def test_each_image_serves_equally_often_on_either_side(data):
    for split in data.values():
        for side in split.sources.T:
            counts = torch.bincount(side)
            assert counts.max() - counts.min() <= 1


def test_overlapping_keeps_the_brighter_pixel_in_its_corner():
    from overlapped_digits import overlapped

    left, right = torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 28, 28)
    left[..., :2, :2], right[..., -2:, -2:] = 1.0, 2.0
    expected = torch.zeros(18, 18)
    expected[0, 0], expected[-1, -1] = 1.0, 2.0
    assert overlapped(left, right)[0, 0].equal(expected)


@pytest.mark.parametrize("lean", [-0.5, 0.0, 0.25])
def test_the_slant_of_a_drawn_line_is_known(lean):
    from overlapped_digits import slants

    row, column = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    across = column - 13.5 - lean * (row - 13.5)
    line = torch.exp(-(across**2) / 4) * torch.exp(-((row - 13.5) ** 2) / 18)
    assert slants(line[None, None]).item() == pytest.approx(lean, abs=0.02)


def test_units_change_the_loss_and_not_the_error():
    from overlapped_digits import Task

    outputs, answers = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0, 1.0])
    plain, scaled = Task("slant"), Task("slant", 10.0)
    assert scaled.loss(outputs, answers) == 10 * plain.loss(outputs, answers)
    assert scaled.error(outputs, answers) == plain.error(outputs, answers)
    assert plain.error(outputs, answers) == pytest.approx(100 * np.sqrt(2.5))


def quick(**changes):
    import multi_task

    small = {"problems": ("digit and slant x 10",), "seeds": 1, "steps": 4, "look_every": 2}
    small |= {"rates": (1e-2,), "ratios": (0.1, 1.0), "csv": None, "figure": None}
    return multi_task.Settings(**(small | changes))


@pytest.mark.timeout(240)  # the first optimizer loads half of torch
def test_methods_are_compared_and_tuned_weights_are_chosen_on_valid(tmp_path, capsys):
    import multi_task

    csv, figure = tmp_path / "rows.csv", tmp_path / "figure.png"
    multi_task.main([], quick(seeds=2, kinds=("baseline",), csv=csv, figure=figure))
    rows = pd.read_csv(csv)
    numbers = [f"{split}_{i}" for split in ("train", "valid", "test") for i in (1, 2)]
    assert np.isfinite(rows[[*numbers, "delta_m_valid", "delta_m_test", "milliseconds"]]).all(
        axis=None
    )
    assert (rows[numbers] > 0).all(axis=None)
    others = {multi_task.ALONE, multi_task.WIDE, multi_task.TUNED, "weights 1 : 0.1"}
    assert set(rows["method"]) == {*multi_task.METHODS["baseline"], *others}
    assert rows.groupby(["method", "seed"]).size().eq(1).all()
    alone = rows[rows["method"] == multi_task.ALONE]
    assert alone["delta_m_test"].mean() == pytest.approx(0.0, abs=0.01)
    for _, seed in rows.groupby("seed"):
        grid = seed[(seed["kind"] == "grid") | (seed["method"] == multi_task.PLAIN)]
        tuned = seed[seed["method"] == multi_task.TUNED]
        assert len(grid) == 2
        assert tuned["delta_m_valid"].item() == grid["delta_m_valid"].min()
        assert tuned["test_1"].item() in grid["test_1"].tolist()
    assert figure.stat().st_size > 10_000
    told = capsys.readouterr().out
    figure.unlink()
    multi_task.main(["--show"], quick(csv=csv, figure=figure))
    again = capsys.readouterr().out
    for method in set(rows["method"]) - {"weights 1 : 0.1"}:
        assert f"\n{method} " in told and f"\n{method} " in again
    assert figure.stat().st_size > 10_000


def test_every_solver_that_is_compared_moves_the_encoder_its_own_way():
    import multi_task

    settings = quick(steps=3)
    tasks = multi_task.PROBLEMS["digit and slant x 10"]
    errors = {
        name: multi_task.train(tasks, make, 1e-2, 0, settings)["valid_2"]
        for methods in multi_task.METHODS.values()
        for name, make in methods.items()
        # these do as another until an epoch has passed or a conflict has come
        if name not in ("DynamicWeightAverage", "IMTLL", "DualProj", "GradVac")
    }
    assert len({round(error, 6) for error in errors.values()}) >= 0.8 * len(errors)


@pytest.mark.parametrize("method", ["mean", "UPGrad", "NashMTL"])
def test_errors_fall_in_training(method):
    import multi_task

    kinds = multi_task.METHODS.values()
    make = next(methods[method] for methods in kinds if method in methods)
    tasks = multi_task.PROBLEMS["two digits"]
    few, more = (multi_task.train(tasks, make, 1e-2, 0, quick(steps=steps)) for steps in (1, 60))
    for i in (1, 2):
        assert more[f"valid_{i}"] < 0.6 * few[f"valid_{i}"]


def test_the_same_seed_trains_the_same_network():
    import multi_task

    tasks, settings = multi_task.PROBLEMS["two digits"], quick()
    make = multi_task.METHODS["from gradients"]["GradDrop"]
    one, two = (multi_task.train(tasks, make, 1e-2, 0, settings) for _ in range(2))
    assert {**one, "milliseconds": 0.0} == {**two, "milliseconds": 0.0}
