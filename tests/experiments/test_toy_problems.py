"""The toy problems are those of the papers, and SAM-GS ends where it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from paretonas.solvers import SAMGS, LinearScalarization, NashMTL


@pytest.fixture(scope="module")
def toy(experiment):
    return experiment("solvers/toy_problems")


@pytest.fixture(scope="module")
def variants(experiment):
    return experiment("solvers/toy_variants")


def published(*, x: Tensor, scale: float, two: bool) -> Tensor:
    """Both objectives at one point, as the papers' code writes them."""
    x1, x2 = x
    least = torch.tensor(5e-6, dtype=x.dtype)
    f1 = torch.maximum((0.5 * (-x1 - 7) - torch.tanh(-x2)).abs(), least).log() + 6
    f2 = torch.maximum((0.5 * (-x1 + 3) + torch.tanh(-x2) + 2).abs(), least).log() + 6
    c1 = torch.clamp(torch.tanh(x2 * 0.5), min=0)
    c2 = torch.clamp(torch.tanh(-x2 * 0.5), min=0)
    if two:
        q1, q2 = (
            0.1 * (((x1 - a) / 4) ** 6 + (x2 / 4) ** 6)
            - (((x1 - b) / 4) ** 4 + (x2 / 4) ** 4)
            - 1.5 * (((x1 - b) / 4) ** 2 + (x2 / 4) ** 2)
            + 1.5
            for a, b in ((5.45, 5.5), (-5.45, -5.5))
        )
    else:
        q1 = ((-x1 + 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
        q2 = ((-x1 - 7) ** 2 + 0.1 * (-x2 - 8) ** 2) / 10 - 20
    return torch.stack([scale * (f1 * c1 + q1 * c2), f2 * c1 + q2 * c2])


def test_values_and_gradients_are_those_of_the_published_functions(toy):
    random = np.random.default_rng(0)
    x = np.concatenate([random.uniform(-11, 11, (60, 2)), toy.NASH, toy.SAM, toy.TWO])
    scale = random.choice([0.1, 1.0], len(x))
    two = random.random(len(x)) < 0.5
    values, jacobian = toy.evaluate(x, scale, two)
    for k, point in enumerate(torch.from_numpy(x)):
        settings = {"scale": float(scale[k]), "two": bool(two[k])}
        expected = published(x=point, **settings)
        by_hand = torch.autograd.functional.jacobian(lambda p: published(x=p, **settings), point)  # noqa: B023
        np.testing.assert_allclose(values[k], expected.numpy(), rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(jacobian[k], by_hand.numpy(), rtol=1e-8, atol=1e-10)


def test_at_the_start_in_the_origin_both_branches_pull(toy):
    _, jacobian = toy.evaluate(np.zeros((1, 2)), np.ones(1), np.zeros(1, dtype=bool))
    np.testing.assert_allclose(jacobian[0, :, 1], 10.856, atol=1e-3)


def test_the_walk_is_that_of_torchs_adam(toy):
    runner = toy.Runner("", LinearScalarization(), 0.5, {"nash": toy.TOYS["nash"]})
    path = toy.descend([runner], part=60 / 35_000)
    x = torch.tensor(toy.NASH, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([x], lr=1e-3)
    for _ in range(50):
        adam.zero_grad()
        for point in x:
            published(x=point, scale=0.1, two=False).mean().backward()
        length = x.grad.norm(dim=1, keepdim=True)
        x.grad *= (0.5 / length).clamp_max(1.0)
        adam.step()
    np.testing.assert_allclose(path[-1], x.detach().numpy(), rtol=1e-9, atol=1e-9)


def test_starts_and_methods_do_not_see_each_other(toy):
    toys = {key: toy.TOYS[key] for key in ("nash", "sam-gs", "two minima")}
    methods = {key: toy.METHODS[key] for key in ("NashMTL", "SAMGS", "MGDA")}
    _, together = toy.run(methods, part=0.005, toys=toys)
    for name, key in (("NashMTL", "sam-gs"), ("SAMGS", "two minima"), ("MGDA", "nash")):
        _, alone = toy.run({name: methods[name]}, part=0.005, toys={key: toys[key]})
        np.testing.assert_array_equal(alone[name, key], together[name, key])


def test_the_front_is_where_gradients_are_opposite(toy):
    x1 = np.linspace(-6.9, 6.9, 24)
    line = np.stack([x1, np.full_like(x1, -8.4)], 1)
    low, high = -9.0, -7.5
    for k in range(len(x1)):  # where the determinant of the jacobian changes sign
        grid = np.linspace(low, high, 3001)
        points = np.stack([np.full_like(grid, x1[k]), grid], 1)
        _, jacobian = toy.evaluate(points, np.ones(3001), np.zeros(3001, dtype=bool))
        line[k, 1] = grid[np.argmin(np.abs(np.linalg.det(jacobian)))]
    problem = toy.TOYS["sam-gs"]
    assert toy.reached_front(line, problem).all()
    assert not toy.reached_front(line + np.array([0.0, 0.25]), problem).any()
    assert not toy.reached_front(np.array([[7.3, -8.43], [-7.3, -8.43]]), problem).any()


def test_optima_are_minima_of_the_sum(toy):
    for problem in (toy.TOYS["sam-gs"], toy.TOYS["two minima"]):
        for best in problem.optima:
            near = np.array(best) + 0.2 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
            values, jacobian = toy.evaluate(near, np.ones(5), np.full(5, problem.two))
            assert values.sum(1).argmin() == 0
            assert np.abs(jacobian[0].sum(0)).max() < 0.1


def test_no_loss_falls_below_what_the_methods_count_from(toy):
    side = np.linspace(-15, 15, 301)
    x = np.stack([a.ravel() for a in np.meshgrid(side, side)], 1)
    for two, least in ((False, -21.0), (True, -51.0)):
        values, _ = toy.evaluate(x, np.ones(len(x)), np.full(len(x), two))
        assert values.min() > least


def test_sam_gs_reaches_the_best_sum_from_nearby(toy):
    near = {"sam-gs": [(-1, -8), (0.8, -7.8)], "two minima": [(-5, -10.2), (5.9, -10.3)]}
    toys = {
        key: replace(toy.TOYS[key], starts=np.array(starts), steps=1500)
        for key, starts in near.items()
    }
    results, _ = toy.run({"SAMGS": toy.METHODS["SAMGS"]}, toys=toys)
    assert results["optimum"].all()


@pytest.mark.deep
@pytest.mark.timeout(600)
def test_sam_gs_reaches_the_best_sum_from_all_published_starts(toy):
    toys = {key: toy.TOYS[key] for key in ("sam-gs", "two minima")}
    results, _ = toy.run({"SAMGS": toy.METHODS["SAMGS"]}, toys=toys)
    reached = results.groupby("problem")["optimum"].sum()
    assert reached["sam-gs"] == 7
    assert reached["two minima"] >= 4


def test_the_experiment_writes_its_table_and_its_figure(toy, tmp_path, capsys):
    toy.main(["--steps", "0.004", "--only", "MGDA", "SAMGS"], out=tmp_path)
    rows = pd.read_csv(tmp_path / "toy_problems.csv")
    assert len(rows) == 2 * sum(len(problem.starts) for problem in toy.TOYS.values())
    assert set(rows["method"]) == {"MGDA", "SAMGS"}
    assert "<svg" in (tmp_path / "toy_problems.svg").read_text()
    assert "SAMGS" in capsys.readouterr().out


def test_a_switch_on_similarity_alone_is_sam_gs(variants):
    random = torch.Generator().manual_seed(0)
    switch = variants.Switch(lambda psi, cosine: psi < 0.5, SAMGS(1.01), SAMGS(0.0))
    whole, states = SAMGS(0.5), [None, None]
    for _ in range(10):
        jacobian = torch.randn(30, 2, 4, generator=random, dtype=torch.float64)
        jacobian *= 10 ** torch.randn(30, 2, 1, generator=random, dtype=torch.float64)
        found = [s(jacobian, None, state) for s, state in zip((switch, whole), states, strict=True)]
        states = [direction.state for direction in found]
        torch.testing.assert_close(found[0].vector, found[1].vector, rtol=1e-12, atol=0)


def test_a_projected_direction_does_not_conflict_and_agreement_is_left_alone(variants):
    random = torch.Generator().manual_seed(1)
    jacobian = torch.randn(500, 2, 3, generator=random, dtype=torch.float64)
    for inner in (SAMGS(0.0), NashMTL()):
        plain = inner(jacobian).vector
        vector = variants.Projected(inner)(jacobian).vector
        assert float((jacobian @ vector.unsqueeze(-1)).min()) > -1e-8
        fine = ((jacobian @ plain.unsqueeze(-1)) > 0).all(1).flatten()
        torch.testing.assert_close(vector[fine], plain[fine])


def test_a_coin_is_thrown_only_where_gradients_cancel(variants, rng):
    row = torch.tensor([3.0, 4.0], dtype=torch.float64)
    jacobian = torch.stack([torch.stack([row, -row]), torch.stack([row, row])])
    coin = variants.Coin(SAMGS(), 2, rng)
    first = coin(jacobian)
    assert abs(float(first.vector[0] @ row)) == pytest.approx(25.0)
    torch.testing.assert_close(first.vector[1], SAMGS()(jacobian).vector[1])
    held = coin(jacobian, state=first.state)
    torch.testing.assert_close(held.vector[0], first.vector[0])


def test_both_tables_of_variants_are_printed(variants, monkeypatch, capsys):
    toys = {"sam-gs": variants.TOYS["sam-gs"]}
    saddle = {"saddle": variants.SYMMETRIC["saddle"]}
    monkeypatch.setattr(variants, "TOYS", toys)
    monkeypatch.setattr(variants, "SYMMETRIC", saddle)
    variants.main(["--steps", "0.0025"])
    lines = capsys.readouterr().out.splitlines()
    for methods, starts in ((variants.ANGLES, "/7"), (variants.ESCAPES, "/10")):
        for method in methods:
            assert any(line.startswith(method) and starts in line for line in lines), method


def test_noise_leaves_the_saddle_and_its_absence_does_not(toy, variants):
    methods = {name: variants.ESCAPES[name] for name in ("SAM-GS", "noise 1")}
    results, paths = toy.run(methods, 0.005, {"saddle": variants.SYMMETRIC["saddle"]})
    assert len(results) == 20
    assert (paths["SAM-GS", "saddle"][:, :, 0] == 0).all()
    assert (np.abs(paths["noise 1", "saddle"][-1, :, 0]) > 1e-3).all()
