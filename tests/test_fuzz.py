"""Some of the inputs of `experiments/fuzz.py`, on the readers that take no time."""

import pickle
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas._own_code import import_place

READERS = (
    *("run.json", "evaluations.jsonl", "together.json", "history.csv", "front.json", "front.csv"),
    *("front.parquet", "checkpoint.pt", "weights", "compare.json", "a finished run"),
    *("an unfinished run", "costs.json", "networks.json", "table.csv", "table.parquet"),
    *("start.pt", "start.safetensors", "published.pkl", "files.npz", "names of classes", "a lock"),
)


@pytest.fixture(scope="module")
def fuzz(experiment):
    return experiment("./fuzz")


@pytest.fixture(scope="module")
def room(fuzz, tmp_path_factory):
    """A folder with a real file for each reader."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("room"))
        fuzz.write_files(folder := tmp_path_factory.getbasetemp() / "room0")
        patch.setattr("tempfile.tempdir", str(folder))
        room = fuzz.Room(folder)
        for name in READERS:  # now all modules are imported that readers need
            room.check_intact(name)
        yield room


@settings(max_examples=400)
@given(st.sampled_from(READERS), st.randoms(use_true_random=False))
def test_a_changed_file_is_read_or_refused_and_nothing_is_run(room, name, random):
    assert room.try_one(name, random) in ("read", "refused")


def test_harm_is_seen(fuzz, room, tmp_path, monkeypatch):
    """Otherwise the test above would find nothing."""
    (room.folder / "wicked.py").write_text("found = 1\n")
    acts = {
        "os.mkdir": lambda: (tmp_path / "harm").mkdir(),
        "open of": lambda: (tmp_path / "harm").write_text("harm"),
        "subprocess": lambda: subprocess.run(["true"], check=True),
        "find_class": lambda: pickle.loads(b"cos\nmkdir\n."),
        "exec of": lambda: import_place("wicked.py", room.folder),
    }
    monkeypatch.setattr("sys.path", list(sys.path))
    for what, act in acts.items():
        with pytest.raises(fuzz.Harm, match=what), fuzz.watched(room.folder):
            act()
    with fuzz.watched(room.folder):
        (room.folder / "inside").write_text("no harm")
    assert not list(tmp_path.iterdir())
