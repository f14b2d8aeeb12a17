"""The exact bench is exact: expectation, gradient and scores agree with slow plain versions."""

from __future__ import annotations

from itertools import product
from math import prod

import moocore
import numpy as np
import pandas as pd
import pytest
import torch

from paretonas.relaxation import probabilities, softmax
from paretonas.solvers import LinearScalarization

SIZES = (2, 3, 2, 4)


@pytest.fixture(scope="module")
def exact(experiment):
    parts = ("bench", "gates", "methods", "table", "variants")
    return {name: experiment(f"exact_bench/exact_{name}") for name in parts}


def rows_of_a_table(*, sizes=SIZES, m=2, seed=0, closed=0) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    picks = pd.DataFrame(list(product(*(range(n) for n in sizes))), columns=list("abcd")).astype(
        str
    )
    weights = random.random((m, sum(sizes)))
    firsts = np.cumsum((0, *sizes[:-1]))
    columns = picks.astype(int).to_numpy() + firsts
    for i in range(m):
        picks[f"cost_{i}"] = weights[i][columns].sum(1) ** 2 + 0.3 * random.random(len(picks)) + 1
    picks["connected"] = np.arange(len(picks)) >= closed
    return picks.sample(frac=1.0, random_state=seed)


@pytest.fixture
def table(exact):
    return exact["table"].ExactTable.of("toy", rows_of_a_table(), "abcd", ["cost_0", "cost_1"])


def distribution(rays: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rays, sum(SIZES), generator=generator, dtype=torch.float64)


def by_enumeration(*, p: np.ndarray, rows: pd.DataFrame, cost: str) -> float:
    """The mean of a cost over all architectures, each as likely as its picks."""
    firsts = np.cumsum((0, *SIZES[:-1]))
    total = 0.0
    for _, row in rows.iterrows():
        likely = prod(p[first + int(row[c])] for first, c in zip(firsts, "abcd", strict=True))
        total += likely * row[cost]
    return total


def test_the_expectation_is_that_of_enumeration(exact, table):
    rows = rows_of_a_table()
    for cost in ("cost_0", "cost_1"):
        rows[cost] = (rows[cost] - rows[cost].min()) / (rows[cost].max() - rows[cost].min())
    p = probabilities(distribution(3), SIZES)
    values = exact["table"].expectation(p[None], exact["table"].stacked([table]), SIZES)
    assert values.shape == (1, 3, 2)
    for ray, column in product(range(3), range(2)):
        plain = by_enumeration(p=p[ray].numpy(), rows=rows, cost=f"cost_{column}")
        assert values[0, ray, column].item() == pytest.approx(plain, abs=1e-12)


def test_the_gradient_is_that_of_finite_differences(exact, table):
    tables, step = exact["table"].stacked([table, table.rooted()]), 1e-6
    alpha = distribution(4).reshape(2, 2, -1).requires_grad_()
    p = softmax(alpha, SIZES, 0.7, torch.Generator())
    values, jacobian = exact["table"].expectation_and_jacobian(alpha, p, tables, SIZES)
    torch.testing.assert_close(values, exact["table"].expectation(p.detach(), tables, SIZES))
    for k in range(sum(SIZES)):
        shift = step * torch.eye(sum(SIZES), dtype=torch.float64)[k]
        above, below = (
            exact["table"].expectation(probabilities(a, SIZES, 0.7), tables, SIZES)
            for a in (alpha.detach() + shift, alpha.detach() - shift)
        )
        torch.testing.assert_close(
            jacobian[..., k], (above - below) / (2 * step), atol=1e-8, rtol=0
        )


def test_a_table_is_sorted_scaled_and_complete(exact):
    of, rows = exact["table"].ExactTable.of, rows_of_a_table(closed=5)
    found = of("toy", rows, list("abcd"), ["cost_0", "cost_1"])
    assert found.sizes == SIZES
    assert (found.costs[~found.connected] == 1).all() and (~found.connected).sum() == 5
    kept = found.costs[found.connected]
    assert kept.min(0) == pytest.approx([0, 0]) and kept.max(0) == pytest.approx([1, 1])
    picks = np.array([[1, 2, 0, 3]])
    there = rows.set_index(list("abcd")).loc[("1", "2", "0", "3"), "cost_0"]
    low, high = (rows.loc[rows["connected"], "cost_0"].agg(f) for f in ("min", "max"))
    row = found.rows_of(torch.from_numpy(picks))[0]
    assert found.costs[row, 0] == pytest.approx((there - low) / (high - low))
    with pytest.raises(ValueError, match="a complete table has 48 rows"):
        of("toy", rows.iloc[1:], list("abcd"), ["cost_0", "cost_1"])


