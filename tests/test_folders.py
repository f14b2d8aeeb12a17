"""A folder from somebody else is data: no command runs its code, or touches what is outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas  # noqa: F401 (as below)
import pytest

import paretonas.cli.search as job
import search_spaces.images  # noqa: F401 (before a folder's file of that name can be found)
from paretonas._lines import encode
from paretonas._lock import held
from paretonas.cli import run
from paretonas.compare.folder import RunJournal, check_begun, read_about
from paretonas.front import Front, Point
from paretonas.report import write_report
from paretonas.runs import Run

MINE = """
from pathlib import Path
Path(r"{mark}").touch()
import pandas as pd
from torch import nn
from paretonas import NetworkSpace, Table
from paretonas.nn import OneOf
from search_spaces.images import digits_8x8

def network():
    options = {{"a": nn.Linear(64, 10), "b": nn.Linear(64, 10)}}
    return nn.Sequential(nn.Flatten(), OneOf(options))

space = NetworkSpace("mine", network, digits_8x8)
rows = pd.DataFrame({{"op": ["a", "b", "c"], "error": [1, 2, 3], "ms": [3, 2, 1]}})
cells = Table.from_pandas(rows, ["op"], ["error", "ms"], name="cells")
"""
# What a folder can name: a file, a module, one named like an installed or a standard one, and one
# of the package that is none.
SPECS = [
    "evil.py:{it}",
    "./evil.py:{it}",
    "evil:{it}",
    "onnxruntime:{it}",
    "wave:{it}",
    "search_spaces.evil:{it}",
    "evil.",
]


@pytest.fixture
def mark(tmp_path) -> Path:
    """Is there as soon as the folder's code has run."""
    return tmp_path / "code has run"


@pytest.fixture
def foreign(tmp_path, mark, monkeypatch):
    """Makes the folder of a run or a comparison that names code of its own."""
    place = tmp_path / "foreign"
    place.mkdir()
    for name in ("evil", "onnxruntime", "wave", "toy", "search_spaces", "pandas"):
        (place / f"{name}.py").write_text(MINE.format(mark=mark))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(sys.modules)

    def make(spec: str) -> Path:
        asked = {"space": spec, "methods": ["random"], "budget": 3, "seeds": 1}
        settings = {
            "space": "cells",
            "architectures": 3,
            "objectives": ["error", "ms"],
            "log": [],
            "free": [],
            "methods": ["random"],
            "budget": 3,
            "seeds": 1,
        }
        about = {"folder": str(place), "started": "2026-01-01", "settings": settings}
        (place / "compare.json").write_text(json.dumps({**about, "asked": asked}))
        about = {"settings": {"space": spec, "folder": str(place), "device": "cpu"}}
        about["settings"] |= {"threads": 1, "seed": 0}
        (place / "run.json").write_text(json.dumps({**about, "device": "cpu", "seed": 0}))
        front = Front(["error_percent", "latency_ms"])
        front.add(Point({"1": "a"}, {"error_percent": 1.0, "latency_ms": 1.0}))
        Run.open(place).write_front(front)
        return place

    yield make
    for name in sys.modules.keys() - before.keys():
        if name.endswith(("evil", "mine")) or name.startswith("own_code_in_") or name == "wave":
            del sys.modules[name]


def refused(arguments: list[str], capsys) -> str:
    """The one line on stderr of a command that ends with exit code 2."""
    assert run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


