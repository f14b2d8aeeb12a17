"""The objectives of docs/adding-an-objective.md count what runs, and measure what was trained."""

import re
import shlex
import sys
import types
from pathlib import Path

import pytest
import torch

from paretonas.cli import run
from paretonas.graph import record
from paretonas.objectives import DifferentiableObjective
from paretonas.runs import Run
from paretonas.space import every
from search_spaces import toy

PAGE = Path(__file__).parents[2] / "docs" / "adding-an-objective.md"


def test_the_example_is_measured_in_a_search_from_the_command_line(tmp_path, monkeypatch):
    page = PAGE.read_text()
    (code,) = re.findall(r"```python run my_measurement.py\n(.*?)```", page, re.DOTALL)
    (tmp_path / "my_measurement.py").write_text(code)
    (command,) = re.findall(r"paretonas (search .*my_measurement:Drift.*)", page)
    words = shlex.split(command)
    words[words.index("--budget") + 1] = "200steps"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_measurement", raising=False)
    assert run([*words, "--constraint", "drift<=28", "--device", "cpu"]) == 0
    found = Run.open(tmp_path / "little-drift")
    assert found.front().objectives == ("error_percent", "latency_ms", "drift_percent")
    points, example = found.evaluations(), toy.space.load_task().example()
    for point in points:
        network = toy.space.supernet().extract(point.architecture).eval()
        network.load_state_dict(found.weights(point.id))
        with torch.no_grad():
            before, after = network(example), network(example + 0.1)
        drift = 100 * (after - before).norm() / before.norm()
        assert point.objectives["drift_percent"] == pytest.approx(drift.item(), rel=1e-4)
        assert point.reported["drift_outputs"] == 10
    within = {p.id for p in points if p.objectives["drift_percent"] <= 28}
    assert {point.id for point in found.front()} <= within < {point.id for point in points}


def test_the_example_counts_operations(supernet, example, monkeypatch):
    (code,) = re.findall(r"```python run my_objective.py\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = types.ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    exec(compile(code, str(PAGE), "exec"), module.__dict__)
    task = types.SimpleNamespace(example=lambda: example)
    space = types.SimpleNamespace(supernet=lambda: supernet, load_task=lambda: task)
    operations = module.operations(space)
    assert isinstance(operations, DifferentiableObjective)
    for architecture in every(supernet.choices):
        recording = record(supernet.extract(architecture), example)
        assert operations.exact(architecture) == len(recording.ops) - 1  # the input is no operation