def test_fractions_are_those_of_moocore(exact, table):
    hypervolume = exact["table"].hypervolume
    assert hypervolume(np.array([[0.25, 0.5], [0.5, 0.25], [0.6, 0.6]])) == pytest.approx(0.5)
    assert hypervolume(np.array([[0.2, 1.0], [1.3, 0.1]])) == 0.0
    rows = np.array([3, 17, 40])
    whole = moocore.hypervolume(table.costs, ref=[1, 1])
    plain = moocore.hypervolume(table.costs[rows], ref=[1, 1]) / whole
    assert table.fraction(rows) == pytest.approx(plain)
    assert table.fraction(table.best(48)) == pytest.approx(1.0)
    parts = [table.fraction(table.best(count)) for count in (1, 2, 3)]
    assert parts == sorted(parts)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_the_differentiable_hypervolume_is_that_of_moocore(exact, m):
    sets = torch.from_numpy(np.random.default_rng(m).random((5, 7, m)) * 1.2)
    sets[0, 1] = sets[0, 0]
    found = exact["variants"].hypervolume(sets)
    for one, points in zip(found, sets.numpy(), strict=True):
        inside = points[(points < 1).all(1)]
        plain = moocore.hypervolume(inside, ref=[1.0] * m) if len(inside) else 0.0
        assert one.item() == pytest.approx(plain, abs=1e-12)


def test_the_slope_of_hypervolume_is_that_of_finite_differences(exact):
    sets = torch.from_numpy(np.random.default_rng(0).random((2, 6, 3)))
    slope = exact["variants"].slope_of_hypervolume(sets)
    assert (slope > -1e-12).all() and (slope.sum(-1) < 1e-12).any(), "some are dominated"
    for place in product(range(2), range(6), range(3)):
        above, below = sets.clone(), sets.clone()
        above[place] += 1e-6
        below[place] -= 1e-6
        change = exact["variants"].hypervolume(below) - exact["variants"].hypervolume(above)
        assert slope[place].item() == pytest.approx(change.sum().item() / 2e-6, abs=1e-8)


def test_hypervolume_weights_leave_dominated_rays_to_their_preference(exact):
    preference = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]).double()
    solver = exact["variants"].HypervolumeWeights(preference, rays=3)
    values = torch.tensor([[0.2, 0.6], [0.6, 0.2], [0.8, 0.8]]).double()
    weights = solver(torch.eye(2).double().expand(3, -1, -1), values).weights
    # The first two cover, apart from each other, what is .4 wide and .4 tall.
    expected = torch.tensor([[0.5, 0.5], [0.5, 0.5], [0.9, 0.1]]).double()
    torch.testing.assert_close(weights, expected)
    values[0, 0] = 0.4  # now .2 wide
    weights = solver(torch.eye(2).double().expand(3, -1, -1), values).weights
    torch.testing.assert_close(weights[0], torch.tensor([2 / 3, 1 / 3]).double())


def test_rounding_keeps_what_is_decided_and_no_linear_cost_gets_worse(exact, table):
    one = exact["table"].ExactTable("one", SIZES, table.costs[:, :1], table.connected)
    tables = exact["table"].stacked([one])
    p = probabilities(distribution(20), SIZES)[None]
    picks = exact["table"].rounded(p, tables, SIZES)
    before = exact["table"].expectation(p, tables, SIZES)[0, :, 0].numpy()
    assert (one.costs[one.rows_of(picks[0]), 0] <= before + 1e-12).all()
    certain = torch.cat(
        [torch.nn.functional.one_hot(picks[..., i], n) for i, n in enumerate(SIZES)], -1
    ).double()
    assert torch.equal(exact["table"].rounded(certain, tables, SIZES), picks)


def test_polished_picks_are_better_than_all_that_differ_in_one(exact, table):
    preference = np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]])
    picks = np.zeros((3, len(SIZES)), dtype=int)
    found = table.polished(picks, preference)
    assert (picks == 0).all(), "the picks given are not touched"

    def worst(one, ray):
        return (preference[ray] * table.costs[np.ravel_multi_index(tuple(one), SIZES)]).max()

    for ray, own in enumerate(found):
        assert worst(own, ray) <= worst(picks[ray], ray)
        for i, size in enumerate(SIZES):
            for option in range(size):
                other = own.copy()
                other[i] = option
                assert worst(own, ray) <= worst(other, ray)


def test_estimators_that_have_no_bias_show_none(exact, table):
    rows = exact["gates"].run(table, alphas=2, draws=2048, spreads=(1.0,), temperatures=(1.0, 3.0))
    seen = rows.groupby(["estimator", "between", "temperature"])[["bias", "cosine", "noise"]].mean()
    plain = seen.loc["softmax", "expectation", 1.0]
    assert plain["bias"] == pytest.approx(0, abs=1e-9) and plain["noise"] == pytest.approx(0)
    assert seen.loc["score", "expectation", 1.0]["bias"] < 0.15
    assert seen.loc["score", "expectation", 1.0]["noise"] > 1
    assert seen.loc["softmax", "expectation", 3.0]["bias"] > 0.3
    assert seen.loc["softmax", "geometric", 1.0]["bias"] > 0.02


