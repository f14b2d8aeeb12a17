"""The experiments on ground truth run, on a small budget, from the tables in the repository."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="the tables are parquet: pip install 'paretonas[bench]'")
pytest.importorskip("mnist1d", reason="the signals are generated: pip install 'paretonas[bench]'")


@pytest.fixture(scope="module")
def truth(experiment):
    return experiment("search/truth")


@pytest.mark.parametrize("name", ["digits_small", "signals"])
def test_the_tables_fit_their_spaces(truth, name):
    found = truth.Truth(truth.SPACES[name])
    assert len(found.architectures) == len(set(found.architectures)) == len(found.picks)
    rows = range(len(found.architectures))
    assert found.regret(list(rows)) == pytest.approx(0.0, abs=1e-12)
    assert found.regret([int(np.argmin(found.errors))]) > 0


def test_more_of_the_best_finalists_are_no_worse(truth):
    found = truth.Truth(truth.SPACES["signals"])
    regrets = [found.regret(found.best(count)) for count in (1, 2, 4, 8)]
    assert regrets == sorted(regrets, reverse=True)


def test_evolution_is_that_of_compare(truth):
    import baselines

    from paretonas.problem import Problem
    from paretonas.samplers.base import evaluate
    from paretonas.samplers.methods import make

    found = truth.Truth(truth.SPACES["signals"])
    seen = found.seen(0)
    rows = list(islice(baselines.nsga2_order(found, seen, 3, baselines.by_pick(20)), 60))
    assert len(set(rows)) == 60
    error = truth.Tabulated(found, seen, "error", "percent")
    sampler = make("nsga2", Problem(found.space, (error, *found.objectives())), 3)
    asked: dict[int, None] = {}
    while len(asked) < 60:
        generation = sampler.ask()
        asked |= dict.fromkeys(map(found.row, generation))
        sampler.tell([evaluate(a, (error, *found.objectives())) for a in generation])
    assert rows == list(asked)[:60]


@pytest.mark.deep
@pytest.mark.timeout(240)
def test_search_quality_compares_every_method_at_one_price(truth, tmp_path):
    import pandas as pd
    import search_quality

    search_quality.main(
        [],
        search_quality.Settings(
            spaces=("signals",),
            seeds=1,
            supernet_steps=(10,),
            proxy_evaluations=12,
            finalists=(2, 4),
            csv=tmp_path,
            figure=tmp_path / "figure.png",
        ),
    )
    rows = pd.read_csv(tmp_path / "search_quality.csv")
    assert rows["regret"].between(0, 1).all()
    assert set(rows["finalists"]) == {2, 4}
    baselines = {"NSGA-II, trained", "NSGA-II with SBX, trained", "NSGA-II, inherited loss"}
    assert baselines < set(rows["method"])
    best = rows[rows["method"] == "the best finalists there are"].set_index("finalists")["regret"]
    for count, group in rows.groupby("finalists"):
        same_number = group[~group["method"].str.endswith("trained")]
        assert (same_number["regret"] >= best[count] - 1e-9).all()
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_searches_with_inherited_and_with_fresh_finalists_cost_the_same(truth):
    import inherited_finalists as script

    space = truth.SPACES["signals"]
    batches = -(-len(space.task().train) // 64)
    for way in script.MANY:
        plan = script.plan_for(space, 4500, way)
        steps = 4500 - plan.supernet_steps
        each = plan.recipe.epochs * batches * (way.share > 0) + 7 * way.inherit
        assert 0 <= steps - plan.finalists * each < each or plan.finalists == script.MOST


@pytest.mark.deep
@pytest.mark.timeout(240)
def test_searches_with_inherited_finalists_go_on_where_they_were_stopped(truth, tmp_path, capsys):
    import inherited_finalists as script
    import pandas as pd

    job = script.Job("signals", 300, (script.ALL[1.0], script.NEVER))
    settings = script.Settings(jobs=(job,), seeds=1, csv=tmp_path / "points.csv")
    script.main([], settings)
    shown = capsys.readouterr().out
    rows = pd.read_csv(settings.csv)
    assert set(rows["method"]) == {"inherit 1 at 1", "inherit 0", "random"}
    for _, front in rows.groupby("method"):
        assert front["error_percent"].is_monotonic_increasing
        assert front["parameters"].is_monotonic_decreasing
    script.main([], settings)  # nothing is left to do
    assert pd.read_csv(settings.csv).equals(rows)
    assert shown.endswith(capsys.readouterr().out)
