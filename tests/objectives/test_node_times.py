"""Tables from the nodes of whole ONNX files: each node belongs to the part that it comes from."""

import importlib
import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn
from torch.nn import functional

from paretonas._slow_export import SlowExportWarning
from paretonas.devices import onnx_session
from paretonas.devices.onnx_session import OnnxRuntime, exported, node_times
from paretonas.export import onnx_file
from paretonas.nn import Depth, OneOf, Supernet
from paretonas.objectives import CostTable, Latency, calibration, profile
from paretonas.objectives import node_times as nodes
from paretonas.objectives.node_times import (
    LEAST,
    InNetwork,
    _by_place,
    _module,
    places,
    times_in_networks,
    times_of_places,
)
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
        "/early.0.branch.2/Relu_1": "early.0.branch.2",
        "/early_1/early.0_2/branch/Add": "early.0.branch",  # modules that are called again
    }.items():
        assert _module(node, modules) == module


def test_a_network_whose_nodes_tell_no_module_spoils_nothing(built):
    supernet, x = built
    one, other, *_ = every(supernet.choices)
    told = InNetwork([("/deep/0/Conv", 3e-3), ("/named/head/Gemm", 1e-3)], 4e-3)
    silent = InNetwork([("node_conv2d", 4e-3)], 4e-3)
    found = times_of_places(supernet, x, {one: told})
    assert max(found.values()) == pytest.approx(3.0)
    assert times_of_places(supernet, x, {one: told, other: silent}) == found
    assert times_of_places(supernet, x, {other: silent}) == {}


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


class Layered(nn.Module):
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
    supernet, x = Supernet(Layered()), torch.randn(1, 8, 12, 12)
    observe, paths = observer(supernet, x), frozenset(part_paths(supernet.network))
    runner = OnnxRuntime(torch.device("cpu"), 1)
    layers = {"one": 1, "two": 1, "three": 1, "linear": 1, "again": 3, "last": 1}
    for option in ("one", "two"):
        picks = dict.fromkeys(("one", "two", "three", "linear", "last"), option)
        run = NetworkTrace.of(supernet, observe(picks).architecture, x, paths)
        model, inputs = exported(run.network, x)
        origins = node_times(runner, model, inputs, [lambda: None]).origins.values()
        found = _by_place(
            run, [(node, float(node.endswith(("/Conv", "/Gemm")))) for node in origins]
        )
        assert {place: sum(own) for place, own in found.items() if sum(own)} == layers


def test_gaps_are_filled_by_main_effects():
    from paretonas.objectives.timing_plan import _main_effects

    known = {(i, j): 2.0**i * 3.0**j for i in range(3) for j in range(3) if (i, j) != (2, 2)}
    assert _main_effects(known)((2, 2)) == pytest.approx(4 * 9, rel=0.02)
    assert _main_effects({})((0, 0)) == 0.0


