"""Fronts of two-task networks: the networks of all rays at once, and the comparison, made small."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def networks(experiment):
    return experiment("conflict/two_task_networks")


@pytest.fixture(scope="module")
def front(experiment):
    return experiment("conflict/two_task_front")


@pytest.fixture(scope="module")
def rows(front):
    return pd.read_csv(front.Settings().csv)


def drawn(networks, problem, count=3):
    torch.manual_seed(0)
    form = networks.Perceptron(networks.PROBLEMS[problem], neck=3, hidden=5)
    return form, torch.stack([form.draw() for _ in range(count)])


def one_by_one(networks, form, weights):
    """The network of one row, made of torch's own layers."""
    layers = [torch.nn.Linear(*layer) for layer in form.layers]
    parts = iter(weights.split(form.sizes))
    for layer in layers:
        layer.weight.data = next(parts).view(layer.in_features, -1).T
        layer.bias.data = next(parts)
    one, two, *heads = layers
    encoder = torch.nn.Sequential(one, torch.nn.ReLU(), two, torch.nn.Tanh())
    return [torch.nn.Sequential(encoder, head) for head in heads]


@pytest.mark.parametrize("problem", ["two digits", "digit and slant"])
@torch.no_grad()
def test_many_networks_at_once_do_as_each_alone(networks, problem):
    form, weights = drawn(networks, problem)
    inputs, answers = networks.splits()["valid"]
    inputs, answers = inputs[:50], {key: value[:50] for key, value in answers.items()}
    losses, errors = (f(weights, inputs, answers) for f in (form.losses, form.errors))
    assert losses.shape == errors.shape == (3, 2)
    for r, own in enumerate(weights):
        for i, network in enumerate(one_by_one(networks, form, own)):
            task, found = form.problem.tasks[i], network(inputs)
            loss = task.loss(found, answers[task.asks]) / form.problem.guess[i]
            error = task.error(found, answers[task.asks]) / form.problem.guess_error[i]
            assert losses[r, i].item() == pytest.approx(loss.item(), rel=1e-5)
            assert errors[r, i].item() == pytest.approx(error, rel=1e-5)


def test_guessing_costs_about_one(networks):
    for name, problem in networks.PROBLEMS.items():
        form, weights = drawn(networks, name, count=1)
        inputs, answers = networks.splits()["test"]
        losses = form.losses(torch.zeros_like(weights), inputs, answers)
        assert losses.numpy() == pytest.approx(1.0, abs=0.07), problem


def test_inputs_are_white_on_train_and_nowhere_fitted_else(networks):
    inputs, _ = networks.splits()["train"]
    assert inputs.mean(dim=0).abs().max() < 1e-3
    covariance = inputs.T @ inputs / len(inputs)
    assert (covariance - torch.eye(networks.COMPONENTS)).abs().max() < 1e-2
    for name in ("valid", "test"):
        other, labels = networks.splits()[name]
        assert len(other) == len(labels["left"])
        assert 0.8 < other.var(dim=0).mean() < 1.1


def test_a_ray_says_how_much_the_first_task_counts(networks):
    ratios = torch.linspace(-3, 3, 7)
    rays = networks.rays_at(ratios)
    assert rays.sum(dim=1).numpy() == pytest.approx(1.0)
    assert (rays[1:, 0] > rays[:-1, 0]).all()
    assert networks.log_ratio(rays).numpy() == pytest.approx(ratios.numpy(), abs=1e-5)
    assert networks.rays_at(ratios.flip(0)).equal(rays.flip(1))


def test_sampled_rays_fall_one_into_each_part(networks):
    places = networks.log_ratio(networks.sampled(5, 2.0, torch.Generator().manual_seed(0)))
    assert ((places + 2) / 4 * 5).floor().tolist() == [0, 1, 2, 3, 4]


def test_a_hypernetwork_makes_a_network_for_each_ray_that_does_not_depend_on_the_others(networks):
    form, _ = drawn(networks, "two digits")
    hyper = networks.Hypernetwork(form, features=4)
    rays = networks.rays_at(torch.linspace(-1, 1, 3))
    weights = hyper(rays)
    assert weights.shape == (3, sum(form.sizes))
    assert not weights[0].allclose(weights[1])
    assert weights[1:2].allclose(hyper(rays[1:2]), atol=1e-6)


def test_gradients_of_one_ray_know_nothing_of_the_others(front, networks):
    form, weights = drawn(networks, "two digits")
    weights.requires_grad_()
    inputs, answers = networks.splits()["valid"]
    jacobian = front.jacobian_of(form.losses(weights, inputs, answers), weights)
    alone = weights[1:2].detach().requires_grad_()
    own = front.jacobian_of(form.losses(alone, inputs, answers), alone)
    assert jacobian.shape == (3, 2, sum(form.sizes))
    assert jacobian[1].allclose(own[0], atol=1e-6)
    # Each head belongs to one task, the encoder to both.
    heads = jacobian[..., form.shared :].abs().sum(dim=(0, 1)).bool()
    assert (jacobian[:, 0, form.shared :] * jacobian[:, 1, form.shared :]).abs().max() == 0
    assert heads.all()


