"""At the end all points are measured together: what the front, the files and a resumption hold."""

import json
import math
import shutil
from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from paretonas._lines import DamagedLineWarning
from paretonas.front import Front
from paretonas.gradient_search import Plan
from paretonas.gradient_search.search import search
from paretonas.nn import NetworkSpace, OneOf
from paretonas.objectives.table_objective import TableObjective
from paretonas.runs import Run
from paretonas.training import Recipe

PLAN = Plan(supernet_steps=30, proxy_evaluations=6, finalists=4, recipe=Recipe(1, 20, 0.03))


@dataclass(frozen=True)
class Clocked(TableObjective):
    """A latency that is the number of parameters, and together twice as large."""

    name: str = "latency"
    unit: str = "ms"
    fault: str = ""
    noisy = True

    def measure(self, network: nn.Module, example):
        return {"latency_ms": size(network), "latency_spread_ms": 0.5}

    def measure_all(self, networks, example, *, seconds):
        assert seconds > 0
        if self.fault == "raises":
            raise RuntimeError("the clock broke")
        value = math.nan if self.fault == "nan" else 2.0
        found = [{"latency_ms": value * size(n), "latency_spread_ms": 0.25} for n in networks]
        return found[:-1] if self.fault == "few" else found


def size(network):
    return float(sum(p.numel() for p in network.parameters()))


@pytest.fixture(scope="module")
def clocked(costs):
    return Clocked(costs[0].table), costs[1]


@pytest.fixture(scope="module")
def ended(tmp_path_factory, space, clocked):
    return run_it(tmp_path_factory.mktemp("together") / "run", space, clocked)


@pytest.fixture
def run(ended, tmp_path):
    """A copy of a run that has ended."""
    return Run.open(shutil.copytree(ended[1].folder, tmp_path / "run"))


def run_it(folder, space, objectives, **more):
    run = Run.open(folder) if (folder / "run.json").exists() else Run.create(folder, {}, "cpu", 0)
    return list(search(space, objectives=objectives, run=run, budget=PLAN, rays=4, **more)), run


def told(points):
    return {p.id: (dict(p.objectives), dict(p.reported)) for p in points}


def test_the_front_and_the_files_hold_the_last_values(run, ended, space):
    front = ended[0][-1].front
    points = run.evaluations()
    assert len(points) == PLAN.finalists
    expected = Front(front.objectives)
    for point in points:
        assert point.objectives["latency_ms"] == 2 * size(run.network(space, point))
        assert point.reported["latency_spread_ms"] == 0.25
        expected.add(point)
    assert told(front) == told(expected) == told(run.front())
    # The journal keeps what was measured first.
    (run.folder / "together.json").unlink()
    assert all(p.reported["latency_spread_ms"] == 0.5 for p in run.evaluations())


def test_a_finished_run_that_goes_on_has_the_same_front(run, space, clocked):
    before = told(run.front())
    again, run = run_it(run.folder, space, clocked)
    assert told(again[-1].front) == before == told(run.front())


@pytest.mark.parametrize("fault", ["raises", "nan", "few"])
def test_a_fault_leaves_what_was_measured_before(tmp_path, space, clocked, fault):
    objectives = (replace(clocked[0], fault=fault), clocked[1])
    steps, run = run_it(tmp_path / "run", space, objectives)
    assert "the points could not be measured together" in steps[-1].message
    assert len(steps[-1].front)
    for point in run.evaluations():
        assert point.objectives["latency_ms"] == size(run.network(space, point))
    assert run.weights("supernet")
    assert run.about["ledger"]["evaluations"] == PLAN.finalists


def test_without_a_folder_it_is_the_same(space, clocked, ended):
    steps = list(search(space, objectives=clocked, budget=PLAN, rays=4))
    assert told(steps[-1].front) == told(ended[0][-1].front)


def test_a_run_goes_on_without_a_damaged_file_and_measures_again(run, space, clocked):
    before = told(run.front())
    held = json.loads((run.folder / "together.json").read_text())
    held["a01"] = {"latency_ms": -1.0}
    (run.folder / "together.json").write_text(json.dumps(held))
    with pytest.warns(DamagedLineWarning, match="latency_ms of a01 is never negative, got -1"):
        assert all(p.reported["latency_spread_ms"] == 0.5 for p in run.evaluations())
    with pytest.warns(DamagedLineWarning):
        steps, run = run_it(run.folder, space, clocked)
    assert told(steps[-1].front) == before == told(run.front())
    assert all(p.reported["latency_spread_ms"] == 0.25 for p in run.evaluations())


class Eigenvalues(nn.Module):
    """What ONNX has no operation for, after a choice."""

    def __init__(self):
        super().__init__()
        self.op = OneOf({"one": nn.Linear(2, 4), "two": nn.Sequential(nn.Linear(2, 4), nn.ReLU())})
        self.head = nn.Linear(2, 3)

    def forward(self, x):
        values = torch.linalg.eigvals(self.op(x).unflatten(1, (2, 2)))
        return self.head(torch.view_as_real(values).sum(2))


def test_a_network_that_onnx_cannot_hold_is_timed_in_torch_and_the_run_says_why(
    space, tmp_path, monkeypatch
):
    monkeypatch.setattr("paretonas.devices.backend.PREFERRED", "onnxruntime")
    space = NetworkSpace("eigen", Eigenvalues, space.task, Recipe(1, 20, 0.03))
    run = Run.create(tmp_path / "run", {}, "cpu", 0)
    steps = list(search(space, objectives="latency", run=run, budget=PLAN, rays=3))
    assert len(steps[-1].front)
    assert run.about["backend"] == "torch"
    assert "since ONNX" in run.about["backend_why"]
    assert {p.reported["latency_backend"] for p in run.evaluations()} == {"torch"}
    with pytest.raises(ValueError, match="the latencies of .* are those of 'torch'"):
        next(search(space, objectives="latency", run=run, budget=PLAN, backend="onnxruntime"))
    with pytest.raises(ValueError, match="use --backend torch"):
        list(search(space, objectives="latency", budget=PLAN, backend="onnxruntime"))
