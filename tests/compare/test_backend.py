"""What a comparison says of the backend that runs the networks, keeps of it, and refuses."""

import json
import shutil
import sys

import pandas as pd
import pytest

from paretonas.cli import run
from paretonas.cli.compare import _Request
from paretonas.compare import compare
from paretonas.names import find_space
from paretonas.objectives import default_objectives
from paretonas.objectives.default import MEASURED
from paretonas.problem import Problem

FILE = """
from torch import nn
from paretonas import NetworkSpace
from paretonas.nn import OneOf
from paretonas.training import Recipe
from search_spaces.images import digits_8x8

class Net(nn.Sequential):
    def __init__(self):
        layers = {"a": nn.Linear(64, 10), "b": nn.Sequential(nn.Linear(64, 9), nn.Linear(9, 10))}
        super().__init__(nn.Flatten(), OneOf(layers), OneOf({"c": nn.ReLU(), "d": nn.Tanh()}))

space = NetworkSpace("mine", Net, digits_8x8, Recipe(epochs=1))
"""
COMMAND = "compare --space compared_space:space --methods random --budget 3 --seeds 1 --out out"


@pytest.fixture
def prefer(monkeypatch):
    """Makes a backend the default one."""

    def prefer(name):
        monkeypatch.setattr("paretonas.devices.backend.PREFERRED", name)

    return prefer


@pytest.fixture
def here(one_process, tmp_path, monkeypatch, prefer):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "compared_space", raising=False)
    (tmp_path / "compared_space.py").write_text(FILE)
    prefer("onnxruntime")
    return tmp_path


def backends(folder):
    return set(pd.read_csv(folder / "evaluations.csv")["latency_backend"])


def test_the_default_is_that_of_a_search_and_the_folder_keeps_it(here, prefer, capsys):
    assert run(COMMAND.split()) == 0
    assert "latency_ms (onnxruntime) minimized" in capsys.readouterr().out
    assert "(onnxruntime) minimized" in (here / "out" / "report.html").read_text()
    assert backends(here / "out") == {"onnxruntime"}
    before = (here / "out" / "evaluations.csv").read_bytes()
    prefer("torch")  # as on a machine without its packages, or in a later version
    more = ["compare", "--resume", "out", "--space", "compared_space:space", "--budget", "4"]
    assert run(more) == 0
    assert backends(here / "out") == {"onnxruntime"}
    assert run(COMMAND.replace("--budget 3", "--budget 4").split()) == 0  # it goes on too
    rows = (here / "out" / "evaluations.csv").read_bytes()
    assert rows.startswith(before) and len(rows) > len(before)
    assert run(["report", "out", "--space", "compared_space:space"]) == 0
    assert "(onnxruntime) minimized" in (here / "out" / "report.html").read_text()


def edited(path, **settings):
    """Change what a folder tells; None takes it away, as in one of an older version."""
    about = json.loads(path.read_text())
    about["settings"] = {
        k: v for k, v in {**about["settings"], **settings}.items() if v is not None
    }
    path.write_text(json.dumps(about))


def test_a_folder_that_does_not_tell_its_backend_is_one_of_torch(here, prefer):
    prefer("torch")
    assert run(COMMAND.split()) == 0
    edited(here / "out" / "compare.json", backends=None)
    prefer("onnxruntime")
    assert run(["compare", "--resume", "out", "--space", "compared_space:space"]) == 0
    assert run(COMMAND.split()) == 0
    assert backends(here / "out") == {"torch"}


class Spent:
    """An objective that is measured, with the backend that was asked for."""

    column, asked = "energy_mj", []

    def __init__(self, backend):
        self.asked.append(backend)

    def measure(self, network, example):
        return 1.0


def test_where_latency_is_no_objective_no_backend_is_kept(here, monkeypatch):
    monkeypatch.setitem(MEASURED, "energy", lambda space, device, threads, by: Spent(by))
    monkeypatch.setattr(Spent, "asked", [])
    words = [*COMMAND.split(), "--minimize", "error,energy"]
    assert run(words) == 0
    assert run(words) == 0
    assert run(["compare", "--resume", "out", "--space", "compared_space:space"]) == 0
    assert {*Spent.asked} == {None}  # the default, as it was at first


def test_another_backend_is_another_comparison(here, capsys):
    assert run([*COMMAND.split(), "--backend", "torch"]) == 0
    assert run([*COMMAND.split(), "--backend", "onnxruntime"]) == 2
    assert 'backend was "torch", now "onnxruntime"' in capsys.readouterr().err
    assert backends(here / "out") == {"torch"}
    space, again = find_space("compared_space:space"), {"budget": 3, "seeds": 1, "folder": "mine"}
    first, other = (Problem(space, default_objectives(space, backend=b)) for b in ("torch", None))
    compare(first, "random", **again)
    with pytest.raises(ValueError, match='"latency_ms": "torch"}, now {"latency_ms": "onnxruntime'):
        compare(other, "random", **again)


