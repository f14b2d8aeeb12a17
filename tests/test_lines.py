"""A line that was written stays: through kills, a full disk, and damage to its neighbors."""

import errno
import gc
import os
import subprocess
import warnings
from pathlib import Path

import pytest

from paretonas import _atomic, _lines
from paretonas._atomic import is_draft, replacing
from paretonas._lines import DamagedLineWarning, append, encode, read, warn_of

ENTRIES = [
    {"architecture": {"op": f"conv{n}"}, "objectives": {"error": n + 1 / 3}, "why": "} {é\n"}
    for n in range(4)
]


@pytest.fixture
def path(tmp_path) -> Path:
    for entry in ENTRIES:
        append(tmp_path / "found.jsonl", encode(entry))
    return tmp_path / "found.jsonl"


def test_what_was_appended_is_read(path):
    assert read(path, dict) == (ENTRIES, [])
    assert read(path.with_name("none.jsonl"), dict) == ([], [])


def test_lines_without_a_checksum_are_read_as_before(path):
    path.write_text('{"op": "old"}\n{"op": "older"}\n')
    append(path, encode({"op": "new"}))
    assert read(path, dict) == ([{"op": "old"}, {"op": "older"}, {"op": "new"}], [])


def test_a_flipped_bit_costs_at_most_the_line_that_it_is_in(path):
    """Every bit of the file; one in a newline joins two lines, which are read all the same."""
    content = path.read_bytes()
    ends = [i for i, byte in enumerate(content) if byte == ord("\n")]
    for place in range(len(content)):
        hit = sum(end < place for end in ends)  # the line
        for bit in range(8):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            found, numbers = read(path, dict)
            rest = [entry for n, entry in enumerate(ENTRIES) if n != hit]
            whole = [entry for entry in found if entry in ENTRIES]
            assert [entry for entry in whole if entry != ENTRIES[hit]] == rest, (place, bit)
            assert all(entry in ENTRIES for entry in found), (place, bit)
            # The last newline may be missing as after a kill: then the line is a torn one.
            assert numbers or place == len(content) - 1, (place, bit)
            append(path, encode({"op": "next"}))
            again, _ = read(path, dict)
            assert again[-1] == {"op": "next"} and again[:-1] == found, (place, bit)


def test_a_torn_last_line_is_cut_off_in_silence(path):
    content = path.read_bytes()
    last = content[:-1].rindex(b"\n") + 1
    for end in range(last, len(content)):
        path.write_bytes(content[:end])
        assert read(path, dict) == (ENTRIES[:3], [])
        append(path, encode({"op": "next"}))
        assert path.read_bytes() == content[:last] + encode({"op": "next"})


def test_a_long_torn_line_is_cut_off_too(path):
    whole = path.read_bytes()
    path.write_bytes(whole + b"x" * 200_000)
    append(path, encode({"op": "next"}))
    assert path.read_bytes() == whole + encode({"op": "next"})


def test_many_lines_keep_their_numbers(path):
    entries = [{"number": n, "text": "x" * (n % 7)} for n in range(1000)]
    lines = [encode(entry) for entry in entries]
    lines[300], lines[999] = lines[300].replace(b"300", b"301"), b'{"number": 999}, {"number": 1}\n'
    lines[700] = b'{"number": 700}\n'  # as older versions wrote it
    path.write_bytes(b"".join(lines))
    found, damaged = read(path, dict)
    assert damaged == [301, 1000]
    assert [entry["number"] for entry in found] == [n for n in range(999) if n != 300]


def test_the_collector_runs_again_whatever_happens(path):
    def parse(entry):
        assert not gc.isenabled()
        raise RuntimeError("a fault")

    with pytest.raises(RuntimeError, match="a fault"):
        read(path, parse)
    assert gc.isenabled()


