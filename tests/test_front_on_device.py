"""A front on another machine: a second process times its networks, or somebody made times up."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from paretonas import Front, Point, Run
from paretonas.cli import run as command
from paretonas.devices.onnx_session import NotInOnnxError
from paretonas.devices.timer import BETWEEN_PROCESSES, how_far
from paretonas.export.onnx_file import session_of
from paretonas.front_on_device import FrontOnDevice, write_front
from paretonas.objectives import import_times
from paretonas.objectives.runner.room import file_of
from search_spaces import mlp, toy

PICKS = {
    "a01": {"width": "16", "mix": "conv5", "deep": "2"},
    "a02": {"width": "16", "mix": "pool", "deep": "1"},
    "a03": {"width": "4", "mix": "skip", "deep": "1"},
    "a04": {"width": "4", "mix": "skip", "deep": "0"},
}
VALUES = {  # accuracy, latency, memory
    "a01": (0.98, 4.0, 400.0),
    "a02": (0.90, 2.0, 200.0),
    "a03": (0.80, 1.0, 100.0),
    "a04": (0.70, 0.5, 100.0),
}


def made(folder: Path, columns=("accuracy", "latency_ms", "memory_kib"), /, **settings) -> Run:
    """A run on the space toy whose networks have random weights."""
    run = Run.create(folder, {"space": "toy", "threads": 1, **settings}, device="cpu", seed=0)
    front = Front(columns, maximize=["accuracy"])
    torch.manual_seed(0)
    for name, picks in PICKS.items():
        values = dict(zip(columns, VALUES[name], strict=True))
        front.add(Point(picks, values, {"latency_spread_ms": 0.1, "parameters": 9}, name))
        run.save_weights(name, toy.space.supernet().extract(picks).state_dict())
    assert len(front) == len(PICKS)
    run.write_front(front)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return made(tmp_path_factory.mktemp("front") / "run")


@pytest.fixture(scope="module")
def written(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runner") / "board"
    before = content(run.folder)
    assert write_front(run, toy.space, folder) == 4
    assert content(run.folder) == before
    return folder


@pytest.fixture
def board(written, tmp_path) -> Path:
    """A copy of the folder, in which a01 takes 1 ms, a02 3 ms, a03 and a04 2 ms."""
    folder = tmp_path / "board"
    shutil.copytree(written, folder)
    time(folder, {"a01": 1.0, "a02": 3.0, "a03": 2.0, "a04": 2.0})
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def time(folder: Path, ms: dict[str, float], blocks=(0.99, 1.0, 1.02)) -> None:
    """Write the times of a machine."""
    list_of_networks = (folder / "networks.json").read_bytes()
    times = {
        "format": 1,
        "networks": hashlib.sha256(list_of_networks).hexdigest(),
        "device": "a phone",
        "platform": "Linux",
        "python": "3.8.18",
        "onnxruntime": "1.19.2",
        "providers": ["CPUExecutionProvider"],
        "threads": 2,
        "nodes": {},
        "seconds": {name: [each * own / 1e3 for each in blocks] for name, own in ms.items()},
    }
    (folder / "times.json").write_text(json.dumps(times))


# --- from here to there and back ---------------------------------------------------------------


def test_the_files_are_the_trained_networks(run, written):
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for point in run.front():
        (found,) = session_of(written / f"{point.id}.onnx").run(None, {"images": x.numpy()})
        with torch.no_grad():
            expected = run.network(toy.space, point)(x)
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-4, atol=1e-5)


def test_another_process_times_a_front_from_the_command_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = content(run.folder)
    assert command(["profile", "--runner", "board", "--front", str(run.folder)]) == 0
    told = capsys.readouterr().out
    assert "toy: 4 trained networks of the front" in told
    assert told.rstrip().endswith("paretonas profile --import board")
    there = tmp_path / "elsewhere"
    shutil.copytree("board", there)
    script = [sys.executable, "-I", str(there / "measure.py"), "--seconds", "0"]
    done = subprocess.run(script, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    shutil.copy(there / "times.json", "board")
    assert command(["profile", "--import", "board"]) == 0
    told = capsys.readouterr().out
    assert "rank correlation with the search" in told and "board/measured.csv" in told
    seconds = json.loads(Path("board/times.json").read_text())["seconds"]
    with Path("board/measured.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows.keys() == PICKS.keys()
    for name, row in rows.items():
        assert {choice: row[choice] for choice in PICKS[name]} == PICKS[name]
        assert float(row["latency_ms"]) == pytest.approx(1e3 * np.median(seconds[name]))
        assert float(row["searched_latency_ms"]) == VALUES[name][1]
    assert content(run.folder) == before


def test_what_the_machine_takes_decides_what_is_on_the_front(board):
    found = FrontOnDevice.read(board)
    points = {point.id: point for point in found.points}

    def dominates(one: Point, other: Point) -> bool:
        a, b = (
            (-p.objectives["accuracy"], p.objectives["latency_ms"], p.objectives["memory_kib"])
            for p in (one, other)
        )
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    gone = {n for n, p in points.items() if any(dominates(o, p) for o in points.values())}
    assert gone == found.dominated.keys() == {"a04"}
    better, probability = found.dominated["a04"]
    assert better.id == "a03" and probability == pytest.approx(0.5)  # the latency is a tie
    assert [point.id for point in found.front] == ["a01", "a02", "a03"]
    assert found.rank_correlation == pytest.approx(-0.3162, abs=1e-4)  # of 1, 3, 2, 2
    assert found.factor == pytest.approx(np.median([0.25, 1.5, 2.0, 4.0]))
    assert found.about["device"] == "a phone" and found.about["threads"] == 2


def test_the_spread_is_that_of_the_blocks_and_of_another_process(board):
    blocks = np.array([0.99, 1.0, 1.02])
    point = FrontOnDevice.read(board).points[0]
    assert point.id == "a01"
    expected = np.hypot(how_far(blocks) / blocks.mean(), BETWEEN_PROCESSES)
    assert point.reported["latency_spread_ms"] == pytest.approx(expected)
    assert point.reported["searched_latency_spread_ms"] == 0.1
    assert point.reported["parameters"] == 9


def test_the_terminal_has_both_latencies_and_what_became_of_each_point(board, capsys):
    out = board.parent / "phone.json"
    assert command(["profile", "--import", str(board), "--out", str(out)]) == 0
    told = capsys.readouterr().out
    lines = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert "4.000 ms" in lines["a01"] and "1.000 ms ± 0.0" in lines["a01"]
    assert lines["a01"].rstrip().endswith("yes")
    assert lines["a04"].rstrip().endswith("no, a03 is better (0.50)")
    assert "timed on a phone (onnxruntime 1.19.2, CPUExecutionProvider, threads: 2;" in told
    assert "rank correlation with the search -0.32; the machine takes 1.75 times" in told
    assert "no longer on the front there: a04; all of it is in" in told
    rows = {row["id"]: row for row in json.loads(out.read_text())["points"]}
    assert rows["a04"]["dominated_by"] == "a03" and "dominated_by" not in rows["a01"]
    assert not (board / "measured.csv").exists()


def test_of_several_latencies_the_name_of_the_folder_tells_which(tmp_path):
    columns = ("accuracy", "latency_phone_ms", "latency_server_ms")
    run = made(tmp_path / "run", columns)
    with pytest.raises(ValueError, match="name the folder .* phone for latency_phone_ms"):
        write_front(run, toy.space, tmp_path / "board")
    assert not (tmp_path / "board").exists()
    write_front(run, toy.space, tmp_path / "server")
    time(tmp_path / "server", {name: 2 * VALUES[name][2] for name in PICKS})
    found = FrontOnDevice.read(tmp_path / "server")
    assert found.column == "latency_server_ms" and found.factor == pytest.approx(2.0)
    assert found.points[0].objectives["latency_phone_ms"] == 4.0
    assert not found.dominated


# --- what is refused ---------------------------------------------------------------------------


def test_runs_that_cannot_be_timed_are_refused(run, tmp_path, monkeypatch):
    place = tmp_path / "board"
    with pytest.raises(ValueError, match="is of another space than 'mlp'"):
        write_front(run, mlp.space, place)
    bare = made(tmp_path / "bare", ("accuracy", "energy_mj", "memory_kib"))
    with pytest.raises(ValueError, match="no latency to compare with; it has accuracy, energy_mj"):
        write_front(bare, toy.space, place)
    (bare.folder / "weights" / "a02.safetensors").unlink()
    lacking = made(tmp_path / "lacking")
    (lacking.folder / "weights" / "a02.safetensors").unlink()
    with pytest.raises(ValueError, match=r"a02\.safetensors does not exist"):
        write_front(lacking, toy.space, place)

    def impossible(*_):
        raise NotInOnnxError("the network", "no operation for aten.eig", "take torch")

    monkeypatch.setattr("paretonas.front_on_device.exported", impossible)
    with pytest.raises(ValueError, match=r"cannot hold the network of a01: no operation for aten"):
        write_front(run, toy.space, place)
    assert not place.exists()
    place.mkdir()
    (place / "mine").touch()
    with pytest.raises(ValueError, match="is not empty; a runner needs a new or empty folder"):
        write_front(run, toy.space, place)


def listed(folder: Path, **changes) -> None:
    about = json.loads((folder / "networks.json").read_text())
    (folder / "networks.json").write_text(json.dumps({**about, **changes}))


def emptied(folder: Path) -> None:
    front = folder / "front.json"
    Front(["accuracy", "latency_ms", "memory_kib"], maximize=["accuracy"]).write(front)
    listed(folder, networks=[], front=file_of(front))
    time(folder, {})


HARMS = {
    "front": (lambda f: (f / "front.json").write_text("{}"), "front.json is damaged, or another"),
    "gone": (lambda f: (f / "front.json").unlink(), "cannot read .*front.json"),
    "column": (lambda f: listed(f, column="energy_mj"), "not of the points of front.json"),
    "points": (lambda f: listed(f, networks=[{"name": "a01"}]), "not of the points"),
    "no points": (emptied, "not of the points"),
    "format": (lambda f: listed(f, format=2), "format must be 1, got 2"),
    "list": (lambda f: listed(f, front=None), "networks.json is damaged"),
    "other list": (lambda f: listed(f, more=1), "times of another runner"),
    "no times": (lambda f: (f / "times.json").unlink(), r"run measure\.py on the machine"),
    "one block": (lambda f: time(f, dict.fromkeys(PICKS, 1.0), (1.0,)), "a spread needs two"),
    "points timed": (lambda f: time(f, {"a01": 1.0}), "seconds has no network a02"),
    "no front": (lambda f: (f / "networks.json").write_text("[]"), "has no front"),
}


@pytest.mark.parametrize(("harm", "message"), HARMS.values(), ids=HARMS)
def test_a_damaged_folder_is_refused(board, harm, message):
    harm(board)
    with pytest.raises(ValueError, match=message) as refused:
        FrontOnDevice.read(board)
    assert "\n" not in str(refused.value)


def test_a_front_makes_no_table(board):
    supernet, example = toy.space.supernet(), toy.space.load_task().example()
    with pytest.raises(ValueError, match="has the networks of a front; a table needs those"):
        import_times(supernet, example, board)


def test_options_that_do_not_go_together_are_refused(run, board, tmp_path, capsys):
    place = str(tmp_path / "new")
    for words, message in {
        ("--front", str(run.folder)): "--front is for --runner DIR",
        ("--trust",): "--trust is about the folder of a run",
        ("--runner", place, "--front", str(run.folder), "--input", "1x8x8"): "leave out --input",
        ("--import", str(board), "--space", "toy"): "networks of a front; leave out --space",
    }.items():
        assert command(["profile", *words]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and message in told, told
    (board / "measured.csv").write_text("mine")
    assert command(["profile", "--import", str(board)]) == 2
    assert "measured.csv exists; name another file" in capsys.readouterr().err
    assert (board / "measured.csv").read_text() == "mine"


def test_code_of_others_runs_only_if_it_is_named(tmp_path, capsys):
    run = made(tmp_path / "run", space="theirs:space", folder=str(tmp_path))
    place = tmp_path / "board"
    words = ["profile", "--runner", str(place), "--front", str(run.folder)]
    assert command(words) == 2
    assert "names code that is not of paretonas" in capsys.readouterr().err
    assert not place.exists()
    assert command([*words, "--space", "toy"]) == 0
