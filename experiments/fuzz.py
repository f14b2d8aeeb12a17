"""Damaged and forged files for every reader: what does a file from somebody else do?

Real files of every kind are written once. Then one of them at a time is changed: bits flip, the
file is cut, values get another type, become huge, NaN, deep nests, names of code or paths out of
the folder. Its reader may read it or refuse it, with the error that its documentation names and in
one line. Nothing may be run, imported, or written outside of the folder: an audit hook of Python
sees every such attempt. A worker that crashes or hangs is a finding, too.

    .venv/bin/python experiments/fuzz.py                    # 100,000 inputs and more, in minutes
    .venv/bin/python experiments/fuzz.py --inputs 2000 --reader front.json --seed 7
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import safetensors.torch
import torch
from torch import nn

import paretonas.cli.compare
import paretonas.cli.search
from paretonas import _lines, _lock
from paretonas.cli import run as command
from paretonas.compare.folder import RunJournal, backends_of, check_begun, read_about
from paretonas.front import Front
from paretonas.nn import OneOf, Supernet
from paretonas.nn.start import read_state
from paretonas.objectives import CostTable, write_runner
from paretonas.objectives.cost_table import Slot
from paretonas.objectives.runner.folder import Runner
from paretonas.objectives.runner.times import Times
from paretonas.point import Failure, Point, Stopped
from paretonas.report import write_report
from paretonas.runs import Run
from paretonas.space import Architecture, every
from paretonas.table import Table
from paretonas.tasks import files
from search_spaces import toy
from search_spaces.published import unpickled

INPUTS = 100_000
PATIENCE = 60  # seconds for one input
EVIL = """
import os
os.mkdir("harm")
space = None
"""

# --- the files -----------------------------------------------------------------------------------


class Small(nn.Module):
    """A network with two choices, whose files are small."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OneOf({"a": nn.Linear(4, 4), "b": nn.Identity()})
        self.two = OneOf({"a": nn.Linear(4, 2), "b": nn.Linear(4, 2, bias=False)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.two(torch.relu(self.one(x)))
        return y


CHOICES = Supernet(Small()).choices


def write_files(room: Path) -> None:
    """Write a real file of every kind."""
    torch.manual_seed(0)
    os.chdir(room)
    (room / "evil.py").write_text(EVIL)
    _write_run(room / "run")
    cells = ["op,width,error,ms"] + [
        f"{op},{width},{error},{width + error / 7}"
        for error, (op, width) in enumerate((o, w) for o in "abc" for w in (1, 2, 4))
    ]
    (room / "table.csv").write_text("\n".join(cells) + "\n")
    rows = [line.split(",") for line in cells]
    columns = {name: list(column) for name, *column in zip(*rows, strict=True)}
    numbers = {name: [float(cell) for cell in columns[name]] for name in ("error", "ms")}
    pyarrow.parquet.write_table(pyarrow.table({**columns, **numbers}), room / "table.parquet")
    asked = "--choices op,width --minimize error,ms --methods random --budget 5 --seeds 2"
    arguments = ["compare", "--table", "table.csv", *asked.split(), "--out", "comparison"]
    with _one_process(), redirect_stdout(io.StringIO()):
        assert command(arguments) == 0
    begun = (room / "comparison/runs/random-1.jsonl").read_bytes().splitlines(keepends=True)
    (room / "comparison/runs/random-1.unfinished.jsonl").write_bytes(b"".join(begun[:3]))
    (room / "comparison/runs/random-1.jsonl").unlink()
    supernet, example = Supernet(Small()), torch.randn(1, 4)
    slots = [
        Slot(choice.name, {choice.name: (("a",), ("b",))}, torch.tensor([0.5, 0.25]))
        for choice in CHOICES
    ]
    about = {"device": "cpu", "backend": "torch", "threads": 1, "input": [1, 4], "parts": "parts"}
    CostTable(CHOICES, slots, unit="ms", about=about).write(room / "costs.json")
    _write_runner(room / "runner", supernet, example)
    state = supernet.state_dict()
    torch.save({"state_dict": state, "epoch": 3}, room / "start.pt")
    safetensors.torch.save_file(state, room / "start.safetensors")
    cell = {"val_acc": [90.5, 91.25], "latency": [np.float64(0.01), np.float32(0.02)]}
    measured = {"012345": cell, 7: {"perf": np.float64(0.5), "list": (1, None, True)}}
    (room / "published.pkl").write_bytes(pickle.dumps(measured, 4))
    (room / "data").mkdir()
    lines = [f"{n % 3},{n / 7},{'xyz'[n % 3]}" for n in range(40)]
    (room / "data/table.csv").write_text("\n".join(["a,b,label", *lines]))
    rng = np.random.default_rng(0)
    np.savez(room / "data/arrays.npz", x=rng.normal(size=(40, 3)), y=np.arange(40) % 3)
    record = [bytes([n % 10]) + bytes(3072) for n in range(12)]
    for name in [f"data_batch_{number}.bin" for number in range(1, 6)] + ["test_batch.bin"]:
        (room / "data" / name).write_bytes(b"".join(record))
    (room / "data/batches.meta.txt").write_text("\n".join("abcdefghij"))
    about = {"pid": 1, "host": "here", "since": "today", "command": "paretonas search"}
    (room / "lock").write_text(json.dumps(about))


def _write_run(folder: Path) -> None:
    settings = {"space": "toy", "device": "cpu", "threads": 1, "seed": 0, "budget": "99steps"}
    settings |= {"folder": str(folder.parent), "solver": "MGDA", "minimize": ["latency", "memory"]}
    settings |= {"constraint": ["latency<=9ms"]}
    run = Run.create(folder, settings, "cpu", 0)
    run.tell(
        budgets=[{"steps": 99, "started": "2026-01-01"}],
        conditions={"mix": [{"width": ["16"]}]},
        guessing={"error_percent": 90.0, "sampling_error_percent": 1.5},
        tables={"latency_ms": {"device": "cpu", "backend": "torch", "predicted": False}},
    )
    front = Front(["error_percent", "latency_ms", "memory_kib"])
    supernet, space = toy.space.supernet(), [*every(toy.space.choices)]
    for number, architecture in enumerate(space[:6]):
        values = {"error_percent": 50.0 - number, "latency_ms": 0.1 + number, "memory_kib": 8.0}
        point = Point(architecture, values, {"latency_spread_ms": 0.01, "origin": "finalist"})
        network = supernet.extract(architecture) if number < 2 else None
        found = run.add(point, 0.5, network)
        assert isinstance(found, Point)
        front.add(found)
    run.record(Failure(Architecture({"mix": "conv5"}), "it raised"), 0.1)
    run.record(Stopped(space[7], "not promising", 1, 5, {"error_percent": 80.0}, {}), 0.1)
    run.keep_values([front[0].with_values({"latency_ms": 0.2})])
    for step in range(4):
        run.log({"step": step, "phase": "weights", "loss": 1 / (1 + step), "cosine_a_b": -0.5})
    run.save({"step": 3, "alpha": torch.zeros(2, 3), "names": ["a", ("b", 1.5)], "known": {}})
    run.write_front(front)
    front.write(folder / "front.parquet")


def _write_runner(folder: Path, supernet: Supernet, example: torch.Tensor) -> None:
    write_runner(supernet, example, folder)
    command_line = [sys.executable, "-I", str(folder / "measure.py"), "--seconds", "0"]
    subprocess.run(command_line, check=True, capture_output=True)


# --- the readers ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reader:
    """What reads a file.

    Attributes:
        file: that is changed.
        read: is called in the folder of all files.
        price: how many inputs of a cheap reader take the time of one of this reader.
    """

    file: str
    read: Callable[[], object]
    price: int = 1


def _told(*arguments: str) -> Callable[[], object]:
    """A reader that is a command; it must end with an error of its own, in one line."""

    def read() -> None:
        said = io.StringIO()
        with redirect_stderr(said), redirect_stdout(io.StringIO()):
            code = command(arguments)
        lines = [line for line in said.getvalue().splitlines() if "left out" not in line]
        if code not in (0, 1, 2, 130) or len(lines) != (code > 0):
            raise AssertionError(f"exit code {code}: {lines}")
        if code and "PARETONAS_TRACEBACK" in lines[0]:
            raise AssertionError(lines[0])
        if code in (1, 2) and "the budget made no step possible" not in lines[0]:
            raise ValueError(lines[0])

    return read


def _whole_run() -> None:
    run = Run.open("run")
    run.evaluations(), run.failures(), run.stopped(), run.history(), run.front(), run.next_id()


def _cifar() -> None:
    files.cifar("data")


def _journal(seed: int) -> RunJournal:
    return RunJournal(Path("comparison"), "random", seed)


def _compared() -> None:
    about = read_about(Path("comparison"))
    backends_of(about)
    check_begun(Path("comparison"), about["settings"], about["asked"])


READERS = {
    "run.json": Reader("run/run.json", lambda: Run.open("run").settings),
    "evaluations.jsonl": Reader("run/evaluations.jsonl", _whole_run, 2),
    "together.json": Reader("run/together.json", lambda: Run.open("run").evaluations(), 2),
    "history.csv": Reader("run/history.csv", lambda: Run.open("run").history()),
    "front.json": Reader("run/front.json", lambda: Run.open("run").front()),
    "front.csv": Reader("run/front.csv", lambda: Front.read("run/front.csv")),
    "front.parquet": Reader("run/front.parquet", lambda: Front.read("run/front.parquet"), 2),
    "checkpoint.pt": Reader("run/checkpoint.pt", lambda: Run.open("run").resume(), 4),
    "weights": Reader("run/weights/a01.safetensors", lambda: Run.open("run").weights("a01")),
    "network": Reader(
        "run/weights/a01.safetensors",
        lambda: (run := Run.open("run")).network(toy.space, run.front()["a01"]),
        20,
    ),
    "compare.json": Reader("comparison/compare.json", _compared),
    "a finished run": Reader("comparison/runs/random-0.jsonl", lambda: _journal(0).finished(5)),
    "an unfinished run": Reader(
        "comparison/runs/random-1.unfinished.jsonl", lambda: _journal(1).begun()
    ),
    "costs.json": Reader("costs.json", lambda: CostTable.read("costs.json", CHOICES)),
    "networks.json": Reader("runner/networks.json", lambda: Runner.read("runner", CHOICES), 2),
    "times.json": Reader(
        "runner/times.json", lambda: Times.read(Runner.read("runner", CHOICES)), 8
    ),
    "table.csv": Reader(
        "table.csv", lambda: Table.read("table.csv", ["op", "width"], ["error", "ms"]), 4
    ),
    "table.parquet": Reader(
        "table.parquet", lambda: Table.read("table.parquet", ["op", "width"], ["error", "ms"]), 8
    ),
    "start.pt": Reader("start.pt", lambda: read_state("start.pt"), 4),
    "start.safetensors": Reader("start.safetensors", lambda: read_state("start.safetensors")),
    "published.pkl": Reader("published.pkl", lambda: unpickled(Path("published.pkl").read_bytes())),
    "files.csv": Reader("data/table.csv", lambda: files.csv("data/table.csv", target="label"), 8),
    "files.npz": Reader("data/arrays.npz", lambda: files.npz("data/arrays.npz"), 4),
    "files.cifar": Reader("data/data_batch_1.bin", _cifar, 8),
    "names of classes": Reader("data/batches.meta.txt", _cifar, 8),
    "a lock": Reader("lock", lambda: _lock._holder(Path("lock"))),
    "report": Reader("run/run.json", lambda: write_report(Run.open("run"), "page.html"), 200),
    "report of a front": Reader("run/front.json", _told("report", "run"), 200),
    "report of a history": Reader("run/history.csv", _told("report", "run"), 200),
    "report of a comparison": Reader("comparison/compare.json", _told("report", "comparison"), 400),
    "search --resume": Reader("run/run.json", _told("search", "--resume", "run"), 50),
    "search --resume after a damaged journal": Reader(
        "run/evaluations.jsonl", _told("search", "--resume", "run"), 50
    ),
    "compare --resume": Reader(
        "comparison/compare.json", _told("compare", "--resume", "comparison"), 20
    ),
    "export of a run": Reader(
        "run/run.json",
        _told("export", "run", "--pick", "a01", "--format", "json", "--out", "a01.json"),
        50,
    ),
    "export of a front": Reader(
        "run/front.json",
        _told("export", "run", "--pick", "a01", "--format", "json", "--out", "a01.json"),
        50,
    ),
}


# --- the changes ---------------------------------------------------------------------------------

_DEEP = "a nest"  # stands for lists in lists
NASTY = [
    *(None, True, False, -1, 0, 7, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 1e308, -1e308, 0.5),
    *(float("nan"), float("inf"), -float("inf"), -0.0, 5e-324),
    *("", " ", "../../x", "/etc/passwd", "~/x", "C:\\x", "a/b", "CON", "nul.txt", "x.", "a01"),
    *("=1+1", "@x", "-1+1", "\t=1", "'", "\ud800", "\0", "\x1b[31m", "a\nb", "é" * 50, "a" * 5000),
    *("evil:space", "evil.py:space", "./evil.py:space", "search_spaces.evil", "os:system", "toy"),
    *("latency@../../x", "NaN", "1e999", "9" * 5000, "true", "99steps", "9s", _DEEP),
    *([], {}, [None], [1, "a"], {"a": 1}, {"": []}, [["a"]], {"a": {"b": {"c": []}}}),
]


def changed(random: Random, file: str, data: bytes) -> bytes:
    """The content of a file with one to three changes.

    Args:
        random: a source of random numbers.
        file: its name, which tells its format.
        data: its content.
    """
    kinds = [kind for ending, kind in _BY_MEANING.items() if file.endswith(ending)]
    for _ in range(random.randint(1, 3)):
        by_meaning = bool(kinds) and random.random() < 0.7
        try:
            data = kinds[0](random, data) if by_meaning else _bytes(random, data)
        except Exception:  # it has been changed before, and is of its format no more
            data = _bytes(random, data)
    return data


def _bytes(random: Random, data: bytes) -> bytes:
    place = random.randrange(len(data) + 1)
    length = random.choice([1, 1, 4, 30])
    match random.randrange(6):
        case 0 if data:  # a bit flips
            place = min(place, len(data) - 1)
            return (
                data[:place] + bytes([data[place] ^ 1 << random.randrange(8)]) + data[place + 1 :]
            )
        case 1:
            return data[:place]
        case 2:
            return data[:place] + random.randbytes(length) + data[place + length :]
        case 3:
            return (
                data[:place]
                + random.choice([b"\0", b"\xff\xfe", b"\n", b'"', b"[" * 9999])
                + (data[place:])
            )
        case 4:  # a part is there twice, or not at all
            return data[:place] + data[max(0, place - random.choice([0, 20, 2000])) :]
    return random.choice([b"", b"\xef\xbb\xbf" + data, data[::-1], bytes(len(data)), data + data])


def _value(random: Random, value: Any) -> Any:
    """A nest of plain values with one change somewhere in it."""
    inner = [*value] if isinstance(value, dict) else range(len(value)) if _is_row(value) else ()
    if not inner or random.random() < 0.15:
        if isinstance(value, int | float) and not isinstance(value, bool) and random.random() < 0.3:
            return random.choice([-value, value * 1e6, int(value) * 10**20, str(value), [value]])
        return random.choice(NASTY)
    key = random.choice(inner)
    copy = dict(value) if isinstance(value, dict) else list(value)
    if random.random() < 0.1:
        del copy[key]
    elif isinstance(copy, dict) and random.random() < 0.15:
        copy[random.choice([n for n in NASTY if isinstance(n, str)])] = copy[key]
    elif isinstance(copy, list) and random.random() < 0.1:
        copy.append(copy[key])
    else:
        copy[key] = _value(random, copy[key])
    return tuple(copy) if isinstance(value, tuple) else copy


def _is_row(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _text(random: Random, value: Any) -> str:
    depth = random.choice([10, 60, 70, 900, 100_000])
    return json.dumps(value).replace(json.dumps(_DEEP), "[" * depth + "]" * depth)


def _json(random: Random, data: bytes) -> bytes:
    return _text(random, _value(random, json.loads(data))).encode()


def _jsonl(random: Random, data: bytes) -> bytes:
    lines = data.splitlines()
    place = random.randrange(len(lines))
    entry = json.loads(lines[place])
    entry.pop("crc32", None)
    entry = _value(random, entry)
    if isinstance(entry, dict) and entry and random.random() < 0.7:
        text = _text(random, entry).encode()  # with a checksum that is right
        lines[place] = b'%b, "crc32": "%08x"}' % (text[:-1], _lines.zlib.crc32(text))
    else:
        lines[place] = _text(random, entry).encode()
    return b"\n".join(lines) + b"\n"


def _csv(random: Random, data: bytes) -> bytes:
    table = _value(random, [*csv.reader(io.StringIO(data.decode()))])
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(r if _is_row(r) else [r] for r in table)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _torch(random: Random, data: bytes) -> bytes:
    file = io.BytesIO()
    torch.save(_value(random, torch.load(io.BytesIO(data), weights_only=True)), file)
    return file.getvalue()


def _parquet(random: Random, data: bytes) -> bytes:
    table = pyarrow.parquet.read_table(pyarrow.BufferReader(data))
    columns = {name: table.column(name).to_pylist() for name in table.column_names}
    roles = json.loads((table.schema.metadata or {}).get(b"paretonas", b"{}"))
    if random.random() < 0.4:
        roles = _value(random, roles)
    elif random.random() < 0.5:
        columns = _value(random, columns)
    else:
        cell = random.choice([None, "a", 1, 1.5, b"a", [1], {"a": 1}, True, float("nan"), 2**62])
        columns[random.choice([*columns])] = [cell] * len(table)
    file = io.BytesIO()
    metadata = {"paretonas": _text(random, roles)}
    made = pyarrow.table(columns).replace_schema_metadata(metadata)
    pyarrow.parquet.write_table(made, file)
    return file.getvalue()


def _safetensors(random: Random, data: bytes) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    head = _json(random, data[8 : 8 + length])
    told = len(head) if random.random() < 0.9 else random.choice([0, 2**40, 2**64 - 1])
    return struct.pack("<Q", told) + head + data[8 + length :]


class _Call:
    """Does harm when Python's own reader of pickles reads it."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.parts


def _pickle(random: Random, data: bytes) -> bytes:
    value = _value(random, unpickled(data))  # what was changed before may be a call
    if random.random() < 0.3:
        call = random.choice([_Call(os.mkdir, "harm"), _Call(eval, "os.mkdir('harm')")])
        kind = np.dtype(random.choice(["f8", "f4", "i8", "O", "S3", "M8[s]", ">f8"]))
        scalar = np.float64(1).__reduce__()[0]
        forged = _Call(scalar, kind, random.randbytes(random.choice([0, 3, 8, 8])))
        value = [value, random.choice([call, forged, kind, np.zeros(3)])]
    return pickle.dumps(value, random.randint(0, 5))


def _npz(random: Random, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(file, "w") as made:
        for name in archive.namelist():
            array = archive.read(name)
            if random.random() < 0.6:
                kinds = ["'<f8'", "'|O'", "'<U9'", "[('a', '<f8')]", "'x'", "3", "'|S99999999'"]
                shapes = ["(40,)", "(0,)", "()", "(2**62,)", f"({2**62},)", "(-1,)", "('a',)", "(4"]
                header = f"{{'descr': {random.choice(kinds)}, 'fortran_order': False, "
                header += f"'shape': {random.choice(shapes)}, }}"
                array = array[:8] + struct.pack("<H", len(header)) + header.encode() + array[128:]
            ends = random.choice([name, name, "x.npy", "../../x.npy", "y.npy", ""])
            made.writestr(ends, array, random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    return file.getvalue()


_BY_MEANING: Mapping[str, Callable[[Random, bytes], bytes]] = {
    ".json": _json,
    "lock": _json,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".pt": _torch,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".pkl": _pickle,
    ".npz": _npz,
}


# --- what is forbidden ---------------------------------------------------------------------------


class Harm(BaseException):
    """A file was about to have something run, imported, or changed outside of the folder."""


_NEVER = (
    *("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.startfile"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen", "pty.spawn"),
    *("pickle.find_class", "webbrowser.open", "urllib.Request", "os.chdir"),
)
_CHANGES = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate"),
    *("os.chmod", "os.chown", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile"),
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_room = ""  # the folder in which files may change; empty while nothing is watched
_hooked = False


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _room:
        return
    if event in _NEVER:
        raise Harm(f"{event}{arguments!r:.200}")
    paths: tuple[Any, ...] = ()
    if event == "open" and (set(arguments[1] or "") & set("wax+") or arguments[2] & _WRITING):
        paths = arguments[:1]
    elif event in _CHANGES:
        paths = arguments[:2] if event in ("os.rename", "os.link", "shutil.move") else arguments[:1]
    for path in paths:
        if isinstance(path, str | bytes | os.PathLike):
            real = os.path.realpath(os.fsdecode(path))
            if not f"{real}{os.sep}".startswith(f"{_room}{os.sep}") and real != os.devnull:
                raise Harm(f"{event} of {real}")
    if event == "import" and str(arguments[1] or "").startswith(_room):
        raise Harm(f"import of {arguments[1]}")
    if event == "exec" and getattr(arguments[0], "co_filename", "").startswith(_room):
        raise Harm(f"exec of {arguments[0]}")


@contextmanager
def watched(room: Path) -> Iterator[None]:
    """Raise `Harm` when something is run, imported from the folder, or changed outside of it."""
    global _room, _hooked
    if not _hooked:
        sys.addaudithook(_hook)  # there is no way to remove it
        _hooked = True
    path, compiled = list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # of modules that a codec or a package needs
    _room = os.path.realpath(room)
    try:
        yield
        if sys.path != path:
            raise Harm("the import path has changed")
    finally:
        _room, sys.dont_write_bytecode = "", compiled


@contextmanager
def stand_ins() -> Iterator[None]:
    """Commands that would search end where the search begins."""
    before = paretonas.cli.search.search, paretonas.cli.compare.compare

    def compare(*asked: Any, jobs: int | None, **named: Any) -> Any:
        if jobs == 0:  # a report, which runs nothing
            return before[1](*asked, jobs=jobs, **named)
        raise KeyboardInterrupt

    paretonas.cli.search.search = lambda **_: (step for step in ())  # type: ignore[assignment]
    paretonas.cli.compare.compare = compare
    try:
        yield
    finally:
        paretonas.cli.search.search, paretonas.cli.compare.compare = before


# --- the runs ------------------------------------------------------------------------------------


class Room:
    """A folder with all files; after each input it is as it was."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._held = self._content()

    def try_one(self, name: str, random: Random) -> str:
        """Read one changed file.

        Returns:
            "read", or the name of the documented error with which it was refused.

        Raises:
            Harm: something was run, or changed outside.
            Exception: an error that is not documented.
        """
        reader = READERS[name]
        path = self.folder / reader.file
        path.write_bytes(changed(random, reader.file, self._held[reader.file]))
        os.chdir(self.folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", _lines.DamagedLineWarning)
                with watched(self.folder):
                    reader.read()
        except ValueError:
            return "refused"
        finally:
            self._restore(reader.file)
        return "read"

    def check_intact(self, name: str) -> None:
        """See that a reader reads the real file: otherwise nothing is tried.

        Raises:
            ValueError: it does not.
        """
        os.chdir(self.folder)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            READERS[name].read()
        self._restore(READERS[name].file)

    def _content(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}

    def _restore(self, file: str) -> None:
        if file in self._held:
            (self.folder / file).write_bytes(self._held[file])
        root = file.partition("/")[0]
        for path in [*self.folder.glob("*.*"), *(self.folder / root).rglob("*")]:
            name = str(path.relative_to(self.folder))
            if path.is_file() and name not in self._held:
                path.unlink()
        for name, content in self._held.items():  # of a run, whose history may have been cut
            if name.startswith("run/") and root == "run":
                path = self.folder / name
                if not path.exists() or path.stat().st_size != len(content):
                    path.write_bytes(content)


@contextmanager
def _one_process() -> Iterator[None]:
    before = paretonas.cli.compare._processes
    paretonas.cli.compare._processes = lambda *_: None
    try:
        yield
    finally:
        paretonas.cli.compare._processes = before


def shares(inputs: int, names: list[str]) -> dict[str, int]:
    """How many inputs each reader gets: each takes about the same time, and none too few."""
    weights = {name: 1 / READERS[name].price for name in names}
    return {name: max(20, round(inputs * w / sum(weights.values()))) for name, w in weights.items()}


def worker(real: Path, name: str, count: int, seed: int) -> None:
    """Try inputs of one reader, and print what came of each; the parent reads it."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    room = Room(shutil.copytree(real, folder, dirs_exist_ok=True))
    tempfile.tempdir = str(room.folder)
    os.environ["XDG_CACHE_HOME"] = str(room.folder)

    def hang(*_: object) -> None:
        raise Harm(f"it takes longer than {PATIENCE} s")

    signal.signal(signal.SIGALRM, hang)
    try:
        with stand_ins():
            room.check_intact(name)
            for number in range(count):
                print(f"{number} begins", flush=True)
                signal.alarm(PATIENCE)
                try:
                    print(f"{number} {room.try_one(name, Random(f'{seed} {name} {number}'))}")
                except (Harm, Exception) as error:
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    what = f"{type(error).__name__}: {error}".replace("\n", " ")[:300]
                    print(f"{number} fault {what} ({Path(where.filename).name}:{where.lineno})")
                finally:
                    signal.alarm(0)
    finally:
        os.chdir("/")
        shutil.rmtree(room.folder, ignore_errors=True)


def tried(real: Path, name: str, count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Try inputs of one reader in a process of its own, which may crash.

    Returns:
        How many were read and refused, and a line for each fault.
    """
    line = [sys.executable, __file__, "--worker", str(real), "--reader", name]
    line += ["--inputs", str(count), "--seed", str(seed)]
    ended = subprocess.run(line, capture_output=True, text=True, errors="replace", check=False)
    found, faults, last = Counter[str](), [], "nothing"
    for said in ended.stdout.splitlines():
        number, _, what = said.partition(" ")
        last = number if what == "begins" else last
        if what in ("read", "refused"):
            found[what] += 1
        elif what.startswith("fault"):
            faults.append(f"{name}, input {number}: {what.removeprefix('fault ')}")
    if ended.returncode:
        tail = ended.stderr.strip().splitlines()[-1:]
        faults.append(f"{name}, input {last}: the process ended with {ended.returncode} {tail}")
    return found, faults


def main() -> int:
    """Try all readers, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--reader", choices=[*READERS], action="append")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(Path(asked.worker), asked.reader[0], asked.inputs, asked.seed)
        return 0
    real = Path(tempfile.mkdtemp(prefix="fuzz-")).resolve()
    write_files(real)
    begun, whole, all_faults = time.perf_counter(), Counter[str](), []
    print(f"{'reader':42}{'inputs':>8}{'read':>8}{'refused':>9}{'faults':>8}{'seconds':>9}")
    for name, count in shares(asked.inputs, asked.reader or [*READERS]).items():
        start = time.perf_counter()
        found, faults = tried(real, name, count, asked.seed)
        whole += found
        all_faults += faults
        seconds = time.perf_counter() - start
        print(
            f"{name:42}{count:8,}{found['read']:8,}{found['refused']:9,}{len(faults):8,}"
            f"{seconds:9.0f}",
            flush=True,
        )
        for fault in list(dict.fromkeys(f.partition(": ")[2] for f in faults))[:5]:
            print(f"    {fault}")
    total = sum(whole.values()) + len(all_faults)
    seconds = time.perf_counter() - begun
    print(
        f"{total:,} inputs: {whole['read']:,} read, {whole['refused']:,} refused, "
        f"{len(all_faults):,} faults; {seconds:.0f} s"
    )
    shutil.rmtree(real)
    return bool(all_faults)


if __name__ == "__main__":
    sys.exit(main())
