"""Folders that an earlier version wrote still open, resume and report.

`tests/older` holds a search that was killed after two of its four finalists, and a comparison of
which the last run was killed after 12 of 20 evaluations; both were begun with version 0.1.0, before
the evaluation of architectures moved to `paretonas.evaluation`.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from paretonas.cli import run
from paretonas.runs import Run

OLDER = Path(__file__).parent / "older"


@pytest.fixture
def here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_search_is_opened_resumed_reported_and_exported(here):
    folder = here / "run"
    shutil.copytree(OLDER / "run", folder)
    before = Run.open(folder).evaluations()
    assert [point.id for point in before] == ["a01", "a02"]
    assert run(["report", str(folder)]) == 0
    assert run(["search", "--resume", str(folder)]) == 0
    after = Run.open(folder)
    assert after.evaluations()[:2] == before
    assert [point.id for point in after.evaluations()] == ["a01", "a02", "a03", "a04"]
    assert before[0] in list(after.front())
    text = here / "net.json"
    assert (
        run(["export", str(folder), "--pick", "a01", "--format", "json", "--out", str(text)]) == 0
    )
    assert json.loads(text.read_text())["architecture"] == dict(before[0].architecture)


def test_a_comparison_is_opened_resumed_and_reported(here, monkeypatch):
    monkeypatch.setattr("paretonas.cli.compare._processes", lambda *_: None)
    folder = here / "comparison"
    shutil.copytree(OLDER / "comparison", folder)
    shutil.copy(OLDER / "table.csv", here)
    about = folder / "compare.json"
    about.write_text(about.read_text().replace("/home/user", str(here)))
    written = {p.name: p.read_bytes() for p in (folder / "runs").glob("*-[01].jsonl")}
    begun = (folder / "runs" / "surgery-1.unfinished.jsonl").read_bytes().splitlines()
    assert run(["report", str(folder)]) == 0
    assert run(["compare", "--resume", str(folder)]) == 0
    assert all((folder / "runs" / name).read_bytes() == old for name, old in written.items())
    resumed = (folder / "runs" / "surgery-1.jsonl").read_bytes().splitlines()
    assert len(resumed) == 21
    kept = [json.loads(line) for line in resumed[:12]]
    assert [e["architecture"] for e in kept] == [json.loads(e)["architecture"] for e in begun]
    anytime = pd.read_csv(folder / "anytime.csv")
    assert len(anytime) == 4 * 2 * 20
    assert anytime["hypervolume_fraction"].between(0, 1).all()
