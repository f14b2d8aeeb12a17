"""What the command line promises: exit codes, one clear line, what is shown and written."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import permutations
from pathlib import Path

import pytest
import torch

import paretonas.cli.search as job
from paretonas._lines import DamagedLineWarning
from paretonas.cli import run
from paretonas.cli.display import watch
from paretonas.devices.timer import Measurement
from paretonas.front import Front, Point
from paretonas.gradient_search.step import Step
from paretonas.names import find_any_space, find_solver, find_space
from paretonas.objectives import CostTable, profile
from paretonas.runs import Run
from search_spaces import toy

FILES = ("run.json", "front.csv", "front.json", "evaluations.jsonl", "history.csv", "report.html")

MY_FILE = """
from torch import nn
from paretonas import NetworkSpace
from paretonas.nn import OneOf
from paretonas.training import Recipe
from search_spaces.images import digits_8x8

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), OneOf({"a": nn.Linear(64, 10), "b": nn.Linear(64, SIZE)}))

SIZE = 10
space = NetworkSpace("mine", Net, digits_8x8, Recipe(epochs=1))
network = Net()
plain = NetworkSpace("plain", lambda: nn.Linear(1, 1), digits_8x8)
def nothing():
    raise RuntimeError("lost")
def made():
    return space
def scaled(width, depth=2):
    return space
def chosen(which="mine"):
    return {"mine": space}[which]
