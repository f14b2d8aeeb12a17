"""One process at a time works in a folder, and its lock ends with it, however it ends."""

import json
import os
import subprocess
import sys

import pytest

from paretonas._lock import NAME, held
from paretonas.compare import compare
from paretonas.gradient_search.search import search
from paretonas.runs import Run
from search_spaces import toy

HOLD = """
import sys, time
from pathlib import Path
from paretonas._lock import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
FORK = """
import os, sys, time
from pathlib import Path
from paretonas._lock import held
with held(Path(sys.argv[1])):
    if not os.fork():
        print("held", flush=True)  # the child is there, and has left the lock to its parent
        time.sleep(3)
        os._exit(0)
    time.sleep(60)
"""
BEGIN = """
import json, os, sys, time
from pathlib import Path
from paretonas.runs import Run
for turn in range(8):
    place, start, said = Path(sys.argv[1]) / str(turn), time.time() + 0.02, []
    pipes = []
    for number in range(4):
        end, mine = os.pipe()
        pipes.append(end)
        if not os.fork():
            while time.time() < start:
                pass
            try:
                Run.create(place, {"who": number}, "cpu", 0)
                words = "won"
            except ValueError as error:
                words = str(error)
            os.write(mine, words.encode())
            os._exit(0)
        os.close(mine)
    for end in pipes:
        said.append(os.read(end, 1000).decode())
        os.close(end)
        os.wait()
    assert said.count("won") == 1, said
    assert all(w == "won" or "is in use by" in w or "is not empty" in w for w in said), said
    assert Run.open(place).settings["who"] == said.index("won"), said
    assert os.listdir(place) == ["run.json"]
"""


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def other(tmp_path):
    """Another process at work in a folder."""
    process = start(HOLD, tmp_path / "work")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_is_told_who_is_at_work_since_when_and_with_what(tmp_path, other):
    message = rf"work is in use by process {other.pid} on \S+ since 20\S+: -c .*work; wait until"
    with pytest.raises(ValueError, match=message), held(tmp_path / "work"):
        pass
    assert (tmp_path / "work" / NAME).exists()
    assert other.poll() is None


def test_the_lock_dies_with_its_holder(tmp_path, other):
    other.kill()
    other.wait()
    assert (tmp_path / "work" / NAME).exists(), "the file stays, and nobody minds"
    with held(tmp_path / "work"):
        assert json.loads((tmp_path / "work" / NAME).read_text())["pid"] == os.getpid()
    assert not list((tmp_path / "work").iterdir())


def test_one_at_a_time_also_within_a_process(tmp_path):
    with held(tmp_path), pytest.raises(ValueError, match="in use by this process"), held(tmp_path):
        pass
    with pytest.raises(KeyError), held(tmp_path):
        raise KeyError
    with held(tmp_path):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_keep_the_lock(tmp_path):
    parent = start(FORK, tmp_path)
    assert parent.stdout.readline() == "held\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    with held(tmp_path):  # the child sleeps on
        pass


def test_a_link_or_a_folder_in_its_place_is_not_written_to(tmp_path):
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / NAME).symlink_to(tmp_path / "mine")
    (tmp_path / "b" / NAME).mkdir(parents=True)
    for name in "ab":
        with pytest.raises(ValueError, match="cannot write"), held(tmp_path / name):
            pass
    assert (tmp_path / "mine").read_text() == "precious"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_of_many_that_begin_at_once_one_wins_and_the_folder_is_its_own(tmp_path):
    command = [sys.executable, "-c", BEGIN, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_a_search_takes_turns_with_others_and_readers_need_none(tmp_path, other):
    with pytest.raises(ValueError, match="in use"):
        Run.create(tmp_path / "work", {}, "cpu", 0)
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    with held(run.folder):
        with pytest.raises(ValueError, match="in use by this process"):
            next(search(toy.space, run=run))
        assert Run.open(run.folder).evaluations() == []
        run.discard()
        assert (run.folder / "run.json").exists(), "somebody goes on with it"
    steps = search(toy.space, run=run)
    next(steps)
    with pytest.raises(ValueError, match="in use"):
        next(search(toy.space, run=run))
    steps.close()
    with held(run.folder):
        pass


def test_a_comparison_takes_turns_with_others_and_readers_need_none(tmp_path):
    pd = pytest.importorskip("pandas")
    from paretonas.table import Table

    rows = [{"a": a, "b": b, "x": a + b, "y": 9 - a * b} for a in range(3) for b in range(3)]
    table = Table.from_pandas(pd.DataFrame(rows), ["a", "b"], ["x", "y"])
    settings = {"budget": 5, "seeds": 1, "folder": tmp_path}
    whole = compare(table, ["random"], **settings)
    with held(tmp_path):
        with pytest.raises(ValueError, match="in use by this process"):
            compare(table, ["random"], **settings)
        read = compare(table, ["random"], **settings, jobs=0)
    assert read.records == whole.records


def test_the_lock_of_somebody_else_is_not_removed(tmp_path):
    """A deletes nothing but its own: if a user has deleted its file, what is there now is B's."""
    with held(tmp_path):
        (tmp_path / NAME).unlink()
        (tmp_path / NAME).write_text("of somebody else")
    assert (tmp_path / NAME).read_text() == "of somebody else"
