"""Folders that an earlier version wrote still open, resume and report.

`tests/older` holds a search that was killed after two of its four finalists, and a comparison of
which the last run was killed after 12 of 20 evaluations; both were begun with version 0.1.0, before
the evaluation of architectures moved to `paretonas.evaluation`. `tests/older/maximized` is a
comparison that maximizes a column, on a log scale, whose last run was killed after 7 of 12
evaluations: that version called the column ``minus_accuracy_percent`` and wrote it negated.

`tests/older/format_1` holds a file of each kind of the first format with a number, as
`experiments/fuzz.py` writes and reads them. A version that writes another format keeps it.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from paretonas.cli import run
from paretonas.compare import compare
from paretonas.problem import Problem
from paretonas.runs import Run
from paretonas.table import Table

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
    for point, old in zip(after.evaluations(), before, strict=False):  # latency is measured anew
        assert (point.id, point.architecture) == (old.id, old.architecture)
        assert point.objectives["error_percent"] == old.objectives["error_percent"]
    assert after.about["backend"] == "torch"
    assert [point.id for point in after.evaluations()] == ["a01", "a02", "a03", "a04"]
    assert before[0].architecture in after.front()
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


@pytest.mark.parametrize("log", ["accuracy_percent", "minus_accuracy_percent"])
def test_a_comparison_with_negated_values_goes_on_with_the_users(here, monkeypatch, log):
    monkeypatch.setattr("paretonas.cli.compare._processes", lambda *_: None)
    folder = here / "maximized"
    shutil.copytree(OLDER / "maximized", folder)
    shutil.copy(OLDER / "accuracy.csv", here)
    about = folder / "compare.json"
    asked = '"log": [\n   "accuracy_percent"'  # as typed; its name in files was known as well
    assert asked in about.read_text()
    text = about.read_text().replace(asked, asked.replace("accuracy_percent", log))
    about.write_text(text.replace("/home/user", str(here)))
    assert run(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text().rpartition("<body>")[2]
    assert "minus" not in page.replace("sequentialminus", "")
    assert run(["compare", "--resume", str(folder)]) == 0
    rows = pd.read_csv(folder / "evaluations.csv")
    assert len(rows) == 2 * 2 * 12
    table = pd.read_csv(here / "accuracy.csv").set_index(["op", "width", "depth"])
    true = table.loc[list(zip(rows["op"], rows["width"], rows["depth"], strict=True))]
    assert rows["accuracy_percent"].tolist() == true["accuracy_percent"].tolist()
    # The run that was killed is the one that a comparison without a stop makes.
    words = "--table accuracy.csv --choices op,width,depth --minimize latency_ms --maximize"
    more = "accuracy_percent --log accuracy_percent --methods surgery,random --budget 12 --seeds 2"
    assert run(["compare", *words.split(), *more.split(), "--out", "whole"]) == 0
    for name in ("anytime.csv", "evaluations.csv", "front-surgery.csv"):
        assert (folder / name).read_text() == (here / "whole" / name).read_text()


def test_it_goes_on_from_python_too_where_nothing_was_asked_on_the_command_line(here):
    folder = here / "maximized"
    shutil.copytree(OLDER / "maximized", folder)
    about = json.loads((folder / "compare.json").read_text())
    (folder / "compare.json").write_text(json.dumps({**about, "asked": {}}))
    choices = ["op", "width", "depth"]
    table = Table.read(OLDER / "accuracy.csv", choices, ["latency_ms"], ["accuracy_percent"])
    problem = Problem(table, log=["accuracy_percent"])
    found = compare(problem, ["surgery", "random"], budget=12, seeds=2, jobs=0, folder=folder)
    assert sorted(found.records) == [("random", 0), ("random", 1), ("surgery", 0)]
    for record in found.records.values():
        values = [outcome.objectives["accuracy_percent"] for outcome in record.outcomes]
        true = [table.costs[table.row(outcome.architecture), 1] for outcome in record.outcomes]
        assert values == [-cost for cost in true]


def test_every_file_of_format_1_is_read(here, experiment):
    fuzz = experiment("./fuzz")
    shutil.copytree(OLDER / "format_1", here, dirs_exist_ok=True)
    about = here / "comparison" / "compare.json"
    about.write_text(about.read_text().replace("/home/user", str(here)))
    read = {name: r for name, r in fuzz.READERS.items() if (here / r.file).exists()}
    with fuzz.stand_ins():
        for reader in read.values():
            reader.read()
    assert len(read) >= 22
    assert len(Run.open("run").outcomes()) == 8 and len(Run.open("run").front()) == 6
    for name in ("run/run.json", "run/front.json", "comparison/compare.json", "costs.json"):
        assert json.loads((here / name).read_text())["format"] == 1