def test_a_comparison_on_a_device_that_is_not_here_is_still_drawn(here, monkeypatch, capsys):
    assert run([*COMMAND.split(), "--backend", "onnxruntime"]) == 0
    path = here / "out" / "compare.json"
    about = json.loads(path.read_text())
    about["asked"]["device"] = "cuda"
    path.write_text(json.dumps(about))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (here / "out" / "report.html").unlink()
    assert run(["report", "out", "--space", "compared_space:space"]) == 0
    assert "(onnxruntime) minimized" in (here / "out" / "report.html").read_text()
    assert run(["compare", "--resume", "out", "--space", "compared_space:space"]) == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err


def test_each_latency_has_its_own_backend(here, capsys):
    """As on a GPU and the CPU beside it; here both are measured on the CPU."""
    words = [*COMMAND.split(), "--minimize", "error,latency,latency@cpu"]
    assert run(words) == 0
    about = here / "out" / "compare.json"
    assert json.loads(about.read_text())["settings"]["backends"] == {
        "latency_ms": "onnxruntime",
        "latency_cpu_ms": "onnxruntime",
    }
    shutil.rmtree(here / "out" / "runs")  # what follows is another comparison
    for told in ({"latency_ms": "torch", "latency_cpu_ms": "onnxruntime"}, None):
        # An older version did not tell that of eager torch.
        edited(about, backends=told or {"latency_cpu_ms": "onnxruntime"})
        capsys.readouterr()
        assert run(["compare", "--resume", "out", "--space", "compared_space:space"]) == 0
        said = "latency_ms (torch) minimized, latency_cpu_ms (onnxruntime) minimized"
        assert said in capsys.readouterr().out
        rows = pd.read_csv(here / "out" / "evaluations.csv")
        assert {*rows["latency_backend"]} == {"torch"}
        assert {*rows["latency_cpu_backend"]} == {"onnxruntime"}
        assert run(words) == 0  # it goes on too
    assert run(["report", "out", "--space", "compared_space:space"]) == 0
    page = (here / "out" / "report.html").read_text()
    assert "latency (ms) (torch) minimized" in page
    assert "latency cpu (ms) (onnxruntime) minimized" in page


def test_a_named_backend_is_that_of_the_device_and_others_have_their_default(here, monkeypatch):
    space = find_space("compared_space:space")
    _, latency, other = default_objectives(
        space, ["latency", "latency@cpu"], backend={"latency_ms": "torch"}
    )
    assert (latency.backend, other.backend) == ("torch", "onnxruntime")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    settings = {"device": "cuda", "backend": "cuda-graphs"}
    request = _Request.of(settings, here, space)
    assert request.runners() == {"latency_ms": "cuda-graphs", "latency_cuda_ms": "cuda-graphs"}


def test_a_report_times_nothing_and_needs_neither_device_nor_backend(here, monkeypatch):
    assert run([*COMMAND.split(), "--backend", "torch"]) == 0
    page = (here / "out" / "report.html").read_text()
    path = here / "out" / "compare.json"
    about = json.loads(path.read_text())
    about["asked"] |= {"device": "cuda", "backend": "cuda-graphs"}
    about["settings"]["backends"] = {"latency_ms": "cuda-graphs"}
    path.write_text(json.dumps(about))

    def refuse(*_, **__):
        raise AssertionError("a report times nothing")

    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("paretonas.objectives.latency.profile", refuse)
    assert run(["report", "out", "--space", "compared_space:space"]) == 0
    drawn = (here / "out" / "report.html").read_text()
    assert "latency (ms) (cuda-graphs) minimized" in drawn
    assert len(drawn) == pytest.approx(len(page), abs=300)


def test_a_folder_whose_runs_have_other_objectives_is_not_drawn(here, capsys):
    assert run(COMMAND.split()) == 0
    columns = ["error_percent", "latency_ms", "macs"]
    edited(here / "out" / "compare.json", objectives=columns)
    capsys.readouterr()
    assert run(["report", "out", "--space", "compared_space:space"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has points with error_percent, latency_ms, memory_kib; the objectives are" in line


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--space toy --backend onnxrt", "got 'onnxrt'; did you mean 'onnxruntime'?"),
        ("--space toy --backend cuda-graphs", "cuda-graphs needs the device cuda, got cpu"),
        ("--space nas_bench_201 --table t.csv --minimize a,b --backend torch", "were measured"),
        ("--space toy --device cuda", "torch finds no CUDA device"),
    ],
)
def test_what_cannot_be_is_one_line(here, words, message, capsys):
    (here / "t.csv").write_text("a,b\n1,2\n")
    assert run(["compare", *words.split(), "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (here / "out").exists()


@pytest.mark.parametrize("value", ["3", '["torch"]', '{"latency_ms": 3}', '{"latency_ms": "x"}'])
def test_a_folder_that_tells_nonsense_is_refused(here, value, capsys):
    assert run(COMMAND.split()) == 0
    path = here / "out" / "compare.json"
    about = json.loads(path.read_text())
    about["settings"]["backends"] = json.loads(value)
    path.write_text(json.dumps(about))
    capsys.readouterr()
    assert run(["compare", "--resume", "out", "--space", "compared_space:space"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "backend" in line
