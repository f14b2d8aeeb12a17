"""Solvers on alpha over a table of trained architectures, on a small budget."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def architectures(experiment):
    pytest.importorskip("pyarrow", reason="the table is parquet: pip install 'paretonas[parquet]'")
    return experiment("exact_bench/architectures")


def first_in_full(jacobian, leader):
    direction = jacobian[leader].clone()
    for j, row in enumerate(jacobian):
        if j != leader:
            inner = row @ jacobian[leader]
            direction += (
                row
                - min(0.0, float(inner))
                / inner.new_tensor(float(jacobian[leader] @ jacobian[leader]))
                * jacobian[leader]
            )
    return direction


def test_the_leader_goes_in_full_and_the_others_do_not_oppose_it(architectures, rng):
    for _ in range(5):
        jacobian = torch.randn(3, 4, generator=rng, dtype=torch.float64)
        direction = architectures.FirstInFull()(jacobian)
        torch.testing.assert_close(direction.vector, first_in_full(jacobian, 0))
        assert jacobian[0] @ direction.vector >= jacobian[0] @ jacobian[0] - 1e-12


def test_the_second_leads_where_it_is_above_its_limit(architectures, rng):
    jacobian = torch.randn(2, 2, 4, generator=rng, dtype=torch.float64)
    values = torch.tensor([[0.5, 0.6], [0.5, 0.4]], dtype=torch.float64)
    solver = architectures.FirstInFull(np.array([0.5, 0.5]))
    vector = solver(jacobian, values).vector
    torch.testing.assert_close(vector[0], first_in_full(jacobian[0], 1))
    torch.testing.assert_close(vector[1], first_in_full(jacobian[1], 0))


def test_the_table_is_in_the_order_of_its_picks(architectures):
    table, unscaled = architectures.digits_table()
    assert table.sizes == (2, 2, 4, 4, 4) and len(unscaled) == 256
    low, high = unscaled.min(axis=0), unscaled.max(axis=0)
    np.testing.assert_allclose(table.costs, (unscaled - low) / (high - low))
    assert table.fraction(table.front()) == pytest.approx(1.0)


def test_within_the_budget_the_first_is_alone(architectures, rng):
    jacobian = torch.randn(2, 2, 4, generator=rng, dtype=torch.float64)
    values = torch.tensor([[0.5, 0.6], [0.5, 0.4]], dtype=torch.float64)
    vector = architectures.WithinBudget(np.array([0.5, 0.5]))(jacobian, values).vector
    torch.testing.assert_close(vector[0], first_in_full(jacobian[0], 1))
    torch.testing.assert_close(vector[1], jacobian[1, 0])


def test_the_likeliest_architecture_within_a_limit_is_that_of_a_search_by_hand(architectures, rng):
    table, _ = architectures.digits_table()
    alpha = torch.randn(3, sum(table.sizes), generator=rng, dtype=torch.float64)
    parts = [part.softmax(dim=-1) for part in alpha.split(list(table.sizes), dim=-1)]
    for limit in (0.2, 1.0):
        found = architectures.likeliest(alpha, table, limit)
        for k in range(3):
            joint = parts[0][k]
            for part in parts[1:]:
                joint = (joint[:, None] * part[k]).flatten()
            within = table.costs[:, 1] <= limit
            assert found[k] == np.where(within, joint.numpy(), 0.0).argmax()


@pytest.mark.timeout(240)
def test_all_is_measured_and_shown_again(architectures, tmp_path, capsys, shown_again):
    settings = architectures.Settings(
        seeds=1, steps=4, rays=4, csv=tmp_path / "rows.csv", figure=tmp_path / "figure.svg"
    )
    rows = architectures.main([], settings)
    told = capsys.readouterr().out
    front = rows[rows["part"] == "front"]
    assert front["method"].is_unique and front["hypervolume"].between(0, 1).all()
    budget = rows[rows["part"] == "budget"]
    assert len(budget) == 4 * len(front)
    assert (budget["lost"] >= 0).all()
    shown_again(architectures, settings, told)


def test_the_written_rows_say_what_the_page_says(architectures):
    rows = pd.read_csv(architectures.Settings().csv)
    own = rows[rows["part"] == "front"]
    volume = own.pivot(index="seed", columns="method", values="hypervolume")
    unaimed = volume[own.loc[own["family"] == "no aim", "method"].unique()].median()
    for method in ("sum, rays", "EPO on square roots, rays", "WithinBudget, budgets"):
        assert volume[method].median() > unaimed.max() + 0.05
    lost = rows[rows["part"] == "budget"].groupby(["method", "seed"])["lost"].mean().unstack(0)
    plain = [method for method in unaimed.index if method != "error alone"]
    assert lost["WithinBudget, budgets"].median() < 0.5 * lost[plain].median().min()