def test_the_bench_runs_on_a_table_without_a_data_folder(exact, table, tmp_path):
    bench, Method = exact["bench"], exact["methods"].Method  # noqa: N806
    chosen = [m for m in exact["methods"].methods() if m.name == "hypervolume weights"]
    linear = Method("LinearScalarization", "aimed", lambda p, r, n: LinearScalarization(p))
    other = exact["table"].ExactTable("other", SIZES, table.costs[::-1], table.connected)
    settings = {"steps": 30, "seeds": range(2), "count": 6, "tuned_on": ("other",)}
    results = bench.run([linear, *chosen], [table, other], **settings)
    driven = results[results["family"] != "ceiling"]
    assert len(driven) == 2 * 2 * 3
    assert driven["gradients"].unique().tolist() == [30 * 6 * 2]
    assert driven[["argmax", "rounded", "polished"]].to_numpy().max() <= 1
    assert driven.groupby("method")["rounded"].mean().min() > 0.8
    again = bench.run([linear], [table, other], **settings)
    same = driven[driven["method"] == "LinearScalarization"]["argmax"].tolist()
    assert again[again["family"] == "aimed"]["argmax"].tolist() == same
    shown = bench.summary(results)
    assert ("set", "hypervolume weights", "root") in shown.index
    bench.draw(results, tmp_path / "picture.svg")
    assert "hypervolume weights" in (tmp_path / "picture.svg").read_text()


def test_more_steps_of_a_lone_linear_ray_find_its_global_optimum_on_an_additive_table(exact):
    rows = rows_of_a_table()
    for i in range(2):
        rows[f"cost_{i}"] = sum((i + 1 + rows[c].astype(int)) * (-1) ** i for c in "abcd") + 20.0
    table = exact["table"].ExactTable.of("additive", rows, list("abcd"), ["cost_0", "cost_1"])
    linear = exact["methods"].Method("L", "aimed", lambda p, r, n: LinearScalarization(p))
    ends = list(exact["bench"].ends(linear, [table], (0.3,), (0,), 150, 6))
    best = next(r for r in exact["bench"].ceilings(table, 6) if "Linear" in r["method"])
    assert ends[0]["argmax"] == pytest.approx(best["argmax"], abs=1e-9)
    assert ends[0]["differ"] == 0 and ends[0]["entropy_bits"] < 0.05


def test_a_missing_folder_is_named(exact, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        exact["bench"].main(["--data", str(tmp_path)])
    assert end.value.code == 2
    assert "--data must be a folder with nb201.parquet" in capsys.readouterr().err


def test_the_real_tables_are_read_whole(exact, shared_data):
    tables = exact["table"].load(shared_data)
    assert [t.name for t in tables[-3:]] == list(exact["bench"].OTHERS)
    assert all(t.connected.sum() == 15_284 for t in tables[:-1])
    assert tables[-1].costs.shape == (3**8, 3)
    best = [t.fraction(t.best(24)) for t in tables[:2]]
    assert min(best) > 0.999


def test_limits_are_spread_over_the_front_and_no_way_beats_the_best_feasible(experiment, tmp_path):
    constraints = experiment("exact_bench/constraints")
    rows = pd.DataFrame(
        list(product("abc", repeat=len(constraints.LAYERS))), columns=[*constraints.LAYERS]
    ).sample(frac=1.0, random_state=0)
    picked = rows[[*constraints.LAYERS]].apply(lambda column: column.map(ord) - ord("a"))
    rows["params"] = 1.0 + picked.sum(axis=1)
    rows["flops"] = 1.0 + picked @ np.arange(1.0, 9.0)
    rows["test_error"] = 40.0 - picked @ np.arange(2.0, 0.0, -0.25)
    rows.to_parquet(tmp_path / "nasbench_macro.parquet")
    case = constraints.Case.of("macro", tmp_path, count=4)
    assert (np.diff(np.log(case.limits)) > 0).all()
    assert rows["params"].min() < case.limits[0] and case.limits[-1] < rows["params"].max()
    for limit in case.limits:
        feasible = rows[rows["params"] <= limit]
        known = case.best(np.arange(len(rows)), limit)
        assert known == pytest.approx(feasible["test_error"].min())
    for way in constraints.WAYS:
        found = pd.DataFrame(constraints.run(case, way, seed=0, steps=3))
        assert found["feasible"].between(0, 1).all()
        assert (found["regret"].dropna() >= 0).all()
        near = found["regret_with_neighbors"].fillna(np.inf)
        assert (near <= found["regret"].fillna(np.inf)).all()