def test_the_hypervolume_is_that_of_the_union_of_boxes(front):
    points = pd.DataFrame({"x_1": [0.2, 0.6, 0.9, 1.5], "x_2": [0.7, 0.3, 0.9, 0.0]})
    assert front.volume(points, "x") == pytest.approx(0.8 * 0.3 + 0.4 * 0.7 - 0.4 * 0.3)


def test_the_angle_to_the_ray_is_zero_where_weighted_losses_agree(front):
    found = pd.DataFrame({"log_ratio": np.log([1.0, 3.0, 1.0])})
    found["test_loss_1"], found["test_loss_2"] = [0.4, 0.1, 0.5], [0.4, 0.3, 0.0]
    assert front.off_ray(found, "test").to_numpy() == pytest.approx([0, 0, 45])


def small(front, **changes):
    settings = front.Settings(
        problems=("two digits",), solvers=("linear", "smooth Tchebycheff", "EPO"),
        hyper=("smooth Tchebycheff",), room=((8, 16),), rays=3, dense=5, spreads=(1.0,),
        rates=(3e-2,), hyper_rates=(1e-2,), seeds=1, steps=4, hidden=8, look_every=2,
        csv=None, figures=None,
    )  # fmt: skip
    return replace(settings, **changes)


def plan(front, family="networks", solver="linear", rate=3e-2, spread=1.0, **changes):
    settings = small(front, **changes)
    return front.Plan("two digits", family, solver, 0, rate, spread, 4, 8, settings)


@pytest.mark.timeout(240)  # the first optimizer loads half of torch
@pytest.mark.parametrize("solver", ["linear", "EPO", "PMGDA"])
def test_networks_trained_together_are_those_trained_alone(front, solver):
    together = front.train(plan(front, solver=solver))
    alone = front.train(plan(front, solver=solver, rays=1))
    assert len(together) == 3 and len(alone) == 1
    assert together[0]["log_ratio"] == alone[0]["log_ratio"] == pytest.approx(-1.0)
    for key in ("train_loss_1", "test_loss_2", "cosine"):
        assert together[0][key] == pytest.approx(alone[0][key], abs=1e-4)


@pytest.mark.parametrize("solver", ["linear", "smooth Tchebycheff", "EPO", "PMTL"])
def test_the_favored_task_is_learned_first(front, solver):
    first, *_, last = front.train(plan(front, solver=solver, steps=60, spread=2.0))
    assert first["test_loss_2"] < 0.9 < first["test_loss_1"]
    assert last["test_loss_1"] < 0.9 < last["test_loss_2"]


def test_a_hypernetwork_is_asked_for_more_rays_than_it_is_judged_by(front):
    found = front.train(plan(front, "hypernetwork", "EPO"))
    assert [row["on_grid"] for row in found] == [True] * 3 + [False] * 5
    ends = [found[0], found[2]], [found[3], found[-1]]
    for one, two in zip(*ends, strict=True):
        assert one["log_ratio"] == pytest.approx(two["log_ratio"])
        assert one["test_loss_1"] == pytest.approx(two["test_loss_1"], abs=1e-5)


@pytest.mark.timeout(240)
def test_everything_is_compared_and_shown_again(front, tmp_path, capsys):
    settings = small(front, csv=tmp_path / "rows.csv", figures=tmp_path)
    frame = front.main([], settings)
    told = capsys.readouterr().out
    losses = [f"{split}_loss_{i}" for split in ("train", "valid", "test") for i in (1, 2)]
    assert np.isfinite(frame[losses]).all(axis=None)
    assert set(frame["family"]) == {
        front.GRID, front.LONG, front.ALONE, front.HYPER, front.SMALL,
    }  # fmt: skip
    counts = frame[frame["on_grid"] & (frame["neck"] == 4)].groupby(["family", "solver"]).size()
    assert counts.drop((front.ALONE, "linear")).eq(3).all()
    pictures = {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")}
    assert len(pictures) == 2
    front.main(["--show"], settings)
    again = capsys.readouterr().out
    assert again and told.endswith(again)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.svg")} == pictures


# --- what was measured -------------------------------------------------------------------------


def test_every_way_was_measured_on_the_same_seeds(front, rows):
    seeds = set(range(front.Settings().seeds))
    for _, some in rows.groupby(["problem", "family", "solver", "neck"]):
        assert set(some["seed"]) == seeds
        assert some[some["on_grid"]].groupby("seed").size().nunique() == 1


def test_linear_networks_give_up_a_task_where_those_on_rays_do_not(front, rows):
    found = front.volumes(rows, front.DIGITS).groupby(["family", "solver"])["lost"].mean()
    assert found[front.GRID, "linear"] > 1
    for solver in ("smooth Tchebycheff", "EPO"):
        assert found[front.GRID, solver] < 1


def test_a_hypernetwork_needs_as_many_rays_as_networks_need_trainings(front, rows):
    for problem in front.PROBLEMS:
        found = front.volumes(rows, problem)
        middle = found.groupby(["family", "solver"])["loss"].median()
        many, one = (middle[family, "smooth Tchebycheff"] for family in (front.HYPER, front.SMALL))
        assert many > one


def test_more_room_leaves_less_to_trade(front, rows):
    price = front.room(rows)["price"]
    assert price.is_monotonic_decreasing
    assert price.iloc[-1] < 0.3 * price.iloc[0]