"""


@pytest.fixture(scope="module")
def costs(tmp_path_factory) -> Path:
    """A measured cost table of the toy space."""
    path = tmp_path_factory.mktemp("costs") / "costs.json"
    supernet = toy.space.supernet()
    profile(supernet, toy.space.load_task().example(), cache=False).write(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory, costs) -> Path:
    """A real run on the toy space."""
    out = tmp_path_factory.mktemp("runs") / "toy"
    settings = ["--space", "toy", "--budget", "150steps", "--costs", str(costs)]
    assert run(["search", *settings, "--device", "cpu", "--out", str(out)]) == 0
    return out


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A current folder of one's own, with a space in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_file", raising=False)
    (tmp_path / "my_file.py").write_text(MY_FILE)
    yield tmp_path
    sys.modules.pop("my_file", None)


def error_of(arguments: list[str], capsys) -> tuple[int, str]:
    """The exit code, and the one line on stderr."""
    code = run(arguments)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("paretonas: ")
    return code, lines[0]


def step(number: int, *, phase: str = "weights", of: int = 10, **more) -> Step:
    return Step(phase, number, of, more.pop("front", Front(["error_percent"])), number, **more)


@pytest.fixture
def fake(monkeypatch):
    """Puts a generator in the place of the search."""

    def put(steps):
        def search(**arguments) -> Iterator[Step]:
            del arguments["run"]
            put.arguments = arguments
            yield from steps()

        monkeypatch.setattr(job, "search", search)

    return put


# --- a real run ------------------------------------------------------------------------------


def test_a_run_writes_all_its_files(folder):
    assert {*FILES} <= {path.name for path in folder.iterdir()}
    front = Run.open(folder).front()
    assert len(front) >= 1
    assert {path.stem for path in (folder / "weights").glob("*.safetensors")} >= {
        point.id for point in front
    }


def test_exported_weights_score_what_the_front_says(folder):
    from paretonas.training import evaluate

    opened = Run.open(folder)
    point = opened.front().pick("most-accurate")
    network = toy.space.supernet().extract(point.architecture)
    network.load_state_dict(opened.weights(point.id))
    error = evaluate(network, toy.space.load_task(), "valid")["error_percent"]
    assert error == pytest.approx(point.objectives["error_percent"])


@pytest.mark.parametrize("format", ["torch", "safetensors", "json", "graphml", "onnx", "onnx-int8"])
def test_export_writes_every_format(folder, tmp_path, capsys, format):
    out = tmp_path / "net"
    assert run(["export", str(folder), "--format", format, "--out", str(out)]) == 0
    assert out.stat().st_size > 0
    said = capsys.readouterr().out
    assert str(out) in said
    assert ("in the search" in said) == (format not in ("json", "graphml"))
    assert ("read back" in said) == (format in ("onnx", "onnx-int8", "torch"))
    assert ("in int8" in said) == (format == "onnx-int8")


@pytest.mark.parametrize(
    ("times", "told"),
    [
        (2.0, "the file does not hold: asked <= "),
        (1.05, "within its spread of the limit"),
        (0.9, ""),
    ],
)
def test_export_says_if_the_file_is_beyond_the_limit(
    folder, tmp_path, capsys, monkeypatch, times, told
):
    limit = 1.001 * Run.open(folder).front().knee().objectives["latency_ms"]
    monkeypatch.setattr(
        "paretonas.cli.export.measure_together",
        lambda loads, **_: [Measurement(times * limit, 0.1 * limit, 5) for _ in loads],
    )
    for pick in (f"latency<={limit}ms", "knee"):
        command = ["export", str(folder), "--pick", pick, "--format", "safetensors"]
        assert run([*command, "--out", str(tmp_path / f"{pick[:4]}.safetensors")]) == 0
        said = capsys.readouterr().out
        assert ("the file " in said) == (bool(told) and pick != "knee")
        assert told in said or pick == "knee"


def what_a_stranger_reads(path: Path, format: str) -> dict:
    """How inputs are prepared, by the file alone."""
    if format == "onnx":
        import onnx

        texts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    elif format == "torch":
        extra = {"preprocessing.json": "", "architecture.json": ""}
        torch.export.load(path, extra_files=extra)
        texts = {name.removesuffix(".json"): text for name, text in extra.items()}
    elif format == "safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            texts = file.metadata()
        assert path.with_suffix(".json").read_text() == texts["architecture"] + "\n"
    else:
        return json.loads(path.read_text())["preprocessing"]
    told = json.loads(texts["preprocessing"])
    assert json.loads(texts["architecture"])["preprocessing"] == told
    return told


@pytest.mark.parametrize("format", ["torch", "safetensors", "json", "onnx"])
def test_a_file_says_how_its_inputs_are_prepared(folder, tmp_path, capsys, format):
    path = tmp_path / ("net.pt2" if format == "torch" else "net.x")
    assert run(["export", str(folder), "--format", format, "--out", str(path)]) == 0
    told = what_a_stranger_reads(path, format)
    assert told["stated"] and told["formula"] == "(raw * scale - mean) / std"
    assert (told["scale"], told["mean"], told["std"]) == (1 / 16, 0.3, 0.38)
    assert told["labels"] == list("0123456789")
    assert told["training_inputs"]["shape"] == [1, 8, 8]
    said = capsys.readouterr().out
    formula = "(raw * 0.0625 - 0.3) / 0.38 as float32, batch, channel, height, width"
    assert f"inputs are {formula}; raw: 8 x 8 gray pixels" in said


def test_whoever_has_raw_pixels_and_the_file_gets_the_error_of_the_front(folder, tmp_path):
    """With numpy and ONNX Runtime alone, by what the file says."""
    onnxruntime = pytest.importorskip("onnxruntime")
    from sklearn.datasets import load_digits

    path = tmp_path / "net.onnx"
    assert run(["export", str(folder), "--pick", "most-accurate", "--out", str(path)]) == 0
    session = onnxruntime.InferenceSession(path)
    told = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    pixels, labels = load_digits(return_X_y=True)
    test = torch.randperm(1797, generator=torch.Generator().manual_seed(0)).numpy()[-400:]
    raw = pixels[test].reshape(-1, *told["training_inputs"]["shape"])
    inputs = (raw * told["scale"] - told["mean"]) / told["std"]
    (logits,) = session.run(None, {"images": inputs.astype(told["training_inputs"]["dtype"])})
    wrong = [
        told["labels"][k] != str(y) for k, y in zip(logits.argmax(1), labels[test], strict=True)
    ]
    point = Run.open(folder).front().pick("most-accurate")
    assert 100 * sum(wrong) / 400 == pytest.approx(point.reported["test_error_percent"])


def test_where_the_space_does_not_state_it_export_says_what_the_network_saw(
    folder, tmp_path, capsys, monkeypatch
):
    from dataclasses import replace

    data = toy.space.task()
    silent = replace(toy.space, task=lambda: replace(data, preprocessing=None))
    monkeypatch.setattr("paretonas.cli.export.with_networks", lambda *_: silent)
    out = tmp_path / "net.json"
    assert run(["export", str(folder), "--format", "json", "--out", str(out)]) == 0
    inputs = data.train.inputs
    said = (
        "the space does not state how raw inputs are prepared; the network was trained on inputs "
        f"from {inputs.min():.4g} to {inputs.max():.4g}, mean {inputs.mean():.4g}, "
        f"standard deviation {inputs.std():.4g}"
    )
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "does not state" in line)
    assert re.sub(r"e-\d+|\d", "", line) == re.sub(r"e-\d+|\d", "", said)
    told = json.loads(out.read_text())["preprocessing"]
    assert not told["stated"]
    seen = told["training_inputs"]
    assert [seen["min"], seen["max"]] == [float(inputs.min()), float(inputs.max())]
    assert [seen["mean"], seen["std"]] == pytest.approx(
        [float(inputs.double().mean()), float(inputs.double().std(correction=0))]
    )


def test_a_file_that_nobody_named_is_never_replaced(folder, tmp_path, capsys):
    """Whichever of the formats was written first; the plan beside weights is one of them."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    name = Run.open(copy).front().pick("knee").id
    kinds = {"json": ".json", "safetensors": ".safetensors", "graphml": ".graphml"}
    for first, second in [*permutations(kinds, 2), *zip(kinds, kinds, strict=True)]:
        for suffix in kinds.values():
            (copy / f"{name}{suffix}").unlink(missing_ok=True)
        assert run(["export", str(copy), "--format", first]) == 0
        before = {path: path.read_bytes() for path in copy.glob(f"{name}.*")}
        code = run(["export", str(copy), "--format", second])
        said = capsys.readouterr().err
        assert all(path.read_bytes() == content for path, content in before.items())
        taken = first == second or {first, second} == {"json", "safetensors"}
        assert code == (2 if taken else 0), (first, second)
        assert (f"{name}" in said and "exists" in said and "--out FILE" in said) == taken


