"""The experiment on limits that are measured again, on the smallest space."""

from dataclasses import replace

import pandas as pd
import pytest


@pytest.mark.deep
def test_what_is_returned_is_measured_by_another_process(experiment, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script = experiment("search/limits")
    small = replace(
        script.Settings(),
        space="toy",
        limits=2,
        supernet_steps=200,
        proxy_evaluations=12,
        finalists=6,
        share=0.25,
        seconds=0.2,
        csv=tmp_path / "limits.csv",
    )
    monkeypatch.setattr(
        script.subprocess, "run", lambda command, **_: Answer(script, command[2:], small, capsys)
    )
    script.main(["--backends", "torch", "--ways", "target", "unrepaired"], small)
    rows = pd.read_csv(small.csv)
    assert set(rows["way"]) == {"target", "unrepaired"}
    returned = rows[rows["returned"]]
    assert (returned["latency_ms"] <= returned["limit"] * (1 + 1e-4)).all()
    assert (returned["again_ms"] > 0).all()
    assert rows[~rows["returned"]]["again_ms"].isna().all()
    capsys.readouterr()
    script.main(["--show"], small)
    assert "hold_within_spread" in capsys.readouterr().out


class Answer:
    """What the other process would print, with the settings of the test."""

    def __init__(self, script, arguments, settings, capsys):
        capsys.readouterr()
        script.main(arguments, settings)
        self.stdout = capsys.readouterr().out
