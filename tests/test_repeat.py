"""A run that is made once more ends with the same points, and what differs is said."""

import pytest

from paretonas.cli import run
from paretonas.cli.differences import differences
from paretonas.front import Front, Point
from paretonas.runs import Run


def run_with(folder, *points: Point, device: str = "cpu", **versions: str) -> Run:
    """A run with these points on its front, whose run.json tells other versions."""
    made = Run.create(folder, {}, device, 0)
    made.tell(versions={**made.about["versions"], **versions})
    front = Front(["error_percent", "latency_ms"])
    for point in points:
        made.record(point)
        front.add(point)
    made.write_front(front)
    return made


def point(op: str, error: float, latency: float) -> Point:
    return Point({"op": op}, {"error_percent": error, "latency_ms": latency}, id=f"p-{op}")


def test_nothing_differs(tmp_path):
    first, again = (
        run_with(tmp_path / name, point("a", 1.0, 2.0), point("b", 2.0, 1.0)) for name in "xy"
    )
    same = "2 architectures, now 2, 2 of them the same; with equal objectives"
    assert list(differences(first, again)) == [
        "made with: the same versions, on the same device and machine",
        f"evaluated: {same}",
        f"on the front: {same}",
    ]


def test_each_difference_is_told(tmp_path):
    first = run_with(tmp_path / "x", point("a", 1.0, 2.0), point("b", 2.0, 1.0), torch="1.0")
    again = run_with(
        tmp_path / "y",
        *(point("a", 1.0, 2.5), point("c", 3.0, 1.0), point("d", 4.0, 4.0)),
        device="cuda",
        torch="2.0",
    )
    apart = "1 of them the same; latency_ms differs for 1, by up to 20 %"
    assert list(differences(first, again)) == [
        "made with: device was cpu, is cuda; torch was 1.0, is 2.0",
        f"evaluated: 2 architectures, now 3, {apart}",
        f"on the front: 2 architectures, now 2, {apart}",
    ]


def test_what_older_folders_do_not_tell(tmp_path):
    first, again = (run_with(tmp_path / name, point("a", 1.0, 1.0)) for name in "xy")
    first.tell(versions=None, machine=None)
    made, *_ = differences(first, again)
    assert "machine was not told, is " in made and "torch was not told, is " in made


def test_a_repeated_search_finds_the_same(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = ["--space", "toy", "--budget", "60steps", "--device", "cpu", "--minimize", "parameters"]
    assert run(["search", *asked, "--out", "first"]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "first").rglob("*") if path.is_file()}
    assert run(["search", "--repeat", "first", "--out", "again"]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = lines[lines.index("compared with first:") + 1 :]
    assert told[0] == "- made with: the same versions, on the same device and machine"
    assert all(line.endswith("of them the same; with equal objectives") for line in told[1:])
    first, again = Run.open("first"), Run.open("again")
    assert again.settings == first.settings
    assert [*again.front()] == [*first.front()]
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--budget", "9steps"], "a repeated run keeps its own settings; leave out --budget"),
        (["--seed", "1"], "leave out --seed"),
        (["--resume", "."], "--resume goes on in a folder, --repeat begins a new one"),
        ([], "has no front yet: its search did not get that far"),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(tmp_path)
    Run.create("begun", {}, "cpu", 0)
    assert run(["search", "--repeat", "begun", *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert [path.name for path in tmp_path.iterdir()] == ["begun"]
