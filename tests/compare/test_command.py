"""`paretonas compare`: what it writes and says, and what it refuses in one line."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from paretonas._lock import held
from paretonas.cli import run
from paretonas.front import Front

FILES = {"anytime.csv", "summary.csv", "evaluations.csv", "report.html", "compare.json", "runs"}
SPLIT = "op_0_1,op_0_2,op_1_2"


def command(csv, out, **changes) -> list[str]:
    """The arguments for the small table; ``None`` leaves one out."""
    options = {
        "table": csv,
        "choices": SPLIT,
        "minimize": "error,latency_ms",
        "where": "ok",
        "methods": "random,nsga2",
        "budget": "24",
        "seeds": "2",
        "jobs": "1",
        "out": out,
    }
    pairs = [(f"--{name}", str(v)) for name, v in {**options, **changes}.items() if v is not None]
    return ["compare", *(word for pair in pairs for word in pair)]


def error_of(arguments, capsys) -> tuple[int, str]:
    code = run(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("paretonas: ")
    return code, lines[0]


@pytest.fixture(scope="module")
def folder(frame, tmp_path_factory):
    """A comparison that two processes made."""
    room = tmp_path_factory.mktemp("compare")
    frame.to_csv(room / "cells.csv", index=False)
    assert run(command(room / "cells.csv", room / "out", jobs=2)) == 0
    return room / "out"


def test_the_files_are_those_of_the_contract(folder):
    names = {path.name for path in folder.iterdir()}
    assert names == FILES | {"front-random.csv", "front-nsga2.csv"}
    rows = pd.read_csv(folder / "anytime.csv")
    assert list(rows.columns) == [
        "method",
        "seed",
        "evaluations",
        "hypervolume",
        "hypervolume_fraction",
        "igd_plus",
    ]
    assert len(rows) == 2 * 2 * 24
    assert rows["hypervolume_fraction"].between(0, 1).all()
    assert np.isfinite(rows["igd_plus"]).all()
    assert sorted(path.name for path in (folder / "runs").iterdir()) == [
        "nsga2-0.jsonl",
        "nsga2-1.jsonl",
        "random-0.jsonl",
        "random-1.jsonl",
    ]


def test_two_processes_give_the_same_files_as_one(one_process, folder):
    csv, other = folder.parent / "cells.csv", folder.parent / "other"
    assert run(command(csv, other)) == 0
    for name in ("anytime.csv", "evaluations.csv", "front-nsga2.csv"):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


def test_resume_reads_what_has_ended_and_tells_the_same(folder, capsys):
    before = (folder / "anytime.csv").read_bytes()
    (folder / "anytime.csv").unlink()
    assert run(["compare", "--resume", str(folder)]) == 0
    said = capsys.readouterr().out
    assert (folder / "anytime.csv").read_bytes() == before
    lines = said.splitlines()
    (head,) = (line for line in lines if line.startswith("method "))
    assert [
        word for word in ("at 12", "at 24", "worst seed", "to 95 %", "p (Holm)") if word in head
    ]
    assert any(line.startswith("nsga2 ") for line in lines)
    assert "the true front" in said
    assert str(folder / "report.html") in said


def test_report_redraws_the_page_and_runs_nothing(folder, capsys, monkeypatch):
    monkeypatch.setattr("paretonas.compare.workers.sample", None)
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"the report is {folder / 'report.html'}\n"
    assert (folder / "report.html").read_bytes() == before


def test_report_only_reads_the_folder_if_the_page_goes_elsewhere(
    folder, tmp_path, capsys, monkeypatch
):
    page = tmp_path / "page.html"
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not mode & os.W_OK)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run(["report", str(folder), "--out", str(page)]) == 0
    assert page.stat().st_size > 1000
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    code, line = error_of(["compare", "--resume", str(folder)], capsys)
    assert code == 2 and "cannot be written: no permission" in line


def test_report_draws_as_much_as_has_ended(folder, tmp_path, capsys):
    part, page = tmp_path / "part", tmp_path / "page.html"
    shutil.copytree(folder, part)
    (part / "runs" / "nsga2-1.jsonl").unlink()
    assert run(["report", str(part), "--out", str(page)]) == 0
    assert "<b>nsga2</b></td><td class=number>1 of 2</td>" in page.read_text()
    assert not (part / "runs" / "nsga2-1.jsonl").exists()
    for path in (part / "runs").iterdir():
        path.unlink()
    capsys.readouterr()
    code, line = error_of(["report", str(part)], capsys)
    assert code == 2
    assert "no run has ended: there is nothing to show" in line


def test_report_refuses_what_it_cannot_draw(folder, tmp_path, capsys):
    code, line = error_of(["report", str(tmp_path)], capsys)
    assert code == 2
    assert "is not the folder of a run or a comparison: no run.json, no compare.json" in line
    shutil.copytree(folder, tmp_path / "other")
    about = json.loads((folder / "compare.json").read_text())
    moved = json.dumps({**about, "asked": {**about["asked"], "table": "gone.csv"}})
    (tmp_path / "other" / "compare.json").write_text(moved)
    code, line = error_of(["report", str(tmp_path / "other")], capsys)
    assert code == 2
    assert "gone.csv" in line


def test_the_same_command_goes_on_and_another_is_refused(folder, capsys):
    csv = folder.parent / "cells.csv"
    assert run(command(csv, folder)) == 0
    capsys.readouterr()
    code, line = error_of(command(csv, folder, budget="25", where=None), capsys)
    assert code == 2
    assert 'where was "ok", now not given' in line
    assert "budget" not in line.split(": ", 2)[2]  # it may grow
    code, line = error_of(command(csv, folder, budget="23"), capsys)
    assert code == 2
    assert f"the budget of the comparison in {folder} can only grow: 24 before, now 23" in line


def test_a_failed_run_is_told_and_the_code_is_1(one_process, csv, tmp_path, capsys, monkeypatch):

    def fragile(name, problem, seed):
        if name == "nsga2" and seed:
            raise OSError("no luck")
        return make(name, problem, seed)

    from paretonas.names import methods

    make = methods.make
    monkeypatch.setattr(methods, "make", fragile)
    assert run(command(csv, tmp_path / "out")) == 1
    said = capsys.readouterr()
    first, last = said.err.splitlines()
    assert first == "paretonas: nsga2, seed 1 failed: OSError: no luck"
    assert "1 of 4 runs failed" in last
    assert "random" in said.out
    assert (tmp_path / "out" / "report.html").exists()
    assert "OSError: no luck" in (tmp_path / "out" / "report.html").read_text()


def test_where_all_runs_fail_there_is_nothing_to_show(
    one_process, csv, tmp_path, capsys, monkeypatch
):
    def never(name, problem, seed):
        raise OSError("no luck")

    monkeypatch.setattr("paretonas.names.methods.make", never)
    assert run(command(csv, tmp_path / "out", methods="random")) == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert "all of 2 runs failed; to try these again: paretonas compare --resume" in last
    assert not (tmp_path / "out" / "anytime.csv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minimize": "eror,latency_ms"}, "there is no column 'eror'; did you mean 'error'?"),
        ({"choices": "op_0_1,op_0_9"}, "there is no column 'op_0_9'"),
        ({"where": "okay"}, "there is no column 'okay'; did you mean 'ok'?"),
        ({"choices": f"{SPLIT},same"}, "choice 'same' needs at least two options"),
        (
            {"choices": "op_0_1,op_0_2"},
            "rows 1 and 2 are both op_0_1=conv op_0_2=conv, but error is",
        ),
        ({"minimize": "error,word"}, "objective 'word' must be a finite number"),
        ({"minimize": "error,hole"}, "objective 'hole' must be a finite number"),
        ({"minimize": "error"}, "at least two objectives"),
        ({"minimize": None}, "at least two objectives"),
        ({"budget": "65"}, "from 1 to the 64 architectures of the space, got 65"),
        ({"budget": "0"}, "from 1 to the 64 architectures of the space, got 0"),
        ({"budget": "-3"}, "got -3"),
        ({"methods": "random,nsga"}, "no method is called 'nsga'"),
        ({"methods": "random,random"}, "method 'random' is named 2 times"),
        ({"methods": ""}, "no method to compare"),
        ({"seeds": "0"}, "at least one seed, got 0"),
        ({"choices": '"op_0_1,op_0_2'}, 'cannot read the list "op_0_1,op_0_2: unexpected end'),
        ({"minimize": '"error"s,latency_ms'}, "a name that has a comma stands between two quotes"),
        ({"log": "zero", "minimize": "error,zero"}, "positive throughout, but zero goes from 0"),
        ({"log": "eror"}, "no objective is called 'eror'; did you mean 'error'?"),
        ({"free": "latency"}, "no objective is called 'latency'; did you mean 'latency_ms'?"),
        ({"table": None}, "compare needs --space S, or --table FILE"),
        ({"table": None, "space": "toy"}, "--choices name columns of a file; give it with --table"),
        ({"choices": None}, "--table FILE needs --choices"),
        ({"table": "nofile.csv"}, "nofile.csv"),
        ({"table": "cells.txt"}, ".csv or .parquet"),
        ({"out": "full"}, "full is not empty; a comparison needs a new or empty folder"),
        ({"out": "cells.csv"}, "cells.csv is a file"),
        ({"out": "cells.csv/inside"}, "cannot be written"),
        ({"resume": "full"}, "leave out --table, --choices"),
        ({"jobs": "0"}, "--jobs"),
        ({"evaluation-timeout": "5"}, "is a time such as 90s, 10m or 1h, got '5'"),
        ({"space": "toi"}, "no space is called 'toi'; did you mean 'toy'?"),
        ({"space": "toy", "choices": None}, "there is no column 'width'"),
        ({"device": "cpu"}, "--device says where networks are trained; a table has none"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(
    csv, frame, tmp_path, monkeypatch, capsys, change, message
):
    monkeypatch.chdir(tmp_path)
    words = ["low", "high"] * 32
    bad = frame.assign(same="x", word=words, hole=[np.nan, *range(63)], zero=range(64))
    bad.to_csv(csv, index=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    arguments = command(csv, **{"out": "out", "where": None, **change})
    code, line = error_of(arguments, capsys)
    assert code == 2
    assert message in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "compare needs --space S, or --table FILE"),
        (["--resume", "nofolder"], "nofolder"),
        (["--resume", "."], "is not the folder of a comparison: no compare.json"),
        (["--space", "toy", "--minimize", "latncy"], "'latncy'; did you mean 'latency'?"),
        (["--space", "toy", "--maximize", "a,b"], "--maximize name columns of a file"),
        (["--space", "toy", "--device", "tpu"], "the device must be auto, cpu or cuda, got 'tpu'"),
        (["--space", "nas_bench_graph:cora", "--device", "cpu"], "nas_bench_graph_cora has none"),
    ],
)
def test_a_comparison_of_nothing_is_refused(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, line = error_of(["compare", *arguments], capsys)
    assert code == 2
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_time_limit_needs_a_process_that_can_be_ended(one_process, csv, tmp_path, capsys):
    code, line = error_of(command(csv, tmp_path / "out", **{"evaluation-timeout": "5s"}), capsys)
    assert code == 2
    assert "a part of your own cannot be sent to one" in line
    assert not (tmp_path / "out").exists()


def test_each_comparison_gets_a_folder_of_its_own(one_process, csv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert run(command("cells.csv", None, methods="random", budget="5")) == 0
    folders = {path.name for path in tmp_path.iterdir() if path.is_dir()}
    assert folders == {"compare-cells-1", "compare-cells-2"}


def test_names_may_be_given_one_by_one_and_gains_by_their_own_name(one_process, csv, tmp_path):
    arguments = command(csv, tmp_path / "out", minimize=None, methods="random")
    more = ["--minimize", "latency_ms", "--maximize", "accuracy", "--log", "accuracy"]
    assert run([*arguments, *more, "--free", "latency_ms"]) == 0
    front = pd.read_csv(tmp_path / "out" / "front-random.csv")
    assert {"latency_ms", "accuracy"} <= {*front.columns}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Known without an evaluation, to every method that can use it: latency (ms)." in page


def numbers_of(value) -> list[float]:
    """All numbers in what a JSON file holds."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for one in value for number in numbers_of(one)]
    return [value] if isinstance(value, int | float) else []