def conv(kernel, channels=16):
    return nn.Conv2d(channels, channels, kernel, padding=kernel // 2)


class Fused(nn.Module):
    """Choices of kernels, each before an activation of another place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3)
        self.one = OneOf({"k3": conv(3), "k9": conv(9)})
        self.other = OneOf({"k3": conv(3), "k9": conv(9)})
        self.act = nn.ReLU()

    def forward(self, x):
        x = torch.relu(self.one(self.stem(x)))
        return self.act(self.other(x)).mean((2, 3))


def test_what_a_kernel_takes_is_told_though_an_activation_is_fused_to_it(monkeypatch):
    monkeypatch.setattr(calibration, "FEW", 0)  # as in a space that is too large to measure all
    torch.manual_seed(0)
    supernet, x = Supernet(Fused()), torch.randn(1, 16, 64, 64)
    table = profile(supernet, x, backend="onnxruntime", cache=False)
    for name in ("one", "other"):
        (slot,) = [slot for slot in table.slots if slot.name == name]
        small, large = slot.values.tolist()
        assert large > 3 * small  # it has 9 times the operations


class Unusual(nn.Module):
    """Only torch's slow exporter can write what is around the choice."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OneOf({"k3": conv(3), "k9": conv(9)})

    def forward(self, x):
        return self.one(torch.logaddexp(x, -x)).mean((2, 3))


@pytest.mark.deep
def test_a_table_of_networks_that_are_written_slowly_is_as_fine(monkeypatch):
    monkeypatch.setattr(calibration, "FEW", 0)  # as in a space that is too large to measure all
    onnx_file._tell_slow.cache_clear()
    torch.manual_seed(0)
    supernet, x = Supernet(Unusual()), torch.randn(1, 16, 64, 64)
    with pytest.warns(SlowExportWarning) as told:
        table = profile(supernet, x, backend="onnxruntime", cache=False)
    assert [each.category for each in told] == [SlowExportWarning]
    (slot,) = [slot for slot in table.slots if slot.name == "one"]
    small, large = slot.values.tolist()
    assert large > 3 * small  # it has 9 times the operations


@pytest.mark.parametrize("seed", range(3))
def test_the_table_tells_networks_from_noisy_nodes(seed, monkeypatch):
    """Times of nodes as ONNX Runtime fuses them, but each by its kernel, with noise."""
    module, rng = (
        importlib.import_module("paretonas.objectives.profile"),
        np.random.default_rng(seed),
    )
    kernels = {"k3": 0.3, "k9": 2.7}
    before = nodes._nodes

    def noisy(value):
        return value * float(np.exp(0.1 * rng.normal()))

    def fake(backend, model, *rest):
        found, _ = before(backend, model, *rest)
        convs = {n.name: n for n in onnx.load_from_string(model).graph.node if n.op_type == "Conv"}
        side = {
            name: next(a.ints[0] for a in conv.attribute if a.name == "kernel_shape")
            for name, conv in convs.items()
        }
        told = [(name, noisy(side[name] ** 2 / 3e4 if name in side else 1e-5)) for name, _ in found]
        return told, sum(seconds for _, seconds in told)

    def timed(*_, **__):
        own = [noisy(0.35 + kernels[a["one"]] + kernels[a["other"]]) for a in architectures]
        return calibration.Timed(architectures, np.array(own), len(architectures))

    supernet, x = Supernet(Fused()), torch.randn(1, 16, 8, 8)
    architectures = [supernet.canonical(a) for a in every(supernet.choices)]
    monkeypatch.setattr(nodes, "_nodes", fake)
    monkeypatch.setattr(module, "timed", timed)
    # Real times of parts are no rivals of made-up ones.
    monkeypatch.setattr(module, "_predicts_badly", lambda _: False)
    table = profile(supernet, x, backend="onnxruntime", cache=False)
    for a in architectures:
        truth = 0.35 + kernels[a["one"]] + kernels[a["other"]]
        assert table.total_at(a) == pytest.approx(truth, rel=0.35)
    assert table.about["parts"] == "nodes"


class TestOneNetwork:
    """The nodes of one network, whose profile is written by hand or by ONNX Runtime."""

    @pytest.fixture
    def runner(self):
        return OnnxRuntime(torch.device("cpu"), 1)

    def test_a_fused_node_belongs_to_the_operation_of_its_kind(self, runner):
        network = Supernet(Fused()).extract({"one": "k9", "other": "k3"})
        model, inputs = exported(network, torch.randn(1, 16, 8, 8))
        origins = [*node_times(runner, model, inputs, [lambda: None]).origins.values()]
        for path in ("stem", "one", "other"):
            assert f"/{path}/Conv" in origins
        assert "/Relu" not in origins

    def test_the_kind_is_not_looked_for_in_nodes_that_run_themselves(self):
        """A sum and an activation fused to one of two convolutions; names of any form."""
        make = helper.make_node
        made = [
            make("Gemm", ["images"], ["x"], name="/first/Gemm"),
            make("Conv", ["x"], ["a"], name="/a/Conv"),
            make("Relu", ["a"], ["r"], name="/Relu"),
            make("Conv", ["r"], ["b"], name="/b/Conv"),
            make("Add", ["r", "b"], ["s"], name="/Add"),
            make("Relu", ["s"], ["/Relu_1_output_0"], name="/Relu_1"),
            make("MatMul", ["/Relu_1_output_0"], ["m"], name="/m/MatMul"),
            make("Add", ["m"], ["logits"], name="/m/Add"),
        ]
        model = helper.make_model(helper.make_graph(made, "g", [], [])).SerializeToString()
        kinds = {
            "/first/Gemm": "Gemm",
            "fused /Relu": "FusedConv",
            "/Relu_1_output_0_nchwc": "Conv",
            "/m/MatMul/MatMulAddFusion": "Gemm",
            "ReorderOutput": "ReorderOutput",
        }
        assert onnx_session._origins(model, kinds) == {
            "/first/Gemm": "/first/Gemm",
            "fused /Relu": "/a/Conv",
            "/Relu_1_output_0_nchwc": "/b/Conv",
            "/m/MatMul/MatMulAddFusion": "/m/MatMul",
            "ReorderOutput": "ReorderOutput",
        }

    def test_what_is_fused_away_takes_no_time_and_is_not_guessed(self, runner):
        supernet, x = Supernet(Fused()), torch.randn(1, 16, 8, 8)
        observe = observer(supernet, x)
        own = {a: places(observe(a)) for a in every(supernet.choices)}
        wanted = {run: a for a, runs in own.items() for run in runs.values()}
        times, _ = times_in_networks(runner, supernet, x, wanted, progress=lambda share: None)
        assert times.keys() == wanted.keys()
        (first, *_) = own.values()
        assert times[first["act"]] == pytest.approx(1e3 * LEAST)
        assert times[first["one"]] > 10 * 1e3 * LEAST

    def test_loops_run_their_nodes_more_often(self, runner):
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [
                helper.make_node("MatMul", ["y", "w"], ["z"], name="/a/MatMul"),
                helper.make_node("Identity", ["c"], ["d"]),
            ],
            "body",
            [
                value("i", TensorProto.INT64, []),
                value("c", TensorProto.BOOL, []),
                value("y", TensorProto.FLOAT, [200, 200]),
            ],
            [value("d", TensorProto.BOOL, []), value("z", TensorProto.FLOAT, [200, 200])],
        )
        graph = helper.make_graph(
            [helper.make_node("Loop", ["n", "t", "x"], ["out"], body=body, name="/a/Loop")],
            "graph",
            [value("x", TensorProto.FLOAT, [200, 200])],
            [value("out", TensorProto.FLOAT, [200, 200])],
            [
                helper.make_tensor("n", TensorProto.INT64, [], [3]),
                helper.make_tensor("t", TensorProto.BOOL, [], [True]),
                helper.make_tensor("w", TensorProto.FLOAT, [200, 200], np.ones(40000, "f")),
            ],
        )
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.checker.check_model(model)
        x = {"x": np.zeros((200, 200), "f")}
        times = node_times(runner, model.SerializeToString(), x, [lambda: None] * 2)
        assert {"/a/MatMul", "/a/Loop"} <= set(times.origins.values())
        assert all(own.shape == (2,) and (own >= 0).all() for own in times.seconds.values())

    def test_times_are_summed_in_each_run_without_what_is_inside(
        self, runner, monkeypatch, tmp_path
    ):
        def event(name, ts, dur, cat="Node"):
            return {"name": name, "ts": ts, "dur": dur, "cat": cat}

        written = [
            event("inner_kernel_time", 10, 20),
            event("inner_kernel_time", 40, 20),
            event("outer_kernel_time", 10, 90),
            event("model_run", 5, 100, "Session"),
            event("other_kernel_time", 210, 7),
            event("model_run", 205, 100, "Session"),
        ]

        class Session:
            def get_inputs(self):
                return []

            def run(self, *_):
                return None

            def end_profiling(self):
                (tmp_path / "profile").write_text(json.dumps(written))
                return str(tmp_path / "profile")

        monkeypatch.setattr(onnx_session, "session_of", lambda *_, **__: Session())
        empty = helper.make_model(helper.make_graph([], "g", [], [])).SerializeToString()
        seconds = node_times(runner, empty, {}, [lambda: None] * 2).seconds
        assert 1e6 * seconds["inner"] == pytest.approx([41, 0])
        assert 1e6 * seconds["outer"] == pytest.approx([49.5, 0])
        assert 1e6 * seconds["other"] == pytest.approx([0, 7.5])

    def test_fractions_of_microseconds_are_kept(self, runner, monkeypatch):
        steady = type("Steady", (), {"seconds": lambda self, *_: 1.0, "best": 1.0})()
        clock = type("Clock", (), {"seconds": lambda self, call: (1.0, False)})()
        seconds = {"n": np.array([1e-6, 2e-6] * 10), "m": np.array([2e-6, 1e-6] * 10)}
        seconds["m"][-6:] = 1e-3  # the thread was stopped
        told = onnx_session.NodeTimes(seconds, {"n": "/a/Add", "m": "/a/Mul"})
        monkeypatch.setattr(nodes, "RUNS", 20)

        def run(backend, model, inputs, runs):
            for after in runs:
                after()
            return told

        monkeypatch.setattr(nodes, "node_times", run)
        monkeypatch.setattr(runner, "opening", lambda *_: lambda: lambda: None)
        found, _ = nodes._nodes(runner, b"", {}, clock, steady)
        assert dict(found) == pytest.approx({"/a/Add": 1.5e-6, "/a/Mul": 1.5e-6})

    @pytest.mark.parametrize("error", [OSError("No space left on device"), MemoryError()])
    def test_a_full_disk_is_no_fault_of_the_network(self, error, monkeypatch):
        def full(*_):
            raise error

        monkeypatch.setattr("paretonas.export.draft.write_draft", full)
        with pytest.raises(type(error)):
            exported(conv(3), torch.randn(1, 16, 8, 8))

    def test_nodes_run_with_the_threads_of_the_backend(self, monkeypatch):
        seen = []
        before = nodes._nodes
        monkeypatch.setattr(
            nodes, "_nodes", lambda *args: seen.append(torch.get_num_threads()) or before(*args)
        )
        threads = torch.get_num_threads() + 1
        runner = OnnxRuntime(torch.device("cpu"), threads)
        supernet, x = Supernet(Fused()), torch.randn(1, 16, 8, 8)
        wanted = {("none",): supernet.canonical({"one": "k3", "other": "k3"})}
        times_in_networks(runner, supernet, x, wanted, progress=lambda share: None)
        assert set(seen) == {threads}