def test_reading_changes_nothing(path):
    path.write_bytes(path.read_bytes()[:-5].replace(b"conv1", b"conv7"))
    before = path.read_bytes(), path.stat().st_mtime_ns
    assert read(path, dict) == ([ENTRIES[0], ENTRIES[2]], [2])
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_damaged_lines_are_named_in_one_warning(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of(path, [])
    with pytest.warns(DamagedLineWarning, match=r"found\.jsonl, line 7 is damaged and was left"):
        warn_of(path, [7])
    with pytest.warns(DamagedLineWarning, match=r"12 lines are damaged .*: 1, 2, .*10, \.\.\.$"):
        warn_of(path, list(range(1, 13)))


def test_what_the_reader_refuses_is_damaged(path):
    def parse(entry):
        return {0: int, 1: dict, 2: lambda e: e["none"], 3: dict}[
            int(entry["architecture"]["op"][-1])
        ](entry)

    assert read(path, parse) == ([ENTRIES[1], ENTRIES[3]], [1, 3])


def test_an_entry_must_be_finite_and_hold_something():
    for entry in ({"a": float("nan")}, {"a": float("inf")}, {}):
        with pytest.raises(ValueError):
            encode(entry)


@pytest.mark.parametrize("step", ["write", "fsync"])
@pytest.mark.parametrize("room", [0, 1, 30])
def test_a_full_disk_leaves_what_was_there(path, monkeypatch, step, room):
    """`room` bytes still fit."""
    before, real = path.read_bytes(), os.write

    def write(file, content):
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        count = real(file, content[:room])
        room -= count
        return count

    def fsync(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, step, write if step == "write" else fsync)
        with pytest.raises(OSError, match="No space"):
            append(path, encode({"op": "next"}))
    assert path.read_bytes() == before
    append(path, encode({"op": "next"}))
    assert read(path, dict) == ([*ENTRIES, {"op": "next"}], [])


def test_a_small_disk_that_is_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("no permission to mount a file system")
    try:
        path, count = disk / "found.jsonl", 0
        with pytest.raises(OSError, match="No space"):
            while count < 10_000:
                append(path, encode({"number": count, "text": "x" * 300}))
                count += 1
        assert [entry["number"] for entry in read(path, dict)[0]] == list(range(count))
        with pytest.raises(OSError, match="No space"), replacing(disk / "front.json") as draft:
            draft.write_bytes(b"x" * 100_000)
        assert [file.name for file in disk.iterdir()] == ["found.jsonl"]
        assert len(read(path, dict)[0]) == count
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_line_is_on_disk_with_its_folder_when_append_returns(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda file: synced.append(os.fstat(file).st_ino) or real(file)
    )
    append(tmp_path / "a", b"1\n")
    assert synced == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]
    append(tmp_path / "a", b"2\n")
    assert synced[2:] == [(tmp_path / "a").stat().st_ino]
    with replacing(tmp_path / "b") as draft:
        draft.write_text("x")
    assert synced[3:] == [(tmp_path / "b").stat().st_ino, tmp_path.stat().st_ino]


def test_nothing_is_written_through_a_link(tmp_path):
    (tmp_path / "outside").write_text("mine")
    for name in ("lines", "whole"):
        (tmp_path / name).symlink_to("outside")
    with pytest.raises(ValueError, match="lines is a link"):
        append(tmp_path / "lines", b"1\n")
    with replacing(tmp_path / "whole") as draft:
        draft.write_text("new")
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "whole").read_text() == "new"


def test_what_a_killed_process_leaves_is_known_as_such(tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(_atomic.shutil, "rmtree", lambda *_, **__: None)
        killed.setattr(os, "replace", lambda *_: None)
        with replacing(tmp_path / "run.json") as draft:
            draft.write_text("{")
    (room,) = tmp_path.iterdir()
    assert is_draft(room)
    (room / "mine").write_text("")
    assert not is_draft(room)
    (tmp_path / "file").write_text("")
    (tmp_path / ".git").mkdir()
    assert not is_draft(tmp_path / "file")
    assert not is_draft(tmp_path / ".git")
    assert _lines.whole_lines(tmp_path / "nothing") == b""


def test_a_full_disk_names_the_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    named = pytest.raises(OSError, match=r"No space left on device: .*front\.json")
    with named, replacing(tmp_path / "front.json"):
        full()
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match=r"No space left on device: .*lines\.jsonl"):
        append(tmp_path / "lines.jsonl", encode({"id": "a01"}))
