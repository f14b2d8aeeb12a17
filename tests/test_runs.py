"""A run can be killed anywhere, opened again, and goes on from whole files."""

import json
import math
import os
import random

import pytest
import torch
from torch import nn

from paretonas.front import Front, Point
from paretonas.runs import Run

STEP = {"step": 1, "phase": "warm-up", "seconds": 0.5, "error_percent": None}


def point(number: int, **more) -> Point:
    return Point({"op": f"conv{number}"}, {"error": float(number), "latency_ms": 1 / 3}, **more)


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run", {"space": "toy", "budget": "9s"}, device="cpu", seed=3)


class TestFolder:
    def test_create_writes_what_was_asked_and_by_whom(self, run):
        about = json.loads((run.folder / "run.json").read_text())
        assert about["settings"] == {"space": "toy", "budget": "9s"}
        assert (about["device"], about["seed"]) == ("cpu", 3)
        assert about["versions"]["torch"] == torch.__version__
        assert {"paretonas", "python"} <= set(about["versions"])
        assert about["started"].startswith("20")
        assert Run.open(run.folder).about == run.about

    def test_create_makes_parents_and_takes_an_empty_folder(self, tmp_path):
        (tmp_path / "empty").mkdir()
        for name in ("a/b/c", "empty"):
            assert Run.create(tmp_path / name, {}, "cpu", 0).settings == {}

    def test_create_refuses_a_folder_that_is_not_empty(self, tmp_path):
        (tmp_path / "mine.txt").write_text("precious")
        with pytest.raises(ValueError, match="is not empty; a run needs a new or empty folder"):
            Run.create(tmp_path, {}, "cpu", 0)
        assert os.listdir(tmp_path) == ["mine.txt"]

    def test_create_refuses_a_file_and_a_place_below_one(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match="is a file"):
            Run.create(tmp_path / "file", {}, "cpu", 0)
        with pytest.raises(ValueError, match=r"cannot be written|cannot write"):
            Run.create(tmp_path / "file" / "run", {}, "cpu", 0)

    def test_create_refuses_a_place_without_permission(self, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(ValueError, match="cannot be written: no permission to write in"):
            Run.create(tmp_path / "a" / "run", {}, "cpu", 0)
        assert not list(tmp_path.iterdir())

    def test_create_refuses_settings_that_json_cannot_hold_and_leaves_nothing(self, tmp_path):
        with pytest.raises(ValueError, match="not JSON compliant"):
            Run.create(tmp_path / "run", {"budget": math.nan}, "cpu", 0)
        assert not (tmp_path / "run").exists()

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (None, r"is not the folder of a run: no run\.json"),
            ('{"settings"', "is not a whole JSON file"),
            ("[]", "does not describe a run"),
        ],
    )
    def test_open_refuses_what_is_no_run(self, tmp_path, text, message):
        if text is not None:
            (tmp_path / "run.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            Run.open(tmp_path)


class TestJournal:
    def test_gives_back_every_point_exactly(self, run):
        points = [point(1), point(2, reported={"origin": "ä", "parameters": 7}, id="a01"), point(1)]
        assert run.evaluations() == []
        for each in points:
            run.record(each)
        assert Run.open(run.folder).evaluations() == points

    @pytest.mark.parametrize("lost", range(1, 140, 7))
    def test_forgives_a_torn_last_line_and_goes_on_after_it(self, run, lost):
        run.record(point(1))
        run.record(point(2, reported={"origin": "ä" * 20}))
        path = run.folder / "evaluations.jsonl"
        path.write_bytes(path.read_bytes()[:-lost])
        assert run.evaluations() == [point(1)]
        run.record(point(3))
        assert run.evaluations() == [point(1), point(3)]

    def test_does_not_forgive_another_malformed_line(self, run):
        run.record(point(1))
        with (run.folder / "evaluations.jsonl").open("a") as file:
            file.write("{}\n")
        run.record(point(2))
        with pytest.raises(ValueError, match=r"line 2: not a measured point: '\{\}'"):
            run.evaluations()

    def test_refuses_values_that_are_not_finite(self, run):
        with pytest.raises(ValueError, match=r"point \(op=a\) has a value that is not finite"):
            run.record(Point({"op": "a"}, {"error": math.nan}))
        assert run.evaluations() == []


class TestHistory:
    def test_gives_back_what_was_known(self, run):
        assert run.history() == []
        run.log(STEP)
        run.log({"step": 2, "error_percent": 1 / 3, "phase": "alpha, rays"})
        assert Run.open(run.folder).history() == [
            {"step": 1, "phase": "warm-up", "seconds": 0.5},
            {"step": 2, "phase": "alpha, rays", "error_percent": 1 / 3},
        ]
        first = (run.folder / "history.csv").read_text().splitlines()[0]
        assert first == "step,phase,seconds,error_percent"

    def test_refuses_a_column_that_the_first_row_did_not_name(self, run):
        run.log(STEP)
        with pytest.raises(ValueError, match="no column 'cosine'; its first row named step, phase"):
            run.log({"step": 2, "cosine": 0.1})

    @pytest.mark.parametrize("lost", [1, 5, 9])
    def test_forgives_a_torn_last_line(self, run, lost):
        run.log(STEP)
        run.log({"step": 2, "phase": "alpha"})
        path = run.folder / "history.csv"
        path.write_bytes(path.read_bytes()[:-lost])
        run.log({"step": 3})
        assert [row["step"] for row in run.history()] == [1, 3]


class TestCheckpoint:
    def test_gives_back_tensors_and_random_states(self, run):
        rng = random.Random(1)
        state = {
            "alpha": torch.randn(3, 4),
            "step": 7,
            "rng": rng.getstate(),
            "torch": torch.get_rng_state(),
            "rays": [(0.5, 0.5)],
            "none": None,
        }
        run.save(state)
        back = Run.open(run.folder).resume()
        assert torch.equal(back["alpha"], state["alpha"])
        assert torch.equal(back["torch"], state["torch"])
        other = random.Random(2)
        other.setstate(back["rng"])
        assert other.random() == rng.random()
        assert (back["step"], back["rays"], back["none"]) == (7, [(0.5, 0.5)], None)

    def test_goes_on_where_the_history_was(self, run):
        run.log(STEP)
        run.save({"step": 1})
        run.log({"step": 2})
        run.record(point(1))
        assert run.resume() == {"step": 1}
        assert [row["step"] for row in run.history()] == [1]
        assert run.evaluations() == [point(1)]
        run.log({"step": 2})
        assert [row["step"] for row in run.history()] == [1, 2]

    def test_begins_anew_without_one(self, run):
        run.log(STEP)
        assert run.resume() is None
        assert run.history() == []
        run.log({"step": 1, "other": 2})

    def test_refuses_objects_and_keeps_the_last_one(self, run):
        run.save({"step": 1})
        with pytest.raises(ValueError, match="tensors and plain values only"):
            run.save({"network": nn.Linear(2, 2)})
        assert run.resume() == {"step": 1}
        assert sorted(os.listdir(run.folder)) == ["checkpoint.pt", "history.csv", "run.json"]


class TestFrontAndWeights:
    def test_the_front_is_written_twice_and_read_back(self, run):
        with pytest.raises(ValueError, match="has no front yet"):
            run.front()
        front = Front(["error", "latency_ms"])
        front.add(point(1))
        run.write_front(front)
        assert list(run.front()) == list(front)
        assert (run.folder / "front.csv").read_text().startswith("id,op,error,latency_ms\na01,")

    def test_weights_come_back_exactly_also_where_they_share_memory(self, run):
        network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
        network[2].weight = network[0].weight
        path = run.save_weights("a01", network.state_dict())
        assert path == run.folder / "weights" / "a01.safetensors"
        back = run.weights("a01")
        assert back.keys() == network.state_dict().keys()
        assert all(torch.equal(back[name], value) for name, value in network.state_dict().items())

    def test_weights_that_are_not_there(self, run):
        with pytest.raises(ValueError, match="there are weights of none"):
            run.weights("a01")
        run.save_weights("supernet", {"x": torch.zeros(1)})
        with pytest.raises(ValueError, match=r"a01\.safetensors does not exist.*of supernet"):
            run.weights("a01")
