"""Tables from the nodes of whole ONNX files: each node belongs to the part that it comes from."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas.devices.onnx_session import OnnxRuntime, exported, node_times
from paretonas.nn import Depth, OneOf, Supernet
from paretonas.objectives import CostTable, Latency, profile
from paretonas.objectives import node_times as nodes
from paretonas.objectives.node_times import _by_place, _module, places, times_in_networks
from paretonas.objectives.parts import NetworkTrace, observer, part_paths
from paretonas.space import every


class Blocks(nn.Module):
    """A choice inside a list, one inside a dict, a depth, and an addition in the own code."""

    def __init__(self) -> None:
        super().__init__()
        large = nn.Sequential(nn.Conv2d(8, 8, 5, padding=2), nn.ReLU())
        self.ops = nn.ModuleList([OneOf({"skip": nn.Identity(), "conv": large})])
        self.named = nn.ModuleDict({"head": nn.Linear(8, 3)})
        self.deep = Depth([nn.Conv2d(8, 8, 1) for _ in range(2)], at_least=1)

    def forward(self, x):
        y = self.deep(self.ops[0](x) + x)
        return self.named["head"](y.mean((2, 3)))


@pytest.fixture
def built():
    torch.manual_seed(0)
    return Supernet(Blocks()), torch.randn(1, 8, 24, 24)


def test_modules_of_nodes():
    modules = dict.fromkeys(
        ["", "early", "early.0", "early.0.branch", "early.0.branch.2", "dict", "dict.norm"]
    )
    for node, module in {
        "/early/early.0/branch/branch.2/Relu_output_0_nchwc": "early.0.branch.2",
        "/early/early.0/Add": "early.0",
        "/Flatten": "",
        "/norm/Mul": "dict.norm",
        "/network/norm/Mul": "dict.norm",
        "/early_1/early.0_2/branch/Add": "early.0.branch",  # modules that are called again
    }.items():
        assert _module(node, modules) == module


def test_every_operation_of_every_architecture_gets_a_time(built):
    supernet, x = built
    observe = observer(supernet, x)
    wanted = {
        run: architecture
        for architecture in every(supernet.choices)
        for run in places(observe(architecture)).values()
    }
    runner = OnnxRuntime(torch.device("cpu"), 1)
    times, loads = times_in_networks(runner, supernet, x, wanted, progress=lambda share: None)
    identity = {run for run in wanted if not run}
    assert wanted.keys() - identity <= times.keys()
    assert all(value >= 0 for value in times.values())
    assert len(loads) < len(list(every(supernet.choices)))


def test_what_is_large_costs_more_in_the_table(built, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(nodes, "RUNS", 20)
    supernet, x = built
    latency = Latency.profile(supernet, x, backend="onnxruntime")
    cost = {tuple(a.values()): latency.exact(a) for a in every(supernet.choices)}
    picks = [choice.options for choice in supernet.choices]
    assert len(cost) == len(picks[0]) * len(picks[1])
    for (op, depth), value in cost.items():
        if op == "skip":
            assert cost["conv", depth] > value
    assert latency.table.about["backend"] == "onnxruntime"
    again = profile(supernet, x, backend="onnxruntime")  # from the cache
    assert again.about == latency.table.about
    (file,) = (tmp_path / "paretonas").glob("latency-*.json")
    file.write_text(file.read_text()[:600])
    assert "backend" in profile(supernet, x, backend="onnxruntime").about
    assert CostTable.read(file, supernet.choices).about["backend"] == "onnxruntime"
    (network,) = [supernet.extract(next(every(supernet.choices)))]
    told = latency.measure(network, x)
    assert told["latency_backend"] == "onnxruntime"
    assert told["latency_ms"] > 0


class Fused(nn.Module):
    """ONNX Runtime fuses each convolution and linear layer with what follows it here."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (self.choice() for _ in range(3))
        self.linear = OneOf({"one": nn.Linear(8, 8), "two": self.deep(nn.Linear(8, 8))})
        self.again = nn.Conv2d(8, 8, 1)
        self.shared = self.again
        self.last = self.choice()

    def choice(self) -> OneOf:
        return OneOf({"one": nn.Conv2d(8, 8, 1), "two": self.deep(nn.Conv2d(8, 8, 3, padding=1))})

    def deep(self, layer: nn.Module) -> nn.Module:
        return nn.Sequential(layer, nn.Sigmoid())

    def forward(self, x):
        x = functional.relu(self.one(x))
        x = functional.relu(self.two(x) + self.three(x))
        x = x * functional.relu(self.linear(x.mean((2, 3))))[..., None, None]
        return self.last(self.shared(self.again(self.again(x))))


def test_what_is_fused_belongs_to_the_layer_that_does_the_work():
    torch.manual_seed(0)
    supernet, x = Supernet(Fused()), torch.randn(1, 8, 12, 12)
    observe, paths = observer(supernet, x), frozenset(part_paths(supernet.network))
    runner = OnnxRuntime(torch.device("cpu"), 1)
    layers = {"one": 1, "two": 1, "three": 1, "linear": 1, "again": 3, "last": 1}
    for option in ("one", "two"):
        picks = dict.fromkeys(("one", "two", "three", "linear", "last"), option)
        run = NetworkTrace.of(supernet, observe(picks).architecture, x, paths)
        model, inputs = exported(run.network, x)
        (times,) = node_times(runner, model, inputs, [lambda: None])
        layer = {node: node.endswith(("/Conv", "/Gemm")) for node in times}
        found = _by_place(run, {node: float(own) for node, own in layer.items()})
        assert {place: sum(own) for place, own in found.items() if sum(own)} == layers


def test_gaps_are_filled_by_main_effects():
    from paretonas.objectives.profile import _main_effects

    known = {(i, j): 2.0**i * 3.0**j for i in range(3) for j in range(3) if (i, j) != (2, 2)}
    assert _main_effects(known)((2, 2)) == pytest.approx(4 * 9, rel=0.02)
    assert _main_effects({})((0, 0)) == 0.0
