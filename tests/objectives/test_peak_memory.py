"""The peak of allocated memory: the profiler's own total, and numbers by hand."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from paretonas.objectives import Memory, PeakMemory
from paretonas.objectives.conformance import check_objective
from paretonas.objectives.peak_memory import allocated
from paretonas.space import every


def by_the_profiler(network, example, tmp_path) -> int:
    """The highest total in the trace that the profiler writes, above the total at the beginning."""
    network.eval()
    with torch.no_grad():
        network(example)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
            output = network(example)
    seen.export_chrome_trace(str(tmp_path / "trace.json"))
    trace = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    events = sorted((e for e in trace if e["name"] == "[memory]"), key=lambda e: e["ts"])
    totals = [event["args"]["Total Allocated"] for event in events]
    before = totals[0] - events[0]["args"]["Bytes"]
    del output
    held = [*network.parameters(), *network.buffers(), example]
    return max(totals) - before + sum(t.numel() * t.element_size() for t in held)


def test_the_table_and_the_measurement_are_the_profilers_peak(supernet, example, tmp_path):
    objective = PeakMemory.of(supernet, example)
    for architecture in list(every(supernet.choices))[::3]:
        network = supernet.extract(architecture)
        expected = by_the_profiler(network, example, tmp_path) / 1024
        assert objective.measure(network, example) == pytest.approx(expected, rel=1e-6)
        assert objective.exact(architecture) == pytest.approx(expected, rel=0.01)
    assert objective.column == "peak_memory_kib"


def test_it_is_an_objective(supernet, example):
    class Space:
        name, choices = "small", supernet.choices

    check_objective(PeakMemory.of(supernet, example), Space, architectures=8)


def test_a_chain_of_linear_layers_by_hand():
    """In a sequence the input of a layer lives until its output is there."""
    chain = nn.Sequential(nn.Linear(100, 1000), nn.Linear(1000, 50))
    found = allocated(chain, torch.zeros(1, 100))
    assert found[""][0] == found["0"][0] == 400
    assert found["0"][1] == found["1"][0] == 400 + 4000
    assert found["1"][1] == 400 + 4000 + 200


def test_it_is_more_than_a_runtime_needs_that_plans_ahead():
    """Python keeps the input of a block, and kernels take their own."""
    inner = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    network, images = nn.Sequential(inner, nn.Conv2d(8, 1, 1)), torch.zeros(1, 1, 32, 32)
    planned = 4 * 32 * 32 * (1 + 8 + 8)  # the input and two results
    assert max(peak for _, peak in allocated(network, images).values()) >= planned


def test_the_network_stays_as_it_is(supernet, example):
    network = supernet.extract(next(iter(every(supernet.choices)))).train()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    hooks = [len(module._forward_hooks) for module in network.modules()]
    assert Memory.of(supernet, example).measure(network, example) <= PeakMemory.of(
        supernet, example
    ).measure(network, example)
    assert all(module.training for module in network.modules())
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert hooks == [len(module._forward_hooks) for module in network.modules()]


IN_A_NEW_PROCESS = """
import os, torch
from torch import nn
from paretonas.objectives.peak_memory import allocated
before = dict(os.environ)
allocated(nn.Linear(2, 2), torch.ones(1, 2))
assert dict(os.environ) == before
"""


@pytest.mark.parametrize("level", [None, "1"])
def test_the_environment_stays_as_it_is(monkeypatch, level):
    monkeypatch.delenv("KINETO_LOG_LEVEL", raising=False)
    if level:
        monkeypatch.setenv("KINETO_LOG_LEVEL", level)
    # A new process, since the profiler reads its level once.
    command = [sys.executable, "-c", IN_A_NEW_PROCESS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert level or not done.stderr  # the profiler is silent
