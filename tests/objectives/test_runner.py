"""Tables of another machine: a second process that knows nothing of paretonas is the machine."""

import ast
import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from torch import nn

from paretonas.cli import run
from paretonas.cli.profile import _example
from paretonas.devices import timer
from paretonas.nn import OneOf, Supernet
from paretonas.objectives import CostTable, calibration, import_times, profile, write_runner
from paretonas.objectives.runner import folder as folder_module
from paretonas.objectives.runner import measure as measure_script
from paretonas.space import every
from search_spaces import toy

SCRIPT = files("paretonas.objectives.runner").joinpath("measure.py").read_text()
MICROSECONDS = {3: 300, 9: 2700}  # of a kernel, where times are made up


def conv(kernel: int) -> nn.Module:
    return nn.Conv2d(16, 16, kernel, padding=kernel // 2)


class Kernels(nn.Module):
    """Two choices of a kernel, each before an activation that ONNX Runtime fuses to it."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OneOf({"k3": conv(3), "k9": conv(9)})
        self.other = OneOf({"k3": conv(3), "k9": conv(9), "skip": nn.Identity()})
        self.act = nn.ReLU()

    def forward(self, x):
        return self.act(self.other(torch.relu(self.one(x)))).mean((2, 3))


def truth(architecture) -> float:
    """Milliseconds where times are made up."""
    kernels = {"k3": 3, "k9": 9}
    return sum(MICROSECONDS[kernels[o]] for o in architecture.values() if o in kernels) / 1e3


def measure(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(folder / "measure.py"), "--seconds", "0", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    torch.manual_seed(0)
    return Supernet(Kernels())


@pytest.fixture(scope="module")
def example() -> torch.Tensor:
    return torch.randn(1, 16, 40, 40)


@pytest.fixture(scope="module")
def written(supernet, example, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runner") / "board"
    assert write_runner(supernet, example, folder) == 6
    return folder


@pytest.fixture
def folder(written, tmp_path) -> Path:
    """A copy of the folder, with times that somebody made up."""
    copy = tmp_path / "board"
    shutil.copytree(written, copy)
    (copy / "times.json").write_text(json.dumps(made_up(copy)))
    return copy


def made_up(folder: Path, named: bool = True) -> dict:
    """Times by kernel: what one thread would take that runs nothing else.

    Args:
        folder: of the runner.
        named: whether nodes tell their modules.
    """
    import hashlib

    content = (folder / "networks.json").read_bytes()
    nodes, seconds = {}, {}
    for network in json.loads(content)["networks"]:
        graph = onnx.load(folder / network["file"]).graph
        names, events, now, runs = [], [], 0, 4
        for _ in range(runs):
            begin = now
            for node in graph.node:
                sides = [a.ints[0] for a in node.attribute if a.name == "kernel_shape"]
                spent = MICROSECONDS[sides[0]] if sides else 0
                name = node.name if named else node.name.replace("/", "_")
                pair = [f"{name}_kernel_time", node.op_type]
                names += [] if pair in names else [pair]
                events.append([names.index(pair), now, spent])
                now += spent + 1
            names += [] if ["model_run", ""] in names else [["model_run", ""]]
            events.append([names.index(["model_run", ""]), begin, now - begin])
            now += 1
        whole = truth(network["architecture"]) / 1e3 + 1e-5
        seconds[network["name"]] = [whole] * 5
        if network["nodes"]:
            nodes[network["name"]] = {"names": names, "events": events, "seconds": [whole] * runs}
    return {
        "format": 1,
        "networks": hashlib.sha256(content).hexdigest(),
        "device": "a phone",
        "platform": "Linux",
        "python": "3.8.18",
        "onnxruntime": "1.19.2",
        "providers": ["CPUExecutionProvider"],
        "threads": 2,
        "nodes": nodes,
        "seconds": seconds,
    }


# --- from here to there and back ---------------------------------------------------------------


def test_the_script_times_a_call_in_its_second_run_where_this_machine_does():
    assert measure_script.SHORT == timer.COLD_SECONDS


def test_another_process_times_the_folder_and_its_table_has_the_slots_of_the_local_one(
    written, supernet, example, tmp_path
):
    there = tmp_path / "elsewhere"
    shutil.copytree(written, there)
    done = measure(there, "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert "block 1 of 5" in done.stdout
    back = tmp_path / "board"
    shutil.copytree(written, back)
    shutil.copy(there / "times.json", back)
    table = import_times(supernet, example, back)
    here = profile(supernet, example, backend="onnxruntime", cache=False)
    assert [(s.name, s.groups) for s in table.slots] == [(s.name, s.groups) for s in here.slots]
    for architecture in every(supernet.choices):
        ratio = table.total_at(architecture) / here.total_at(architecture)
        assert 1 / 50 < ratio < 50  # the same unit; either may have been timed on a busy machine
    small, large = ({"one": op, "other": op} for op in ("k3", "k9"))
    assert table.total_at(large) > 2 * table.total_at(small)
    about = table.about
    assert about["parts"] == "nodes" and about["imported"] and about["threads"] == 1
    assert about["onnxruntime"] == here.about["onnxruntime"]
    assert about["input"] == [1, 16, 40, 40]


def test_the_table_is_what_the_times_tell(folder, supernet, example, monkeypatch):
    monkeypatch.setattr(calibration, "FEW", 0)  # as in a larger space
    table = import_times(supernet, example, folder)
    for architecture in every(supernet.choices):
        assert table.total_at(architecture) == pytest.approx(truth(architecture) + 0.01, rel=0.03)
    assert table.about["parts"] == "nodes"
    assert table.about["device"] == "a phone"
    assert table.about["within_10_percent"] == 1.0


def test_where_nodes_tell_no_module_whole_networks_correct_a_guess(
    folder, supernet, example, monkeypatch
):
    monkeypatch.setattr(calibration, "FEW", 0)  # as in a larger space
    (folder / "times.json").write_text(json.dumps(made_up(folder, named=False)))
    table = import_times(supernet, example, folder)
    assert table.about["parts"] == "guessed"
    assert table.about["rank_correlation"] > 0.9
    for architecture in every(supernet.choices):
        assert table.total_at(architecture) == pytest.approx(truth(architecture), rel=0.5, abs=0.3)


def test_a_provider_that_tells_no_nodes_is_no_fault(folder, supernet, example):
    times = made_up(folder)
    for told in times["nodes"].values():
        run = told["names"].index(["model_run", ""])
        told["events"] = [event for event in told["events"] if event[0] == run]
    (folder / "times.json").write_text(json.dumps(times))
    assert import_times(supernet, example, folder).about["parts"] == "guessed"


def test_the_command_line_goes_the_same_way(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["profile", "--space", "toy", "--runner", "board", "--batch-size", "2"]) == 0
    assert "--space toy --import board" in capsys.readouterr().out
    done = measure(tmp_path / "board")
    assert done.returncode == 0, done.stderr
    assert run(["profile", "--space", "toy", "--import", "board", "--out", "phone.json"]) == 0
    assert "each predicted without itself" in capsys.readouterr().out
    table = CostTable.read("phone.json", toy.space.choices)
    assert table.about["input"] == [2, 1, 8, 8]
    assert min(table.total_at(a) for a in every(toy.space.choices)) > 0


def test_an_input_of_another_size_has_the_numbers_of_the_example():
    supernet, one = toy.space.supernet(), toy.space.load_task().example()
    larger = _example(toy.space, supernet, 2, "1x16x5")
    assert larger.shape == (2, 1, 16, 5)
    assert torch.equal(larger[1, :, 8:, :], one[0, :, :, :5])
    two = SimpleNamespace(name="two", load_task=lambda: SimpleNamespace(example=lambda: (one, one)))
    with pytest.raises(ValueError, match="example is one tensor; that of two has several"):
        _example(two, supernet, 2, None)


# --- the script --------------------------------------------------------------------------------


def test_the_script_is_for_old_pythons_and_needs_nothing_else():
    tree = ast.parse(SCRIPT, feature_version=(3, 8))
    lines = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.partition(".")[0]
        for line in lines
        for name in (
            [line.module or ""]
            if isinstance(line, ast.ImportFrom)
            else [a.name for a in line.names]
        )
    }
    assert names - sys.stdlib_module_names == {"numpy", "onnxruntime"}


@pytest.mark.parametrize(
    ("harm", "options", "message"),
    [
        (lambda f: (f / "n01.onnx").write_bytes(b"half"), (), "n01.onnx is damaged: copy"),
        (lambda f: (f / "inputs.npz").unlink(), (), "cannot read inputs.npz"),
        (lambda f: (f / "networks.json").write_text("{"), (), "networks.json is damaged"),
        (lambda f: (f / "networks.json").write_text("{}"), (), "networks.json is damaged"),
        (lambda f: (f / "networks.json").write_text("[" * 10**5), (), "networks.json is damaged"),
        (lambda f: None, ("--providers", "NoneSuch"), "no provider NoneSuch; it has "),
    ],
    ids=["network", "inputs", "list", "other list", "deep list", "provider"],
)
def test_what_the_script_cannot_do_is_one_line_and_writes_nothing(folder, harm, options, message):
    (folder / "times.json").unlink()
    harm(folder)
    before = {path.name for path in folder.iterdir()}
    done = measure(folder, *options)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and message in done.stderr
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize("seconds", ["nan", "inf", "-1"])
def test_the_script_refuses_seconds_that_are_none(folder, seconds):
    done = measure(folder, "--seconds", seconds)
    assert done.returncode == 2
    assert f"--seconds must be finite and not negative, got {float(seconds)}" in done.stderr


def test_an_interrupted_script_writes_nothing(folder):
    (folder / "times.json").unlink()
    before = {path.name for path in folder.iterdir()}
    command = [sys.executable, "-I", str(folder / "measure.py"), "--seconds", "900"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while "block 1" not in process.stdout.readline():
            pass
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.strip() == "measure.py: interrupted; nothing was written, run it again"
    assert {path.name for path in folder.iterdir()} == before


# --- what is refused ---------------------------------------------------------------------------


def first(times: dict) -> dict:
    return next(iter(times["nodes"].values()))


DAMAGES = {
    "format": (lambda t: t.update(format=2), "format 2, which a newer version of paretonas"),
    "other": (lambda t: t.update(networks="0" * 64), "the times of another runner"),
    "nan": (lambda t: t["seconds"].update(n00=[math.nan]), "finite and positive, got nan"),
    "negative": (lambda t: t["seconds"].update(n01=[0.1, -0.1]), "finite and positive, got -0.1"),
    "huge": (lambda t: first(t)["seconds"].append(10**400), "finite and positive, got 1000"),
    "none": (lambda t: t["seconds"].update(n01=[]), "must be a list of numbers"),
    "word": (lambda t: t["seconds"].update(n01=["a"]), "finite and positive, got 'a'"),
    "missing": (lambda t: t["seconds"].pop("n02"), "seconds has no network n02"),
    "unknown": (lambda t: t["seconds"].update(n99=[0.1]), "network 'n99', which nobody asked for"),
    "no device": (lambda t: t.pop("device"), "it has no device"),
    "threads": (lambda t: t.update(threads=True), "threads must be a positive number"),
    "no nodes": (lambda t: t.update(nodes=[]), "nodes must be a mapping"),
    "event": (lambda t: first(t)["events"].append([0, 1]), "is no three counts"),
    "index": (lambda t: first(t)["events"].append([999, 1, 1]), "is no three counts"),
    "run": (lambda t: first(t)["seconds"].pop(), "have 4 runs, and 3 beside them"),
    "names": (lambda t: first(t).update(names="all"), "have no names"),
}


@pytest.mark.parametrize(("harm", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_or_alien_times_are_refused(folder, supernet, example, harm, message):
    times = made_up(folder)
    harm(times)
    (folder / "times.json").write_text(json.dumps(times))
    with pytest.raises(ValueError, match=message) as refused:
        import_times(supernet, example, folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)


def about(folder: Path) -> dict:
    return json.loads((folder / "networks.json").read_text())


LISTS = {
    "folder": lambda a: a["networks"][0].update(file="../board/n00.onnx"),
    "zero byte": lambda a: a["networks"][0].update(file="\0"),
    "surrogate": lambda a: a["networks"][0].update(file="\ud800.onnx"),
    "twice": lambda a: a["networks"].append(a["networks"][0]),
    "none": lambda a: a.update(networks=[]),
    "option": lambda a: a["networks"][0]["architecture"].update(one="x" * 5000),
    "choice": lambda a: a["networks"][0].update(architecture={}),
}


@pytest.mark.parametrize("harm", LISTS.values(), ids=LISTS)
def test_a_damaged_list_of_networks_is_refused_by_name(folder, supernet, example, harm):
    told = about(folder)
    harm(told)
    (folder / "networks.json").write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"networks\.json is damaged") as refused:
        import_times(supernet, example, folder)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("text", ["", "[]", "null", '{"format": 1', "[" * 100_000])
def test_what_is_no_file_of_times_is_refused(folder, supernet, example, text):
    (folder / "times.json").write_text(text)
    with pytest.raises(ValueError, match=r"times\.json is (damaged|not a whole JSON file)"):
        import_times(supernet, example, folder)


def test_other_spaces_inputs_and_files_are_refused(folder, supernet, example):
    other = Supernet(nn.Sequential(OneOf({"a": conv(3), "b": conv(5)})))
    with pytest.raises(ValueError, match="is of another space"):
        import_times(other, example, folder)
    with pytest.raises(ValueError, match=r"was written for inputs of \[1, 16, 40, 40\]"):
        import_times(supernet, example[..., :8], folder)

    class Wider(Kernels):
        def forward(self, x):
            return super().forward(x) * 2

    with pytest.raises(ValueError, match="other operations than the networks"):
        import_times(Supernet(Wider()), example, folder)
    (folder / "n00.onnx").write_bytes((folder / "n01.onnx").read_bytes())
    with pytest.raises(ValueError, match=r"n00\.onnx is damaged, or another file"):
        import_times(supernet, example, folder)
    (folder / "times.json").unlink()
    with pytest.raises(ValueError, match=r"n00\.onnx is damaged"):
        import_times(supernet, example, folder)
    (folder / "networks.json").write_text("{}")
    with pytest.raises(ValueError, match=r"networks\.json is damaged"):
        import_times(supernet, example, folder)


def test_times_that_are_not_there_yet_are_asked_for(written, supernet, example):
    with pytest.raises(ValueError, match=r"run measure\.py on the machine"):
        import_times(supernet, example, written)


class Impossible(nn.Module):
    """An option that ONNX has not."""

    def forward(self, x):
        return x + torch.linalg.eigvals(x[..., :4, :4]).real.mean()


def test_a_space_that_fits_into_a_folder_is_in_it_as_a_whole(
    supernet, example, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibration, "ARCHITECTURES", 5)
    assert write_runner(supernet, example, tmp_path / "board") == 6
    (tmp_path / "board" / "times.json").write_text(json.dumps(made_up(tmp_path / "board")))
    assert import_times(supernet, example, tmp_path / "board").about["correction"] == "measured"


def test_a_folder_is_written_as_a_whole_or_not_at_all(folder, example, tmp_path):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="is not empty; a runner needs a new or empty folder"):
        write_runner(Supernet(Kernels()), example, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    impossible = Supernet(nn.Sequential(OneOf({"a": nn.Identity(), "b": Impossible()}), conv(3)))
    with pytest.raises(ValueError, match="ONNX cannot hold the option 0=b: .*eig"):
        write_runner(impossible, example, tmp_path / "new" / "board")
    assert not (tmp_path / "new" / "board").exists()


def test_it_tells_how_far_it_is(supernet, example, tmp_path):
    told = []
    write_runner(
        supernet, example, tmp_path / "board", progress=lambda *told_now: told.append(told_now)
    )
    seen = [done for done, total in told if not total]
    assert seen == [*range(1, 1 + len(seen))] and seen
    assert told[len(seen) :] == [(done, 6) for done in range(1, 7)]


class Nest(nn.Module):
    """Its inputs are a nest, and one has a name that `numpy.savez` does not take."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OneOf({"a": nn.Linear(4, 8), "b": nn.Linear(4, 8, bias=False)})
        self.other = OneOf({"relu": nn.ReLU(), "tanh": nn.Tanh()})

    def forward(self, file, extra):
        left, right = extra["pair"]
        return self.other(self.one(file) + self.one(left) * right)


def test_inputs_may_be_a_nest_of_any_names(tmp_path):
    supernet = Supernet(Nest())
    x = torch.randn(1, 4)
    example = {"file": x, "extra": {"pair": (x + 1, torch.randn(1, 8))}}
    write_runner(supernet, example, tmp_path / "board")
    done = measure(tmp_path / "board")
    assert done.returncode == 0, done.stderr
    table = import_times(supernet, example, tmp_path / "board")
    assert table.about["input"] == [[1, 4], [1, 4], [1, 8]]
    assert min(table.total_at(a) for a in every(supernet.choices)) > 0


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def one_left(monkeypatch, name, calls):
    """Lets a function of `os` work so often, and then the disk is full."""
    function, left = getattr(os, name), iter(range(calls))
    monkeypatch.setattr(
        os, name, lambda *args: full() if next(left, None) is None else function(*args)
    )


@pytest.mark.parametrize(
    "fill",
    [
        lambda monkeypatch: monkeypatch.setattr(folder_module, "exported", full),
        lambda monkeypatch: monkeypatch.setattr("zipfile.ZipFile", full),
        lambda monkeypatch: monkeypatch.setattr(Path, "write_text", full),
        lambda monkeypatch: one_left(monkeypatch, "replace", 3),
    ],
    ids=["network", "inputs", "list", "moving"],
)
@pytest.mark.parametrize("there", [False, True])
def test_on_a_full_disk_nothing_is_half_written(tmp_path, monkeypatch, capsys, fill, there):
    monkeypatch.chdir(tmp_path)
    if there:
        (tmp_path / "new" / "board").mkdir(parents=True)
    fill(monkeypatch)
    assert run(["profile", "--space", "toy", "--runner", "new/board"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "paretonas: cannot write new/board: No space left on device"
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == (
        ["new", "new/board"] if there else []
    )


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["sigterm", "ctrl-c"]
)
def test_a_signal_leaves_nothing_behind(tmp_path, monkeypatch, capsys, number, code):
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def stopped(*_, **__):
        assert list((tmp_path / "board").glob(".draft-*"))
        os.kill(os.getpid(), number)
        time.sleep(10)

    monkeypatch.setattr(folder_module, "exported", stopped)
    try:
        assert run(["profile", "--space", "toy", "--runner", "board"]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err.splitlines()[0] == "paretonas: stopped"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(folder_module, "TimingPlan", None)  # it is refused before anything is done

    def denied(*_, **__):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", denied)
    assert run(["profile", "--space", "toy", "--runner", "board"]) == 2
    assert capsys.readouterr().err == "paretonas: cannot write board: Permission denied\n"
    monkeypatch.setattr(os, "access", lambda path, mode, **_: not mode & os.W_OK)
    monkeypatch.setattr("paretonas.cli.profile.profile", None)
    assert run(["profile", "--space", "toy", "--out", "board/phone.json"]) == 2
    assert "board cannot be written: no permission" in capsys.readouterr().err


def test_a_draft_that_a_killed_process_has_left_is_in_nobodys_way(
    supernet, example, tmp_path, monkeypatch
):
    monkeypatch.setattr(calibration, "ARCHITECTURES", 5)
    board = tmp_path / "board"
    (board / ".draft-a1b2c3_4").mkdir(parents=True)
    (board / ".draft-a1b2c3_4" / "n00.onnx").write_text("half of it")
    write_runner(supernet, example, board)
    assert not list(board.glob(".draft-*"))
    mine = tmp_path / "mine" / ".draft-of-mine"
    mine.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"this has '\.draft-of-mine'"):
        write_runner(supernet, example, mine.parent)
    assert mine.exists()


def test_nothing_that_others_write_meanwhile_is_replaced(supernet, example, tmp_path):
    board = tmp_path / "board"

    def meanwhile(done, total):
        (board / "networks.json").write_text("theirs")

    with pytest.raises(ValueError, match=r"board is not empty; .* this has 'networks\.json'"):
        write_runner(supernet, example, board, progress=meanwhile)
    assert [path.name for path in board.iterdir()] == ["networks.json"]
    assert (board / "networks.json").read_text() == "theirs"


def test_a_folder_that_vanishes_is_an_error_in_words(supernet, example, tmp_path):
    board = tmp_path / "board"
    with pytest.raises(ValueError, match="cannot write .*board: No such file"):
        write_runner(supernet, example, board, progress=lambda *_: shutil.rmtree(board))
    assert not board.exists()


def test_options_that_belong_elsewhere_are_refused(folder, capsys):
    for words, message in {
        (
            "--runner",
            "new",
            "--threads",
            "2",
        ): "--runner measures nothing here; leave out --threads",
        ("--runner", "new", "--import", str(folder)): "leave out --import",
        ("--import", str(folder), "--batch-size", "2"): "leave out --batch-size",
        ("--input", "8x8", "--runner", "new"): "as many numbers as 1x8x8, got 8x8",
        ("--input", "1x0x8", "--runner", "new"): "must read like 3x64x64",
        ("--input", "3x8x8", "--runner", "new"): "the network does not take inputs of [1, 3, 8, 8]",
    }.items():
        assert run(["profile", "--space", "toy", *words]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1 and message in told, told
