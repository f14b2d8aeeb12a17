"""The comparison of latency tables with the device, on the smallest space."""

from dataclasses import replace

import pandas as pd
import pytest


@pytest.mark.deep
def test_tables_and_pairs_have_a_row_for_each_backend(experiment, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = experiment("search/latency_tables")
    settings = replace(
        script.Settings(),
        spaces=("toy",),
        held_out=6,
        pairs=4,
        group=3,
        seconds=0.02,
        tables=tmp_path / "tables.csv",
        csv=tmp_path / "pairs.csv",
    )
    monkeypatch.setattr(
        script,
        "pair",
        lambda space, backend, settings: {
            "space": space,
            "timed": len(script.timed_alone(space, backend, settings)),
        },
    )
    script.main([], settings)
    script.main(["--pairs"], settings)
    rows = pd.read_csv(settings.tables)
    assert list(rows["backend"]) == ["onnxruntime", "torch"]
    assert rows["tau"].between(-1, 1).all()
    assert rows["coverage"].dropna().between(0, 1).all()
    assert (rows["fastest_ms"] > 0).all()
    assert list(pd.read_csv(settings.csv)["timed"]) == [4, 4]
    assert "within_10_percent" in capsys.readouterr().out


@pytest.mark.deep
def test_architectures_are_different(experiment):
    script = experiment("search/latency_tables")
    supernet, _ = script.built(script.CONVERTED)
    assert len(set(script.drawn(supernet, 30, seed=0))) == 30
