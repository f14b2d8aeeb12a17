"""One solver on weights and on alpha, on a small budget."""

from __future__ import annotations

from itertools import product

import pandas as pd
import pytest
import torch


@pytest.fixture(scope="module")
def both(experiment):
    return experiment("conflict/weights_and_alpha")


def test_expected_operations_are_the_mean_over_all_architectures(both, rng):
    from paretonas.nn import Supernet
    from paretonas.relaxation import probabilities, sizes_of

    supernet = Supernet(both.TwoQuestions())
    sizes = sizes_of(supernet.choices)
    cost, onehots = both.operations(supernet)
    assert sizes == (4, 3, 3) and cost.shape == (36,) and (cost > 0).all()
    p = probabilities(torch.randn(sum(sizes), generator=rng), sizes)
    parts = p.split(list(sizes))
    mean = sum(
        parts[0][i] * parts[1][j] * parts[2][k] * cost[row]
        for row, (i, j, k) in enumerate(product(*map(range, sizes)))
    )
    torch.testing.assert_close(both.expected(p, cost, onehots, sizes), mean)
    torch.testing.assert_close(both.expected(onehots[7], cost, onehots, sizes), cost[7])


def test_operations_are_those_of_the_layers(both):
    from paretonas.nn import Supernet

    supernet = Supernet(both.TwoQuestions())
    dense = {"width": "16", "block1": "dense", "block2": "skip"}
    assert both.counted(supernet, dense) == pytest.approx(2 * (64 * 16 + 16 * 16 + 16 * 11) / 1000)


@pytest.mark.timeout(240)
def test_units_do_not_change_what_a_scale_invariant_solver_does(both):
    from paretonas.solvers import NashMTL

    settings = both.Settings(steps=12)
    ends = [both.together(NashMTL(), units, 0, settings) for units in ((1.0, 1.0), (10.0, 30.0))]
    assert ends[0]["architecture"] == ends[1]["architecture"]
    assert ends[0]["decided"] == pytest.approx(ends[1]["decided"], abs=1e-3)


@pytest.mark.timeout(240)
@pytest.mark.deep
def test_all_is_measured_and_shown_again(both, tmp_path, capsys, shown_again):
    settings = both.Settings(
        seeds=1, steps=3, epochs=1, grid=(1.0,), solvers=("sum", "UPGrad"),
        csv=tmp_path / "rows.csv", figure=tmp_path / "figure.svg",
    )  # fmt: skip
    rows = both.main([], settings)
    told = capsys.readouterr().out
    assert rows["part"].value_counts().to_dict() == {"truth": 36, "joint": 7, "grid": 1}
    joint = rows[rows["part"] == "joint"]
    assert (joint["distance"] >= 0).all() and (joint["regret"] >= 0).all()
    assert joint["decided"].between(0, 1).all()
    # The plain sum in its own units is one of the weights that are tuned over.
    plain = joint[joint["method"].eq("sum") & joint["units"].eq("as they are")]
    same = rows[rows["method"] == "1 : 1.0 : 1.0"]
    assert plain["digit_test"].item() == same["digit_test"].item()
    shown_again(both, settings, told)


def test_the_written_rows_say_what_the_page_says(both):
    rows = pd.read_csv(both.Settings().csv)
    joint = rows[(rows["part"] == "joint") & (rows["method"] != both.TUNED)]
    picks = joint.groupby(["method", "seed"])["architecture"].nunique().unstack(0)
    assert (picks["PriorityProjection"] == 1).all()
    assert picks["sum"].mean() > 1.5 and picks["FirstInFull"].mean() > 1.5
