"""A run can be killed anywhere, opened again, and goes on from whole files."""

import errno
import json
import math
import os
import random
import shutil

import pytest
import torch
from torch import nn

from paretonas import _lines
from paretonas._lines import DamagedLineWarning
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

    def test_what_a_killed_process_left_does_not_make_a_folder_full(self, tmp_path):
        (tmp_path / ".run.json-abc_1234").mkdir()
        (tmp_path / ".run.json-abc_1234" / "run.json").write_text("{")
        (tmp_path / ".paretonas.lock").write_text('{"pid": 1}')
        assert Run.create(tmp_path, {"space": "toy"}, "cpu", 0).settings == {"space": "toy"}

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
            ('{"settings": 3}', "does not describe a run: settings is 3"),
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

    @pytest.mark.parametrize("damage", [b"{}", b"\0" * 9, b"\xff", b'{"id": "../../x"}', b""])
    def test_a_damaged_line_is_named_and_costs_itself_alone(self, run, damage):
        for number in (1, 2, 3):
            run.record(point(number, id=f"a0{number}"))
        path = run.folder / "evaluations.jsonl"
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"\n".join([lines[0], damage, lines[2], b""]))
        before = path.read_bytes()
        with pytest.warns(DamagedLineWarning, match=r"evaluations\.jsonl, line 2 is damaged"):
            points = run.evaluations()
        assert points == [point(1, id="a01"), point(3, id="a03")]
        assert path.read_bytes() == before
        assert run.next_id() == "a04"

    def test_the_next_id_is_free_whoever_has_written(self, run):
        other = Run.open(run.folder)
        for number in range(1, 5):
            writer = (run, other)[number % 2]
            assert writer.next_id() == f"a{number:02d}"
            writer.record(point(number, id=f"a{number:02d}"))
        assert run.next_id() == other.next_id() == "a05"

    def test_the_journal_is_read_once_for_all_next_ids(self, run, monkeypatch):
        run.record(point(1, id="a01"))
        again = Run.open(run.folder)
        assert again.next_id() == "a02"
        monkeypatch.setattr(_lines, "read", None)
        for number in (2, 3):
            again.record(point(number, id=again.next_id()))
        assert again.next_id() == "a04"

    def test_points_share_the_names_of_their_picks(self, run):
        for _ in range(2):
            run.record(Point({"a choice": "an option"}, {"error": 1.0}))
        (one,), (other,) = (point.architecture.items() for point in run.evaluations())
        assert one[0] is other[0] and one[1] is other[1]

    def test_a_flipped_digit_is_damage_too(self, run):
        run.record(Point({"op": "a"}, {"error": 12.5}, id="a01"))
        path = run.folder / "evaluations.jsonl"
        path.write_bytes(path.read_bytes().replace(b"12.5", b"12.7"))
        with pytest.warns(DamagedLineWarning):
            assert run.evaluations() == []
        assert run.next_id() == "a02", "weights of that name may lie there"

    def test_lines_of_older_folders_are_read(self, run):
        old = '{"id": "a01", "architecture": {"op": "conv1"}, "objectives": {"error": 1.0, '
        old += '"latency_ms": 0.3333333333333333}, "reported": {}}\n'
        (run.folder / "evaluations.jsonl").write_text(old)
        assert run.evaluations() == [point(1, id="a01")]
        assert run.next_id() == "a02"

    @pytest.mark.parametrize("ids", [["a05"], ["a01", "a04", "a02"], ["a03", "mine"], [""] * 3])
    def test_the_next_id_is_one_that_is_free(self, run, ids):
        for number, name in enumerate(ids):
            run.record(point(number, id=name))
        assert run.next_id() not in ids

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

    @pytest.mark.parametrize("damage", [b'2,"alpha,,', b"2,\xff,,", b"2,alpha"])
    def test_a_damaged_line_is_named_and_costs_itself_alone(self, run, damage):
        for step in (1, 2, 3):
            run.log({**STEP, "step": step})
        path = run.folder / "history.csv"
        lines = path.read_bytes().splitlines()
        path.write_bytes(b"\n".join([*lines[:2], damage, lines[3], b""]))
        before = path.read_bytes()
        with pytest.warns(DamagedLineWarning, match=r"history\.csv, line 3 is damaged"):
            assert [row["step"] for row in run.history()] == [1, 3]
        assert path.read_bytes() == before

    def test_the_names_of_the_columns_are_mended_from_the_checkpoint(self, run):
        run.log(STEP)
        run.save({"step": 1})
        path = run.folder / "history.csv"
        whole = path.read_bytes()
        for damaged in (whole.replace(b"phase", b"qhase"), whole.replace(b"\n", b"\x0b", 1)):
            path.write_bytes(damaged)
            assert run.resume() == {"step": 1}
            assert path.read_bytes() == whole
        run.log({**STEP, "step": 2})

    def test_a_full_disk_costs_no_step(self, run, monkeypatch):
        run.log(STEP)
        run.save({"step": 1})
        run.log({**STEP, "step": 2})
        before = (run.folder / "history.csv").read_bytes()

        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as disk:
            disk.setattr(os, "fsync", full)
            for act in (run.resume, lambda: run.log({**STEP, "step": 3})):
                with pytest.raises(OSError, match="No space"):
                    act()
                assert (run.folder / "history.csv").read_bytes() == before

    def test_a_step_is_one_line(self, run):
        with pytest.raises(ValueError, match="got a line break in"):
            run.log({"phase": "one\ntwo"})
        assert run.history() == []


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

    def test_a_damaged_one_is_refused_by_name(self, run):
        run.save({"step": 1})
        path = run.folder / "checkpoint.pt"
        for content in (path.read_bytes()[:-40], b"", b"no archive"):
            path.write_bytes(content)
            with pytest.raises(
                ValueError, match=r"checkpoint\.pt is damaged or no checkpoint"
            ) as no:
                run.resume()
            assert str(no.value).endswith(
                "; without checkpoint.pt a search begins anew, and what was measured counts"
            )

    def test_the_one_before_a_damaged_one_counts_and_a_line_says_so(self, run):
        for step in (1, 2):
            run.log({**STEP, "step": step})
            run.save({"step": step})
        last, before = run.folder / "checkpoint.pt", run.folder / "checkpoint.previous.pt"
        good = before.read_bytes()
        content = bytearray(last.read_bytes())
        content[len(content) // 2] ^= 1
        last.write_bytes(content)
        files = {path: path.read_bytes() for path in run.folder.iterdir()}
        told = r"checkpoint\.pt is damaged.*; the search goes on from checkpoint\.previous\.pt"
        with pytest.warns(DamagedLineWarning, match=told):
            assert run.saved() == {"step": 1}
        assert files == {path: path.read_bytes() for path in run.folder.iterdir()}
        run.rewind()
        assert [row["step"] for row in run.history()] == [1]
        run.save({"step": 3})
        assert before.read_bytes() == good, "what is damaged takes no place of what is whole"
        assert run.resume() == {"step": 3}
        for path in (last, before):
            path.write_bytes(b"")
        with pytest.raises(
            ValueError, match=r"without checkpoint\.pt and checkpoint\.previous\.pt"
        ):
            run.resume()

    def test_a_kill_between_two_checkpoints_leaves_the_one_before(self, run):
        run.save({"step": 1})
        (run.folder / "checkpoint.pt").rename(run.folder / "checkpoint.previous.pt")
        assert run.begun
        assert Run.open(run.folder).resume() == {"step": 1}


class TestRemoved:
    """The folder of a run is removed while it goes on."""

    @pytest.mark.parametrize(
        "act",
        [
            lambda run: run.log(STEP),
            lambda run: run.record(point(1)),
            lambda run: run.add(point(1), 1.0, nn.Linear(1, 1)),
            lambda run: run.tell(budgets=[]),
            lambda run: run.save({}),
            lambda run: run.resume(),
            lambda run: run.save_weights("a01", {}),
            lambda run: run.keep_values([]),
            lambda run: run.write_front(Front(["error", "latency_ms"])),
        ],
    )
    def test_it_is_not_made_again(self, run, tmp_path, act):
        shutil.rmtree(run.folder)
        with pytest.raises(ValueError, match="run is gone: it was removed or renamed while"):
            act(run)
        run.discard()
        assert not list(tmp_path.iterdir())


class TestDiscard:
    """Only what this very process made is removed, and only if nothing came of it."""

    def test_what_was_made_goes_with_its_folders(self, tmp_path):
        run = Run.create(tmp_path / "a" / "b", {}, "cpu", 0)
        run.resume()
        run.discard()
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_was_there_stays(self, tmp_path):
        Run.create(tmp_path, {}, "cpu", 0).discard()
        assert tmp_path.is_dir() and not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["notes.txt", "weights", "front.json", ".hidden"])
    def test_nothing_goes_where_something_else_is(self, run, name):
        (run.folder / name).touch()
        run.discard()
        assert sorted(os.listdir(run.folder)) == sorted([name, "run.json"])

    def test_a_run_of_which_something_came_stays(self, tmp_path):
        acts = (lambda r: r.record(point(1)), lambda r: r.log(STEP), lambda r: r.save({}))
        for number, act in enumerate(acts):
            run = Run.create(tmp_path / str(number), {}, "cpu", 0)
            act(run)
            before = sorted(os.listdir(run.folder))
            run.discard()
            assert sorted(os.listdir(run.folder)) == before

    def test_a_run_that_was_opened_stays(self, run):
        Run.open(run.folder).discard()
        assert os.listdir(run.folder) == ["run.json"]


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

    @pytest.mark.parametrize(
        "name",
        [
            *("../../x", "/tmp/x", "..", "", "a/b", ".hidden", "a b"),
            *("CON", "nul.txt", "lpt1", "a.", "a" * 101),
        ],
    )
    def test_weights_have_the_name_of_a_point(self, run, tmp_path, name):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="weights have the name of a point, made of letters"):
            run.save_weights(name, {"x": torch.zeros(1)})
        with pytest.raises(ValueError, match="weights have the name of a point, made of letters"):
            run.weights(name)
        assert sorted(tmp_path.rglob("*")) == before

    def test_weights_do_not_leave_the_folder_through_a_link(self, run, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (run.folder / "weights").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(
            ValueError, match=r"a01\.safetensors is behind a link that leads out of"
        ):
            run.save_weights("a01", {"x": torch.zeros(1)})
        assert not list((tmp_path / "elsewhere").iterdir())

    def test_ids_of_a_front_from_elsewhere_are_checked(self, run):
        front = Front(["error", "latency_ms"])
        front.add(point(1))
        run.write_front(front)
        path = run.folder / "front.json"
        path.write_text(path.read_text().replace('"a01"', '"../../x"'))
        with pytest.raises(ValueError, match=r"an id is made of letters.*got '\.\./\.\./x'"):
            run.front()


class TestMeasuredTogether:
    """``together.json`` has the values of the last measurement; the journal those of the first."""

    def test_the_values_are_kept_without_the_journal(self, run):
        first = run.add(point(1), 1.0, nn.Linear(1, 1))
        journal = (run.folder / "evaluations.jsonl").read_bytes()
        run.keep_values([first.with_values({"latency_ms": 0.25})])
        (found,) = Run.open(run.folder).evaluations()
        assert found.objectives == {"error": 1.0, "latency_ms": 0.25}
        assert (run.folder / "evaluations.jsonl").read_bytes() == journal

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("{", "Expecting property name"),
            ("[]", "it must be an object, got []"),
            ('{"a01": 3}', "the values of a01 must be an object, got 3"),
            ('{"a07": {"latency_ms": 1.0}}', "'a07' is no point of the run"),
            ('{"a01": {"speed": 1.0}}', "a01 has no 'speed'"),
            ('{"a01": {"latency_ms": -0.5}}', "latency_ms of a01 is never negative, got -0.5"),
            ('{"a01": {"latency_spread_ms": -1}}', "latency_spread_ms of a01 is never negative"),
            ('{"a01": {"latency_ms": NaN}}', "a01.latency_ms must be finite"),
            ('{"a01": {"latency_ms": 1e999}}', "a01.latency_ms must be finite"),
            ('{"a01": {"latency_ms": null}}', "must be a number or a word, got None"),
            ('{"a01": {"latency_ms": true}}', "must be a number or a word, got True"),
            ('{"a01": {"latency_ms": "fast"}}', "latency_ms of a01 was"),
        ],
    )
    def test_the_run_goes_on_without_a_file_that_no_measurement_gives(self, run, text, why):
        before = run.add(point(1), 1.0, nn.Linear(1, 1))
        (run.folder / "together.json").write_text(text)
        with pytest.warns(DamagedLineWarning) as caught:
            (found,) = run.evaluations()
        assert found == before
        (told,) = {str(each.message) for each in caught}
        assert "together.json is damaged and was left out: " in told and why in told
        assert "\n" not in told

    def test_values_of_a_point_in_a_damaged_line_do_not_cost_those_of_the_others(self, run):
        first, other = (run.add(point(i), 1.0, nn.Linear(1, 1)) for i in (1, 2))
        run.keep_values([each.with_values({"latency_ms": 0.25}) for each in (first, other)])
        journal = run.folder / "evaluations.jsonl"
        line, _ = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(line + b"{lost}\n")
        with pytest.warns(DamagedLineWarning, match="evaluations.jsonl, line 2 is damaged"):
            (found,) = run.evaluations()
        assert found.objectives["latency_ms"] == 0.25