def test_a_file_that_was_named_is_replaced_and_none_beside_it(folder, tmp_path, capsys):
    weights, plan = tmp_path / "net.safetensors", tmp_path / "net.json"
    command = ["export", str(folder), "--out", str(weights), "--format", "safetensors"]
    for wish in ("knee", "fastest"):
        assert run([*command, "--pick", wish]) == 0, "the plan of the old weights goes with them"
    plan.write_text("mine")
    before = weights.read_bytes()
    code, line = error_of(command, capsys)
    assert code == 2
    assert "net.json, which exists and belongs to something else" in line
    assert (plan.read_text(), weights.read_bytes()) == ("mine", before)
    weights.unlink()
    plan.unlink()
    plan.symlink_to("nowhere")
    assert error_of(command, capsys)[0] == 2
    assert not weights.exists() and plan.is_symlink()


@pytest.mark.parametrize("format", ["json", "safetensors", "graphml", "torch"])
def test_a_folder_is_no_place_for_a_file(folder, tmp_path, capsys, format):
    code, line = error_of(
        ["export", str(folder), "--format", format, "--out", str(tmp_path)], capsys
    )
    assert (code, "it is a folder" in line) == (2, True)
    assert not list(tmp_path.iterdir())
    code, line = error_of(["report", str(folder), "--out", str(tmp_path)], capsys)
    assert (code, "it is a folder" in line) == (2, True)


def test_a_run_with_a_damaged_line_goes_on_and_no_id_is_given_twice(folder, tmp_path):
    for number in (0, len(Run.open(folder).evaluations()) - 1):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        path = copy / "evaluations.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        lines[number] = lines[number].replace(b"error_percent", b"error_qercent")
        path.write_bytes(b"".join(lines))
        weights = {file: file.read_bytes() for file in (copy / "weights").iterdir()}
        with pytest.warns(DamagedLineWarning, match=f"line {number + 1} is damaged"):
            assert run(["search", "--resume", str(copy)]) == 0
        assert path.read_bytes().startswith(b"".join(lines))
        with pytest.warns(DamagedLineWarning):
            points = Run.open(copy).evaluations()
        assert len(points) == len(lines), "another was evaluated in its place"
        assert len({point.id for point in points}) == len(points)
        for file, content in weights.items():
            assert file.stem == "supernet" or file.read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pick", "latency<=1ns"], "no point meets latency_ms<=1e-06; the front offers"),
        (["--pick", "a99"], "no point is called 'a99'; there are knee, fastest"),
        (["--format", "onx"], "unknown format 'onx'; did you mean 'onnx'?"),
    ],
)
def test_an_impossible_export_says_what_there_is(folder, capsys, arguments, message):
    code, line = error_of(["export", str(folder), *arguments], capsys)
    assert code == 2
    assert message in line