COMMANDS = [
    ["search", "--resume"],
    ["search", "--repeat"],
    ["compare", "--resume"],
    ["report"],
    ["export"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("spec", SPECS)
def test_no_command_runs_the_code_of_a_folder(foreign, mark, capsys, command, spec):
    spec = spec.format(it="cells" if command[0] in ("compare", "report") else "space")
    place = foreign(spec)
    files = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    path, modules = list(sys.path), set(sys.modules)
    line = refused([*command, "foreign"], capsys)
    assert f"names code that is not of paretonas: {spec!r} in" in line
    assert "--space S" in line and "--trust" in line
    assert not mark.exists()
    assert sys.path == path
    assert not {"evil", "wave", "own_code_in_evil"} & (set(sys.modules) - modules)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == files


def test_a_run_is_opened_and_reported_without_its_code(foreign, mark, capsys):
    place = foreign("evil.py:space")
    (place / "compare.json").unlink()
    assert run(["report", "foreign", "--out", "page.html"]) == 0
    assert Run.open(place).front().pick("knee").id == "a01"
    assert not mark.exists()


@pytest.mark.parametrize(
    "spec", ["toy", "toy:space", "search_spaces.toy", "search_spaces.toy:space"]
)
def test_a_space_of_the_package_is_found_and_nothing_beside_the_folder(
    foreign, mark, monkeypatch, capsys, spec
):
    place, path = foreign(spec), list(sys.path)
    found = []
    monkeypatch.setattr(
        job, "search", lambda **asked: found.append(asked["space"].name) or (step for step in ())
    )
    assert "the budget made no step possible" in refused(["search", "--resume", "foreign"], capsys)
    assert found == ["toy"]
    assert sys.path == path and not mark.exists()
    assert place.exists()


def forget_own_code():
    """Forget the files that were imported, as another process would not know them."""
    for name in [name for name in sys.modules if name.startswith("own_code_in_")]:
        del sys.modules[name]


@pytest.mark.parametrize("allow", [["--trust"], ["--space", "mine/evil.py:cells"]], ids=" ".join)
@pytest.mark.parametrize("command", [["compare", "--resume"], ["report"]], ids=" ".join)
def test_who_types_the_command_can_allow_it(
    foreign, mark, tmp_path, one_process, capsys, command, allow
):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "evil.py").write_text(MINE.format(mark=tmp_path / "mine has run"))
    out = tmp_path / "out"
    begin = ["compare", "--space", "evil.py:cells", "--methods", "random", "--budget", "3"]
    os.chdir(tmp_path / "mine")
    assert run([*begin, "--seeds", "1", "--out", str(out)]) == 0
    os.chdir(tmp_path)
    (tmp_path / "mine has run").unlink()
    forget_own_code()  # as in another process
    assert run([*command, str(out), *allow]) == 0, capsys.readouterr().err
    assert (tmp_path / "mine has run").exists()
    (tmp_path / "mine has run").unlink()
    forget_own_code()
    capsys.readouterr()
    assert "names code" in refused([*command, str(out)], capsys)
    assert not (tmp_path / "mine has run").exists()


def test_a_named_space_is_looked_for_where_the_user_is(foreign, mark, capsys):
    """Also if the folder names one in the same words, and means its own."""
    foreign("evil:space")
    line = refused(["search", "--resume", "foreign", "--space", "evil:space"], capsys)
    assert "no module is called 'evil'" in line
    assert not mark.exists()


def test_another_space_than_the_folders_is_refused(foreign, capsys):
    place = foreign("evil.py:space")
    entry = {"id": "a01", "architecture": {"1": "a"}, "objectives": {"error_percent": 1.0}}
    (place / "evaluations.jsonl").write_bytes(encode({**entry, "reported": {}}))
    for command in (["search", "--resume"], ["export"]):
        line = refused([*command, "foreign", "--space", "toy"], capsys)
        assert "no choice is called '1'" in line
    line = refused(["compare", "--resume", "foreign", "--space", "nas_bench_201"], capsys)
    assert "knows no objectives" in line or "other settings" in line


def test_trust_is_about_a_folder_that_is_there(capsys):
    for command in ("search", "compare"):
        assert "give --resume DIR" in refused([command, "--space", "toy", "--trust"], capsys)


def test_the_way_on_names_the_space_that_is_the_users_own(foreign, mark, capsys, monkeypatch):
    place = foreign("evil.py:space")
    os.chdir(place)

    def interrupted(**_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(job, "search", interrupted)
    assert run(["search", "--space", "evil.py:space", "--out", "../new"]) == 130
    said = capsys.readouterr().err
    again = "paretonas search --resume ../new --space evil.py:space"
    assert said == f"paretonas: stopped; to go on: {again}\n"
    assert run(again.split()[1:]) == 130
    assert run(["search", "--resume", "../new", "--trust"]) == 130
    assert "--resume ../new --trust\n" in capsys.readouterr().err


# --- Python, too --------------------------------------------------------------------------------


def test_python_opens_a_folder_without_its_code(foreign, mark):
    place, path = foreign("evil.py:space"), list(sys.path)
    run = Run.open(place)
    run.record(run.front()["a01"])
    run.log({"step": 1})
    run.save({"step": 1})
    assert (len(run.evaluations()), run.history(), run.resume()) == (1, [{"step": 1}], {"step": 1})
    write_report(run, place / "page.html")
    about = read_about(place)
    assert check_begun(place, about["settings"], about["asked"])
    assert RunJournal(place, "random", 0).finished(3) is None
    assert sys.path == path and not mark.exists()


def test_the_script_in_the_folder_of_a_runner_is_not_run(foreign, mark, capsys):
    place = foreign("evil.py:space")
    (place / "measure.py").write_text(MINE.format(mark=mark))
    told = {"format": 1, "space": "evil.py:space", "choices": {}, "input": [], "operations": ""}
    network = {"name": "n", "file": "n.onnx", "sha256": "", "nodes": True, "architecture": {}}
    (place / "networks.json").write_text(json.dumps({**told, "networks": [network]}))
    line = refused(["profile", "--space", "toy", "--import", "foreign"], capsys)
    assert "foreign is of another space" in line
    assert not mark.exists()


@pytest.mark.skipif(os.name == "nt", reason="links need a permission there")
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
@pytest.mark.parametrize(
    ("file", "read"),
    [
        ("run.json", lambda place: Run.open(place)),
        ("evaluations.jsonl", lambda place: Run.open(place).evaluations()),
        ("together.json", lambda place: Run.open(place).evaluations()),
        ("history.csv", lambda place: Run.open(place).history()),
        ("checkpoint.pt", lambda place: Run.open(place).resume()),
        ("front.json", lambda place: Run.open(place).front()),
        ("weights/a01.safetensors", lambda place: Run.open(place).weights("a01")),
        ("compare.json", read_about),
        ("runs/random-0.jsonl", lambda place: RunJournal(place, "random", 0).finished(3)),
        ("runs/random-0.unfinished.jsonl", lambda place: RunJournal(place, "random", 0).begun()),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_what_leads_out_of_a_folder_or_never_ends_is_not_read(foreign, tmp_path, kind, file, read):
    path = foreign("toy") / file
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "link":
        (tmp_path / "secret").write_text("{}")
        path.symlink_to("../" * file.count("/") + "../secret")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(ValueError, match=rf"{file}.*(leads out of|it is no file|it is a folder)"):
        read(tmp_path / "foreign")


# --- versions -----------------------------------------------------------------------------------


def test_a_folder_of_a_newer_version_is_refused_in_one_line(foreign, capsys):
    place = foreign("toy")
    newer = "is of format 2, which a newer version of paretonas has written; this version reads up"
    (place / "compare.json").rename(tmp := place / "kept.json")
    for name, commands in (
        ("run.json", (["report"], ["export"], ["search", "--resume"])),
        ("front.json", (["report"], ["export"])),
        ("compare.json", (["report"], ["compare", "--resume"])),
    ):
        if name == "compare.json":
            tmp.rename(place / name)
        before = (place / name).read_text()
        (place / name).write_text(json.dumps({**json.loads(before), "format": 2}))
        for command in commands:
            line = refused([*command, "foreign"], capsys)
            assert f"{name} {newer}" in line and "pip install --upgrade paretonas" in line
        (place / name).write_text(before)


# --- nothing of the user's is deleted or overwritten --------------------------------------------


@pytest.mark.parametrize("name", ["notes.txt", "empty", "history.csv"])
def test_a_refused_resume_deletes_nothing(foreign, monkeypatch, capsys, name):
    place = foreign("toy")
    for path in place.iterdir():
        path.unlink() if path.name != "run.json" else None
    (place / name).touch()

    def refuse(**_):
        raise ValueError("refused")
        yield

    monkeypatch.setattr(job, "search", refuse)
    assert run(["search", "--resume", "foreign"]) != 0
    assert sorted(os.listdir(place)) == sorted([name, "run.json"])


def test_a_refused_search_removes_what_it_made_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()

    def refuse(run, **_):
        run.resume()
        (Path("mine") / "notes").touch() if run.folder == Path("mine") else None
        raise ValueError("refused")
        yield

    monkeypatch.setattr(job, "search", refuse)
    for out in ("mine", "new/er"):
        assert run(["search", "--space", "toy", "--out", out]) != 0
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert (tmp_path / "mine" / "notes").exists()


def test_a_folder_at_work_is_told_in_one_line(foreign, capsys):
    place = foreign("toy")
    for path in place.glob("*.py"):
        path.unlink()
    with held(place):
        line = refused(["search", "--resume", "foreign"], capsys)
        assert "foreign is in use by this process on" in line
        (place / "compare.json").unlink()
        assert run(["report", "foreign"]) == 0


def test_damaged_lines_are_told_in_one_line(foreign):
    """In a process of its own, since pytest keeps warnings to itself."""
    place = foreign("toy")
    (place / "compare.json").unlink()
    (place / "evaluations.jsonl").write_text("{}\n{}\n")
    code = """
import sys, paretonas.cli.search as job
from paretonas.cli import run
job.search = lambda run, **_: (step for step in run.evaluations())
codes = run(["report", "foreign"]), run(["search", "--resume", "foreign"])
assert codes == (0, 2), codes
"""
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    damaged = "paretonas: foreign/evaluations.jsonl, 2 lines are damaged and were left out: 1, 2"
    once, again, last = result.stderr.splitlines()
    assert once == again == damaged
    assert "Traceback" not in last


def test_profile_replaces_only_a_file_that_was_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "costs.json").symlink_to("nowhere")
    line = refused(["profile", "--space", "toy"], capsys)
    assert "costs.json exists; name another file, or this one, with --out FILE" in line
    line = refused(["profile", "--space", "toy", "--out", str(tmp_path)], capsys)
    assert "it is a folder" in line
    assert os.listdir(tmp_path) == ["costs.json"]


def test_processes_import_nothing_of_the_current_folder(tmp_path):
    """Somebody's table comes with files named like modules; the command runs beside them."""
    command = Path(sys.executable).with_name("paretonas")
    if not command.exists():
        pytest.skip("the package is not installed: there is no command")
    mark, place = tmp_path / "code has run", tmp_path / "place"
    place.mkdir()
    for name in ("multiprocessing", "selectors", "torch", "pandas", "sitecustomize"):
        (place / f"{name}.py").write_text(f"from pathlib import Path\nPath(r'{mark}').touch()\n")
    rows = [f"{a},{b},{a + b},{(3 - a) * (4 - b)}" for a in range(3) for b in range(3)]
    (place / "cells.csv").write_text("\n".join(["a,b,ms,error", *rows]))
    asked = "compare --table cells.csv --choices a,b --minimize ms,error --methods random"
    settings = "--budget 4 --seeds 1 --jobs 1 --out found"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}
    ended = subprocess.run(
        [command, *asked.split(), *settings.split()],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, mark.exists()) == (0, False), ended.stderr