def test_what_is_maximized_is_shown_as_it_was_measured(one_process, csv, tmp_path, capsys):
    """No file, page or line holds its negative, nor a name like minus accuracy."""
    out = tmp_path / "out"
    arguments = command(csv, out, minimize="latency_ms", maximize="accuracy", log="accuracy")
    assert run(arguments) == 0
    told = capsys.readouterr().out
    assert "latency_ms minimized, accuracy maximized" in told
    assert not re.search(r"minus|(?<![\w-])-\d", told)
    for path in out.rglob("*"):
        if path.is_dir() or path.suffix == ".html":
            continue
        text = path.read_text()
        assert "minus" not in text, path
        if path.suffix == ".csv":
            frame = pd.read_csv(path)
            if path.name == "summary.csv":  # the difference of two methods has a sign
                frame = frame[frame["statistic"] != "median_difference"]
            assert not (frame.select_dtypes("number") < 0).any(axis=None), path
        else:
            lines = text.splitlines() if path.suffix == ".jsonl" else [text]
            assert all(number >= 0 for line in lines for number in numbers_of(json.loads(line)))
    about = json.loads((out / "compare.json").read_text())["settings"]
    assert (about["objectives"], about["maximize"]) == (["latency_ms", "accuracy"], ["accuracy"])
    front = Front.read(out / "front-random.csv", ["latency_ms", "accuracy"], maximize=["accuracy"])
    rows = pd.read_csv(out / "evaluations.csv").query("method == 'random' and not failed")
    assert front.pick("most-accurate").objectives["accuracy"] == rows["accuracy"].max()