def test_report_draws_the_page_where_it_should(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert run(["report", str(folder), "--out", str(page)]) == 0
    assert "<html" in page.read_text()
    assert str(page) in capsys.readouterr().out


def test_a_finished_run_that_is_resumed_ends_with_the_same_front(folder):
    before = (folder / "front.json").read_text()
    assert run(["search", "--resume", str(folder)]) == 0
    picks = [point["id"] for point in json.loads(before)["points"]]
    after = json.loads((folder / "front.json").read_text())
    assert [point["id"] for point in after["points"]] == picks


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("threads", None, "has no setting 'threads'"),
        ("device", None, "has no setting 'device'"),
        ("seed", {}, "'seed' must be an integer from 0"),
        ("threads", True, "'threads' must be an integer from 1"),
        ("rays", "5", "'rays' must be an integer from 1"),
        ("constraint", 5, "'constraint' must be a list of texts"),
        ("constraint", [5], "'constraint' must be a list of texts"),
        ("solver", 5, "'solver' must be a text"),
        ("budget", 5, "'budget' must be a text"),
        ("costs", 5, "'costs' must be a text"),
        ("device", 5, "'device' must be a text"),
    ],
)
def test_settings_that_are_none_are_refused_by_name_before_anything_is_written(
    tmp_path, capsys, name, value, rule
):
    settings = {"space": "toy", "device": "cpu", "threads": 1, "seed": 0, name: value}
    if value is None:
        del settings[name]
    Run.create(tmp_path / "run", settings, "cpu", 0)
    code, message = error_of(["search", "--resume", str(tmp_path / "run")], capsys)
    assert code == 2
    assert rule in message
    assert str(tmp_path / "run" / "run.json") in message
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("front.json", ["report"]),
        ("front.json", ["export"]),
        ("evaluations.jsonl", ["report"]),
        ("evaluations.jsonl", ["search", "--resume"]),
        ("history.csv", ["report"]),
        ("history.csv", ["search", "--resume"]),
    ],
)
def test_a_folder_in_the_place_of_a_file_is_one_line(folder, tmp_path, capsys, name, command):
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    (copy / name).unlink()
    (copy / name).mkdir()
    code, message = error_of([*command, str(copy)], capsys)
    assert code == 2
    assert str(copy / name) in message
    assert "Error" not in message


def test_profile_writes_a_table_that_search_reads(here, capsys):
    options = ["--device", "cpu", "--batch-size", "3", "--out", "costs.json"]
    assert run(["profile", "--space", "toy", *options]) == 0
    assert "costs.json" in capsys.readouterr().out
    table = CostTable.read("costs.json", toy.space.choices)
    assert table.slots
    assert table.about["input"] == [3, 1, 8, 8]


