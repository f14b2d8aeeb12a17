"""The numbers of the page on latency, on the smallest space."""

from dataclasses import replace

import pandas as pd
import pytest


@pytest.mark.deep
def test_each_claim_has_its_rows_and_keeps_those_of_others(
    experiment, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = experiment("search/latency_claims")
    settings = replace(
        script.Settings(),
        space="toy",
        architectures=6,
        group=3,
        seconds=0.02,
        compared=10,
        budget="60steps",
        script_seconds=0.0,
        csv=tmp_path / "rows.csv",
    )
    script.main(["eager", "runner"], settings)
    script.main(["int8"], settings)
    rows = pd.read_csv(settings.csv)
    assert list(rows["claim"].drop_duplicates()) == ["eager", "runner", "int8"]
    found = {(claim, what): value for claim, what, value in rows.itertuples(index=False)}
    assert found["eager", "eager torch, as a multiple of the file: smallest"] > 0
    assert found["runner", "milliseconds there, as a multiple of those here: median"] > 0
    assert 0 <= found["int8", "of them in int8"] <= found["int8", "points of the common front"]
    assert rows["value"].notna().all()
    told = capsys.readouterr().out
    script.main(["--show"], settings)
    assert told.endswith(capsys.readouterr().out)


def test_another_claim_is_refused(experiment, capsys):
    with pytest.raises(SystemExit):
        experiment("search/latency_claims").main(["energy"])
    assert "a claim is one of eager, runner, int8, got energy" in capsys.readouterr().err