def test_an_own_objective_may_be_maximized(one_process, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(
        "class Coverage:\n"
        "    column, maximize = 'coverage', True\n"
        "    def exact(self, architecture):\n"
        "        return -float(1 + len(str(architecture)) % 7)\n"
    )
    (tmp_path / "t.csv").write_text(
        "a,b,x,y\n" + "".join(f"{a},{b},{1 + a},{9 - a - b}\n" for a in range(4) for b in range(4))
    )
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "--table", "t.csv", "--choices", "a,b", "--methods", "random"]
    more = ["--minimize", "x,y,mine:Coverage", "--budget", "9", "--seeds", "1", "--out", "out"]
    assert run([*arguments, *more]) == 0
    assert "x minimized, y minimized, coverage maximized" in capsys.readouterr().out
    assert (pd.read_csv("out/evaluations.csv")["coverage"] > 0).all()
    page = Path("out/report.html").read_text()
    assert run(["report", "out"]) == 0  # runs no code of the objective
    assert Path("out/report.html").read_text() == page


def test_a_name_with_a_comma_stands_in_quotes(one_process, csv, frame, tmp_path):
    other = {"op_0_1": "first, or so", "op_0_2": 'the "second"', "error": "error, in percent"}
    frame.rename(columns=other).to_csv(csv, index=False)
    arguments = command(
        csv,
        tmp_path / "out",
        choices='"first, or so",the "second", op_1_2',
        minimize='latency_ms , "error, in percent"',
    )
    assert run(arguments) == 0
    assert run(["compare", "--resume", str(tmp_path / "out")]) == 0
    rows = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    assert list(rows.columns) == [
        "method",
        "seed",
        "evaluation",
        "first, or so",
        'the "second"',
        "op_1_2",
        "latency_ms",
        "error, in percent",
        "failed",
    ]