# --- bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("serch", "Did you mean 'search'?"),
        ("search --budgt 3s", "--budget"),
        ("search --space digts", "no space is called 'digts'; did you mean 'digits'?"),
        ("search --space nopkg.mod:x", "no module is called 'nopkg.mod'"),
        ("search --space no/file.py", "there is no file"),
        ("search --space my_file:spce", "my_file has no 'spce'; did you mean 'space'?"),
        ("search --space my_file:network", "is a network, no space"),
        ("search --space my_file:Net", "is a network, no space"),
        ("search --space my_file:SIZE", "is of type int, no space"),
        ("search --space my_file:nothing", "calling my_file:nothing() failed: RuntimeError: lost"),
        ("search --space my_file:scaled", "my_file:scaled is the function scaled(width, depth=2)"),
        ("search --space my_file:digits_8x8", "what my_file:digits_8x8() returns is of type Data"),
        ("search --space my_file:plain", "a search space needs a choice"),
        ("search --space broken.py", "broken.py failed: ZeroDivisionError"),
        ("search --solver mdga", "no solver is called 'mdga'; did you mean 'MGDA'?"),
        ("search --budget 0s", "budget"),
        ("search --budget soon", "90s"),
        ("search --space toy --budget 1steps", "budget"),
        ("search --constraint latency<=-1ms", "latency_ms is never negative"),
        ("search --constraint speed<=1", "no objective is called 'speed'"),
        ("search --space toy --out full", "full is not empty"),
        ("search --space toy --out my_file.py", "my_file.py is a file"),
        ("search --device tpu", "auto, cpu or cuda"),
        ("search --threads 0", "--threads"),
        ("search --workers 0", "--workers"),
        ("search --evaluation-timeout soon", "is a time such as 90s, 10m or 1h, got 'soon'"),
        ("search --costs nofile", "nofile"),
        ("search --resume nofolder", "nofolder"),
        ("search --resume full", "full is not the folder of a run"),
        ("search --resume full --seed 1", "leave out --seed"),
        ("export full", "full is not the folder of a run"),
        ("report full", "full is not the folder of a run"),
    ],
)
def test_bad_input_gets_one_clear_line_and_exit_code_2(here, capsys, command, message):
    (here / "full").mkdir()
    (here / "full" / "file").write_text("")
    (here / "broken.py").write_text("1 / 0")
    code, line = error_of(command.split(), capsys)
    assert code == 2
    assert message in line
    assert not list(here.glob("paretonas-*")), "a refused search leaves no folder"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_cuda_without_a_cuda_device_is_bad_input(capsys):
    code, line = error_of(["search", "--space", "toy", "--device", "cuda"], capsys)
    assert (code, "cuda" in line) == (2, True)


def test_options_of_different_shapes_are_bad_input(here, capsys):
    (here / "my_file.py").write_text(MY_FILE.replace("SIZE = 10", "SIZE = 11"))
    code, line = error_of(["search", "--space", "my_file.py", "--budget", "100steps"], capsys)
    assert code == 2
    assert "one shape" in line


# --- what becomes of errors ------------------------------------------------------------------


def test_ctrl_c_is_130_and_says_how_to_go_on(here, fake, capsys):
    def steps():
        yield step(1)
        raise KeyboardInterrupt

    fake(steps)
    assert run(["search", "--space", "toy", "--out", "run"]) == 130
    said = capsys.readouterr().err
    assert said == "paretonas: stopped; to go on: paretonas search --resume run\n"