class TestWhichTableIsKept:
    """Tables of nodes and of parts alone, corrected with the same measured networks."""

    def profiled(self, monkeypatch, nodes_ms, alone_ms):
        """A profile whose parts take what these functions tell of their operations."""
        module = importlib.import_module("paretonas.objectives.profile")
        supernet, x = Supernet(Fused()), torch.randn(1, 16, 8, 8)
        measured = {"k3": 1.0, "k9": 4.0}
        architectures = [dict(a) for a in every(supernet.choices)]
        networks = calibration.Timed(
            [supernet.canonical(a) for a in architectures],
            np.array([measured[a["one"]] + measured[a["other"]] for a in architectures]),
            len(architectures),
        )
        timings = []
        monkeypatch.setattr(module, "timed", lambda *_, **__: timings.append(1) or networks)
        monkeypatch.setattr(
            module,
            "times_in_networks",
            lambda *args, **_: ({k: nodes_ms(k) for k in args[3]} if nodes_ms else {}, {}),
        )
        monkeypatch.setattr(
            module, "part_times", lambda *args, **_: {k: alone_ms(k) for k in args[2]}
        )
        table = profile(supernet, x, backend="onnxruntime", cache=False)
        assert len(timings) == 1
        return table.about["parts"]

    def right(self, run):
        return 1.0 if "9, 9" in str(run) else 0.25

    def wrong(self, run):
        return 0.25 if "9, 9" in str(run) else 1.0

    def test_a_good_table_of_nodes(self, monkeypatch):
        assert self.profiled(monkeypatch, self.right, self.wrong) == "nodes"

    def test_a_bad_table_of_nodes_gives_way_to_a_better_one(self, monkeypatch):
        assert self.profiled(monkeypatch, self.wrong, self.right) == "alone"

    def test_where_nodes_tell_no_module(self, monkeypatch):
        assert self.profiled(monkeypatch, None, self.right) == "alone"