def test_averages_join_the_rows_that_share_a_value(one_process, csv, frame, tmp_path):
    frame.assign(kind=[i // 2 for i in range(64)]).to_csv(csv, index=False)
    arguments = command(csv, tmp_path / "out", average="kind", where=None, budget="64", seeds="1")
    assert run(arguments) == 0
    rows = pd.read_csv(tmp_path / "out" / "evaluations.csv")
    joined = rows[rows["method"] == "random"].merge(
        frame.assign(kind=[i // 2 for i in range(64)]), on=SPLIT.split(","), suffixes=("", "_one")
    )
    assert (joined.groupby("kind")["error"].nunique() == 1).all()
    groups = joined.groupby("kind")
    assert groups["error"].first().tolist() == pytest.approx(groups["error_one"].mean().tolist())


@pytest.mark.timeout(400)  # a fresh process imports all anew, also on a busy machine
@pytest.mark.parametrize(
    ("send", "number", "code"),
    [
        (os.killpg, signal.SIGINT, 130),  # to the whole group, as a terminal sends it
        pytest.param(os.kill, signal.SIGTERM, 143, marks=pytest.mark.deep),
    ],
    ids=["ctrl-c", "sigterm"],
)
def test_a_signal_stops_all_processes_and_keeps_what_has_ended(csv, tmp_path, send, number, code):
    out = tmp_path / "out"
    many = command(csv, out, methods="random,nsga2", seeds="400", budget="60")
    program = [sys.executable, "-c", "from paretonas.cli import main; main()", *many]
    process = subprocess.Popen(
        program,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background of a shell has interrupts ignored, children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while process.poll() is None and not list(out.glob("runs/*[0-9].jsonl")):
        time.sleep(0.05)
    send(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert error == f"paretonas: stopped; to go on: paretonas compare --resume {out}\n"
    assert 1 <= len(list(out.glob("runs/*[0-9].jsonl"))) < 800
    assert not (out / "summary.csv").exists()


@pytest.mark.timeout(400)
def test_killed_it_leaves_no_process_behind(csv, tmp_path):
    out = tmp_path / "out"
    many = command(csv, out, methods="random,nsga2", seeds="400", budget="60", jobs="2")
    program = [sys.executable, "-c", "from paretonas.cli import main; main()", *many]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while process.poll() is None and not list(out.glob("runs/*[0-9].jsonl")):
        time.sleep(0.05)
    process.kill()
    # Ends when nobody holds the other end any more, the processes of the runs included.
    process.communicate(timeout=60)
    assert len(list(out.glob("runs/*[0-9].jsonl"))) < 800
    with held(out):  # nor anybody who keeps the lock
        pass


def test_the_commands_of_the_page_run_on_the_file_of_the_page(one_process, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text()
    code = re.findall(r"^```python run\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "comparing.md", "exec"), {})
    for command in commands:
        program, *words = shlex.split(command.replace("\\\n", " "))
        assert program == ".venv/bin/paretonas"
        assert run(words) == 0
    assert len(commands) == 2
    rows = pd.read_csv(tmp_path / "cells" / "summary.csv")
    assert rows["evaluations"].max() == 60
    told = set(re.findall(r"`(\w+)`", page.partition("In `summary.csv`:")[2]))
    assert set(rows["statistic"]) <= told
    percents = {f"evaluations_to_{n}_percent" for n in (95, 97, 99)}  # "also 95, 97, 99"
    assert set(rows["measure"]) - percents <= told


class Tags(HTMLParser):
    """What a page loads, and which tags it leaves open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_of_itself_and_draws_every_method(folder):
    page = (folder / "report.html").read_text()
    assert page.count("<section>") == 7
    tags = Tags(page)
    assert tags.loads == []
    assert tags.open == []
    for name in ("regret", "targets", "distance", "fronts"):
        assert f'id="{name}"' in page
    assert page.count("Plotly.newPlot(") >= 4
