"""Backends: what runs is the network, on pinned threads; and what cannot run is named."""

import sys

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas._slow_export import SlowExportWarning
from paretonas.devices import BACKENDS, default_backend, find_backend, measure_latency
from paretonas.devices import backend as backends
from paretonas.devices.backend import _with_code_of_its_own
from paretonas.devices.onnx_session import NotInOnnxError, exported
from paretonas.export import onnx_file
from paretonas.export.onnx_file import session_of


class Nested(nn.Module):
    """Arguments by name, a number among them, and a dict of outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.rest = nn.ModuleDict({"norm": nn.BatchNorm1d(3)})

    def forward(self, x, *, scale, power=2):
        hidden = self.rest["norm"](self.layer(x))
        return {"sum": hidden + scale, "power": hidden**power}


def nested():
    torch.manual_seed(0)
    network = Nested()
    network(torch.randn(8, 4), scale=torch.ones(1))  # statistics
    return network, {"x": torch.randn(2, 4), "scale": torch.randn(1), "power": 3}


@pytest.mark.parametrize("name", ["torch", "onnxruntime"])
def test_what_runs_is_the_network_in_evaluation_mode(name):
    network, example = nested()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    load = find_backend(name).loading(network, example)
    expected = network.eval()(**example)
    network.train()
    for call in (load(), load()):
        found = call()
        found = list(found.values()) if isinstance(found, dict) else map(torch.as_tensor, found)
        for one, other in zip(found, expected.values(), strict=True):
            assert torch.allclose(one, other, atol=1e-6)
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_the_nodes_tell_their_module():
    network, _ = nested()
    model, inputs = exported(network, {"x": torch.randn(2, 4), "scale": torch.randn(2, 1)})
    names = {node.name for node in __import__("onnx").load_from_string(model).graph.node}
    assert any(name.startswith("/network/layer/") for name in names)
    assert len(session_of(model).run(None, inputs)) == 2


def test_every_network_is_compiled_by_itself():
    first, other = (_with_code_of_its_own(nn.Linear(2, 2)) for _ in range(2))
    assert first.__code__ is not other.__code__
    network = nn.Linear(2, 2)
    assert torch.equal(_with_code_of_its_own(network)(torch.ones(2)), network(torch.ones(2)))


class Unusual(nn.Module):
    """An operation that the quick exporter does not know."""

    def forward(self, x):
        return functional.scaled_dot_product_attention(x, x, x) + torch.logaddexp(x, -x)


def test_what_the_quick_exporter_cannot_do_the_other_one_does():
    x = torch.randn(1, 2, 4, 8)
    onnx_file._tell_slow.cache_clear()
    with pytest.warns(
        SlowExportWarning, match="quick ONNX exporter cannot write aten::logaddexp; "
    ):
        model, inputs = exported(Unusual(), x)
    (found,) = session_of(model).run(None, inputs)
    assert torch.allclose(torch.from_numpy(found), Unusual()(x), atol=1e-4)


class Impossible(nn.Module):
    """An operation that ONNX has not."""

    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_what_onnx_cannot_hold_is_one_line_that_names_the_operation(capfd):
    with pytest.raises(NotInOnnxError, match=r"no operation for aten\.linalg_eig") as found:
        exported(Impossible(), torch.eye(3)[None])
    assert 'use --backend torch, in Python backend="torch"' in str(found.value)
    assert "another format" not in str(found.value)  # which is for an export
    assert "\n" not in str(found.value)
    assert capfd.readouterr() == ("", "")


def test_bad_backends_are_refused():
    with pytest.raises(ValueError, match="must be one of .*, got 'onnxrt'; did you mean"):
        find_backend("onnxrt")
    with pytest.raises(ValueError, match="cuda-graphs needs the device cuda"):
        find_backend("cuda-graphs")
    with pytest.raises(ValueError, match="runs on the CPU"):
        find_backend("onnxruntime", torch.device("cuda"))


def test_the_default_is_what_is_exported(monkeypatch):
    monkeypatch.setattr(backends, "PREFERRED", "onnxruntime")
    assert default_backend(torch.device("cpu")) == "onnxruntime"
    assert default_backend(torch.device("cuda")) == "torch"
    assert find_backend().name == "onnxruntime"
    with pytest.raises(NotInOnnxError, match='backend="torch"'):
        measure_latency(Impossible(), torch.eye(3)[None], seconds=0.01)
    monkeypatch.setattr("paretonas.export.packages.find_spec", lambda name: None)
    assert default_backend(torch.device("cpu")) == "torch"


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'paretonas\[onnx\]'"):
        find_backend("onnxruntime")


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(BACKENDS.keys() - {"onnxruntime"}))
def test_backends_run_on_cuda(name):
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
    call = find_backend(name, "cuda").loading(network, torch.randn(1, 3, 16, 16))()
    call()
    torch.cuda.synchronize()