def test_sigterm_is_143_and_says_how_to_go_on(here, fake, capsys):
    went_on, before = [], signal.getsignal(signal.SIGTERM)

    def steps():
        yield step(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        went_on.append(True)

    fake(steps)
    assert run(["search", "--space", "toy", "--out", "run"]) == 143
    said = capsys.readouterr().err
    assert said == "paretonas: stopped; to go on: paretonas search --resume run\n"
    assert not went_on
    assert (here / "run" / "run.json").exists()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_does_not_end_when_interrupted_is_ended(
    here, fake, monkeypatch, capfd, number, code
):
    monkeypatch.setattr("paretonas.cli.stop.SOON", 0.1)
    heard, begun = os.pipe()

    def steps():
        yield step(1)
        os.write(begun, b".")
        while True:
            with suppress(BaseException):
                time.sleep(9)

    fake(steps)
    child = os.fork()
    if not child:
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background
            os._exit(run(["search", "--space", "toy", "--out", "run", "--workers", "2"]))
        finally:
            os._exit(99)
    os.read(heard, 1)
    os.kill(child, number)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code
    again = "paretonas search --resume run --workers 2"
    assert capfd.readouterr().err == f"paretonas: stopped; to go on: {again}\n"


def test_an_unexpected_error_is_1_with_a_hint(here, fake, capsys, monkeypatch):
    def steps():
        yield step(1)
        raise RuntimeError("boom\nin two lines")

    fake(steps)
    code, line = error_of(["search", "--space", "toy"], capsys)
    assert code == 1
    assert "RuntimeError: boom in two lines (set PARETONAS_TRACEBACK=1" in line
    monkeypatch.setenv("PARETONAS_TRACEBACK", "1")
    with pytest.raises(RuntimeError):
        run(["search", "--space", "toy"])


def test_a_mistake_inside_torch_is_not_taken_for_bad_input(here, fake, capsys):
    def steps():
        yield step(1)
        torch.zeros(2).view(3, 3)

    fake(steps)
    assert error_of(["search", "--space", "toy"], capsys)[0] == 1


def test_a_mistake_of_ours_is_not_taken_for_bad_input(here, fake, capsys):
    fake(lambda: iter([step(1, front=None)]))
    code, line = error_of(["search", "--space", "toy"], capsys)
    assert (code, "PARETONAS_TRACEBACK=1" in line) == (1, True)


def test_an_empty_front_under_a_constraint_is_bad_input(here, fake, capsys):
    fake(lambda: iter([step(1)]))
    limit = ["--constraint", "latency<=1us"]
    code, line = error_of(["search", "--space", "toy", *limit], capsys)
    assert code == 2
    assert "no trained network meets latency_ms<=0.001" in line


# --- what is asked reaches the search ----------------------------------------------------------


def test_options_become_arguments_and_settings(here, fake, costs):
    fake(lambda: iter([step(1)]))
    given = {
        "--space": "my_file:space",
        "--budget": "90s",
        "--solver": "smooth-tchebycheff",
        "--rays": "5",
        "--seed": "7",
        "--threads": "2",
        "--device": "cpu",
        "--finalists": "inherit:0.5",
        "--early-stopping": "halving:2",
    }
    arguments = [word for pair in given.items() for word in pair]
    limits = ["--constraint", "latency<=2ms", "--constraint", "memory<=1MiB"]
    run(["search", *arguments, *limits, "--out", "run"])
    found = fake.arguments
    assert found["space"].name == "mine"
    assert found["budget"].seconds == 90
    assert type(found["solver"]).__name__ == "SmoothTchebycheff"
    assert (found["rays"], found["seed"], found["threads"]) == (5, 7, 2)
    assert (found["finalists"], found["early_stopping"]) == ("inherit:0.5", "halving:2")
    assert dict(found["constraint"].limits) == {"latency_ms": 2.0, "memory_kib": 1024.0}
    settings = Run.open("run").settings
    assert settings["constraint"] == limits[1::2]
    assert settings["folder"] == str(here)


def test_each_run_gets_a_folder_of_its_own(here, fake):
    fake(lambda: iter([step(1)]))
    for _ in range(2):
        run(["search", "--space", "toy"])
    assert {path.name for path in here.glob("paretonas-*")} == {
        "paretonas-toy-1",
        "paretonas-toy-2",
    }


@pytest.mark.parametrize(
    "spec",
    ["my_file:space", "my_file.py:space", "./my_file.py", "my_file:made", "my_file.py:chosen"],
)
def test_a_space_of_ones_own_is_found(here, spec):
    assert find_space(spec).name == "mine"
    os.chdir("/")
    assert find_space(spec, here).name == "mine"


@pytest.mark.parametrize("spec", ["toy", "search_spaces.toy", "search_spaces.toy:space"])
def test_a_space_of_the_house_is_found_by_name(spec):
    assert find_space(spec) is toy.space


def test_a_space_in_a_package_is_found_by_path():
    assert find_space(str(Path(toy.__file__)) + ":space").name == "toy"


MY_TABLE = """
import pandas as pd
from paretonas.table import Table

rows = pd.DataFrame({"op": ["a", "b"], "error": [1, 2], "ms": [2, 1]})

def __getattr__(name):
    if name == "cells":
        return Table.from_pandas(rows, ["op"], ["error", "ms"], name="cells")
    raise AttributeError(name)

def __dir__():
    return [*globals(), "cells"]
"""


def test_a_table_is_a_space_to_compare_on_and_none_to_search(here, capsys):
    (here / "my_table.py").write_text(MY_TABLE)
    assert find_any_space("my_table.py:cells").name == "cells"
    assert find_any_space("toy:space") is toy.space
    with pytest.raises(ValueError, match="has no 'cell'; did you mean 'cells'"):
        find_any_space("my_table.py:cell")
    code, line = error_of(["search", "--space", "my_table.py:cells"], capsys)
    assert code == 2
    assert "is a space without networks to train; paretonas compare can search it" in line


@pytest.mark.parametrize("name", ["MGDA", "mgda", "smooth_tchebycheff", "PCGrad", "EPO"])
def test_solvers_are_found_whatever_the_case(name):
    assert type(find_solver(name)).__name__.casefold() == name.replace("_", "").casefold()


# --- what is shown ---------------------------------------------------------------------------


def front_of_two() -> Front:
    front = Front(["error_percent", "latency_ms", "memory_kib"])
    for name, error, latency, memory in [("conv", 2.0, 0.5, 2048.0), ("skip", 9.0, 0.1, 12.0)]:
        reported = {"test_error_percent": error + 1, "parameters": 1234, "latency_spread_ms": 0.01}
        objectives = {"error_percent": error, "latency_ms": latency, "memory_kib": memory}
        front.add(Point({"op": name}, objectives, reported))
    return front


def test_the_front_is_shown_as_a_table(here, fake, capsys):
    def steps():
        job_run = Run.open("run")
        job_run.write_front(front_of_two())
        yield step(10, front=front_of_two(), message="rank correlation 0.9")

    fake(steps)
    assert run(["search", "--space", "toy", "--out", "run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    row = next(line.split() for line in lines if line.startswith("a01"))
    said = "a01 2.00 % 3.00 % 0.500 ms ± 0.010 2.00 MiB 1,234 op=conv"
    assert row == said.split()
    assert any("rank correlation 0.9" in line for line in lines)
    assert any("run" in line and "2 points" in line for line in lines)


def test_without_a_terminal_there_is_a_line_now_and_then():
    told = [step(n, of=100, message=f"n={n}") for n in range(1, 101)]
    told += [step(100, of=100, phase="finalists", hypervolume=0.5, cosines={"error_latency": -0.5})]
    told += [step(100, of=100, phase="finalists", message="the end")]
    out = io.StringIO()
    assert list(watch(told, out)) == told
    lines = out.getvalue().splitlines()
    assert 8 <= len(lines) <= 14
    # The pace is known from the second step on: what came before the first does not come again.
    assert lines[0] == "weights 1/100, 0:01 gone, n=1"
    assert lines[1] == "weights 11/100, 0:11 gone, about 1:29 left, n=11"
    known = (
        "finalists 100/100, cosine error/latency -0.50, front 0 points, hypervolume 0.5000, "
        "1:40 gone"
    )
    assert lines[-2:] == [known, f"{known}, the end"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_picture():
    out = Terminal()
    told = [
        step(0, of=0, phase="costs"),
        step(5, objectives={"error_percent": 3.0}, hypervolume=0.25, front=front_of_two()),
        step(6, message="the end"),
    ]
    assert list(watch(told, out)) == told
    assert "the end" in out.getvalue()


def test_a_profile_shows_how_far_it_is_on_a_terminal_and_nothing_elsewhere(
    here, costs, capsys, monkeypatch
):
    def measure(supernet, example, *_, progress, **options):
        progress(7, 0)
        progress(1, 2)
        return 5 if "name" in options else CostTable.read(costs, supernet.choices)

    monkeypatch.setattr("paretonas.cli.profile.profile", measure)
    monkeypatch.setattr("paretonas.cli.profile.write_runner", measure)
    monkeypatch.setattr("paretonas.cli.display._SECONDS_BETWEEN_PICTURES", 0.0)
    for what, words in {"profile": ["--out", "new.json"], "runner": ["--runner", "board"]}.items():
        command = ["profile", "--space", "toy", *words]
        assert run(command) == 0
        assert capsys.readouterr().err == ""
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", out := Terminal())
            assert run(command) == 0
        assert f"{what} of toy: 7 architectures seen" in out.getvalue()
        assert f"{what} of toy: 50%" in out.getvalue()


# --- as a program ------------------------------------------------------------------------------


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from paretonas.cli import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_help_and_errors_as_a_program():
    assert program("--version").stdout.startswith("paretonas ")
    shown = program("--help")
    assert shown.returncode == 0
    assert all(
        word in shown.stdout for word in ("search", "compare", "export", "profile", "report")
    )
    wrong = program("nothing")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("paretonas: ")
    assert wrong.stdout == ""
