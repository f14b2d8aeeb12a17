"""The comparison of paths for shared weights, on a few architectures of the table of signals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("pyarrow", reason="the tables are parquet: pip install 'paretonas[bench]'")
pytest.importorskip("mnist1d", reason="the signals are generated: pip install 'paretonas[bench]'")


@pytest.fixture
def script(experiment, tmp_path, monkeypatch):
    """The script, with every 16th row of the table."""
    truth = experiment("search/truth")
    table = pd.read_parquet(truth.TABLES / "signals.parquet").iloc[::16]
    table.to_parquet(tmp_path / "signals.parquet")
    monkeypatch.setattr(truth, "TABLES", tmp_path)
    found = experiment("search/shared_weights")
    monkeypatch.setattr(found, "DRAWS", 20)
    found.truth_of.cache_clear()
    yield found
    found.truth_of.cache_clear()


def test_the_sample_of_mobile_fits_its_space(experiment):
    script, tables = experiment("search/shared_weights"), experiment("search/ground_truth")
    truth = script.truth_of("mobile")
    assert truth.architectures == tables.sample(truth.space, len(truth.errors) + 1)[:-1]
    supernet = truth.space.supernet()
    for row in (0, -1):
        network = supernet.extract(truth.architectures[row])
        assert truth.parameters[row] == sum(p.numel() for p in network.parameters())


def test_the_truth_itself_is_the_best_score(script):
    truth = script.truth_of("signals")
    best, worst = script.worth(truth, truth.errors), script.worth(truth, -truth.errors)
    for part in script.PARTS:
        assert best[part] == pytest.approx(1)
        assert worst[part] == pytest.approx(-1)
    for count in script.FINALISTS:
        assert best[f"regret_{count}"] < worst[f"regret_{count}"]
        assert best[f"regret_{count}"] >= truth.regret(truth.best(count)) - 1e-9


def test_parts_are_the_best_by_the_truth(script):
    truth = script.truth_of("signals")
    scores = truth.errors.copy()
    order = np.argsort(scores)
    bad = order[len(order) // 2 :]  # below the better half scores say nothing
    scores[bad] = np.random.default_rng(0).permutation(scores[bad])
    found = script.worth(truth, scores)
    assert found["all"] < 0.95
    assert found["better_half"] == found["best_quarter"] == pytest.approx(1)


def test_each_supernet_is_scored_once(script, tmp_path, capsys):
    jobs = (
        script.Job("signals", 8, ("fair", "sandwich:2")),
        script.Job("signals", 1, (script.UNTRAINED,)),
    )
    settings = script.Settings(jobs=jobs, seeds=1, csv=tmp_path / "rows.csv")
    script.main([], settings)
    shown = capsys.readouterr().out
    rows = pd.read_csv(settings.csv)
    assert set(zip(rows["paths"], rows["score"], strict=True)) == {
        (way, score) for way in ("fair", "sandwich:2", "untrained") for score in ("loss", "error")
    }
    assert rows[[*script.PARTS]].abs().le(1).all(axis=None)
    best = script.truth_of("signals")
    for count in script.FINALISTS:
        assert rows[f"regret_{count}"].between(0, 1).all()
        assert rows[f"regret_{count}"].min() >= best.regret(best.best(count)) - 1e-4
    script.main([], settings)  # nothing is left to do
    assert pd.read_csv(settings.csv).equals(rows)
    assert shown.endswith(capsys.readouterr().out)


def test_every_way_gets_as_many_paths(script, monkeypatch):
    paths = []
    step = script.WeightTraining._step

    def counted(self, batch, group, recent):
        paths[-1] += len(group)
        return step(self, batch, group, recent)

    monkeypatch.setattr(script.WeightTraining, "_step", counted)
    monkeypatch.setattr(script, "inherited_scores", lambda *_: {"loss": 0.0, "error_percent": 0.0})
    for way in (*script.MAIN, script.UNTRAINED):
        paths.append(0)
        script.trained(script.truth_of("signals"), 1 if way == script.UNTRAINED else 8, way, 0)
    assert paths == [8] * len(script.MAIN) + [1]
