"""An exported file runs alone and says the same; on failure nothing is left behind."""

import copy
import json
import logging
import os
import sys
from random import Random

import networkx as nx
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from torch import nn

from paretonas.data import split
from paretonas.export import FORMATS, export
from paretonas.export.exported import difference
from paretonas.front import Point
from paretonas.space import draw
from paretonas.tasks import Classification
from search_spaces import transformer

EXPORTER = logging.getLogger("torch.onnx._internal.exporter._registration")
POINT = Point(
    {"op": "conv3", "width": "8"},
    {"error_percent": 2.5, "latency_ms": 1 / 3},
    {"parameters": 99},
    id="a07",
)
PLAN = {
    "format": 1,
    "id": "a07",
    "architecture": {"op": "conv3", "width": "8"},
    "objectives": {"error_percent": 2.5, "latency_ms": 1 / 3},
    "reported": {"parameters": 99},
    "space": "toy",
    "input_shape": [1, 8, 8],
}


class Network(nn.Module):
    """A little of everything: depthwise, dilated, pooled, skipped, normalized, dropped out."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.deep = nn.Sequential(
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=8), nn.Conv2d(8, 8, 1), nn.ReLU()
        )
        self.pool = nn.AvgPool2d(3, stride=1, padding=1)
        self.head = nn.Sequential(
            nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(8, 10),
        )

    def forward(self, x):
        x = self.stem(x)
        return self.head(x + self.deep(x) + self.pool(x))


@pytest.fixture(scope="module")
def images():
    return torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network(images):
    torch.manual_seed(0)
    made = Network()
    for _ in range(3):
        made(images * 3)  # so that the batch norms have seen something
    return made


@pytest.fixture(scope="module")
def said():
    """What the logger records that has something to say about torchvision at every export."""
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    before = EXPORTER.level
    EXPORTER.setLevel(logging.WARNING)
    EXPORTER.addHandler(handler)
    yield records
    EXPORTER.removeHandler(handler)
    EXPORTER.setLevel(before)


@pytest.fixture(scope="module")
def written(network, images, said, tmp_path_factory):
    """Each runnable format once, since an export takes seconds."""
    folder = tmp_path_factory.mktemp("export")
    return {
        format: export(
            network, POINT, images[:1], format, folder / name, images=images, space="toy"
        )
        for format, name in [("torch", "a.pt2"), ("onnx", "a.onnx"), ("safetensors", "a.st")]
    }


def outputs(network, images):
    with torch.no_grad():
        return copy.deepcopy(network).eval()(images)


def test_the_network_stays_as_it_was(network, written):
    assert network.training


@pytest.mark.parametrize("batch", [1, 2, 7, 20])
def test_the_torch_program_gives_the_same_for_any_batch(network, written, images, batch):
    loaded = torch.export.load(written["torch"].path).module()
    inputs = images.repeat(3, 1, 1, 1)[:batch]
    assert torch.equal(loaded(inputs), outputs(network, inputs))
    assert written["torch"].max_difference == 0.0


@pytest.mark.parametrize("batch", [1, 2, 7, 20])
def test_the_onnx_file_gives_the_same_for_any_batch(network, written, images, batch):
    session = onnxruntime.InferenceSession(written["onnx"].path)
    inputs = images.repeat(3, 1, 1, 1)[:batch]
    (logits,) = session.run(["logits"], {"images": inputs.numpy()})
    np.testing.assert_allclose(logits, outputs(network, inputs).numpy(), atol=1e-5)
    assert 0.0 <= written["onnx"].max_difference < 1e-5


def test_the_onnx_file_holds_no_lines_of_anybodys_code(written):
    content = written["onnx"].path.read_bytes()
    assert b"def forward" not in content and __file__.encode() not in content
    assert b"return self.head" not in content


def test_layers_with_different_numbers_of_heads_share_no_dimension(tmp_path):
    """Sizes that torch does not know are no names: ONNX Runtime takes equal names for equal."""

    supernet = transformer.space.supernet()
    architecture = draw(supernet.choices, Random(0))  # 2, 4 and 3 heads
    network, images = supernet.extract(architecture), transformer.space.load_task().example()
    exported = export(network, POINT, images, "onnx", tmp_path / "net.onnx")
    assert exported.max_difference < 1e-5


def test_the_weights_fit_a_new_network(network, written, images):
    other = Network()
    other.load_state_dict(safetensors.torch.load_file(written["safetensors"].path))
    assert torch.equal(outputs(other, images), outputs(network, images))
    (plan,) = written["safetensors"].beside
    assert plan == written["safetensors"].path.with_suffix(".json")
    assert json.loads(plan.read_text()) == PLAN


def test_every_model_file_carries_its_architecture(written):
    files = {"architecture.json": ""}
    torch.export.load(written["torch"].path, extra_files=files)
    model = onnx.load(written["onnx"].path)
    with safe_open(written["safetensors"].path, "pt") as tensors:
        texts = [
            files["architecture.json"],
            {entry.key: entry.value for entry in model.metadata_props}["architecture"],
            tensors.metadata()["architecture"],
        ]
    assert [json.loads(text) for text in texts] == [PLAN] * 3
    onnx.checker.check_model(model)


def test_sizes_are_those_of_the_files_and_nothing_else_is_left(written):
    for result in written.values():
        assert result.bytes == os.path.getsize(result.path) > 0
    left = sorted(os.listdir(written["torch"].path.parent))
    assert left == ["a.json", "a.onnx", "a.pt2", "a.st"]


def test_the_architecture_alone(network, images, tmp_path):
    result = export(network, POINT, images, "json", tmp_path / "new" / "plan.json")
    plan = {key: value for key, value in PLAN.items() if key not in ("space", "input_shape")}
    assert json.loads(result.path.read_text()) == plan
    assert result.max_difference is None


def test_graphml_brings_back_the_graph_with_plain_attributes(network, images, tmp_path):
    graph = nx.DiGraph(name="tiny")
    graph.add_node("in", shape=(1, 8, 8), bytes=np.int64(256), live=True, note=None)
    graph.add_node("conv <3>", shape=[8, 8, 8], macs=1.5, kind=nn.Conv2d)
    graph.add_edge("in", "conv <3>", shape=torch.Size([1, 8, 8]))
    before = copy.deepcopy(graph.nodes(data=True))
    result = export(network, POINT, images, "graphml", tmp_path / "a.graphml", graph=graph)
    back = nx.read_graphml(result.path)
    assert dict(back.nodes(data=True)) == {
        "in": {"shape": "1x8x8", "bytes": 256, "live": True},
        "conv <3>": {"shape": "8x8x8", "macs": 1.5, "kind": str(nn.Conv2d)},
    }
    assert list(back.edges(data="shape")) == [("in", "conv <3>", "1x8x8")]
    assert dict(graph.nodes(data=True)) == dict(before)


class TestRefusals:
    def test_an_unknown_format(self, network, images, tmp_path):
        with pytest.raises(ValueError, match="unknown format 'onxn'; did you mean 'onnx'?"):
            export(network, POINT, images, "onxn", tmp_path / "a")
        assert not list(tmp_path.iterdir())

    def test_an_example_without_a_batch(self, network, tmp_path):
        for shape in [(8,), (0, 1, 8, 8)]:
            with pytest.raises(ValueError, match="needs a batch of inputs"):
                export(network, POINT, torch.zeros(shape), "torch", tmp_path / "a.pt2")

    def test_images_of_another_shape(self, network, images, tmp_path):
        with pytest.raises(ValueError, match=r"example's shape \(1, 8, 8\), got \(1, 9, 9\)"):
            export(network, POINT, images, "onnx", tmp_path / "a", images=torch.zeros(2, 1, 9, 9))

    def test_graphml_without_a_graph(self, network, images, tmp_path):
        with pytest.raises(ValueError, match="graphml needs the graph"):
            export(network, POINT, images, "graphml", tmp_path / "a.graphml")

    def test_weights_and_architecture_in_one_file(self, network, images, tmp_path):
        with pytest.raises(ValueError, match="both weights and architecture"):
            export(network, POINT, images, "safetensors", tmp_path / "a.json")

    def test_a_place_that_cannot_be_written(self, network, images, tmp_path):
        (tmp_path / "file").write_text("")
        for format in ("json", "safetensors"):
            with pytest.raises(ValueError, match="cannot write"):
                export(network, POINT, images, format, tmp_path / "file" / "a")

    @pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
    def test_onnx_without_its_packages(self, network, images, tmp_path, monkeypatch, missing):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'paretonas\[onnx\]'"):
            export(network, POINT, images, "onnx", tmp_path / "a.onnx")


class TestFailure:
    def test_a_program_that_says_something_else_is_not_kept(
        self, network, images, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.pt2"
        path.write_text("the old file")
        other = copy.deepcopy(network).eval()
        nn.init.constant_(other.head[-1].bias, 5.0)
        right = torch.export.export(other, (images[:1],))
        monkeypatch.setattr("paretonas.export.program.program", lambda *_: right)
        with pytest.raises(RuntimeError, match=r"a.pt2 does not give the network's outputs: they"):
            export(network, POINT, images[:1], "torch", path)
        assert path.read_text() == "the old file"
        assert list(tmp_path.iterdir()) == [path]

    def test_weights_leave_neither_file_behind(self, network, images, tmp_path, monkeypatch):
        def fail(*args, **kwargs):
            raise OSError("disk full")

        monkeypatch.setattr("safetensors.torch.save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            export(network, POINT, images, "safetensors", tmp_path / "a.safetensors")
        assert not list(tmp_path.iterdir())

    def test_difference_refuses_nan_and_other_shapes(self):
        ones = torch.ones(2, 3)
        assert difference(ones, ones + 1e-6, "file") == pytest.approx(1e-6, rel=0.1)
        assert difference(ones * 1e6, ones * 1e6 + 1, "file") == 1.0
        for other in (ones + 1e-3, ones * torch.nan):
            with pytest.raises(RuntimeError, match="file does not give"):
                difference(ones, other, "file")
        with pytest.raises(RuntimeError, match=r"of shape \(3,\), the network of shape \(2, 3\)"):
            difference(ones, ones[0], "file")

    def test_equal_infinities_do_not_differ_and_hide_no_difference(self):
        masked = torch.tensor([[1.0, -torch.inf, torch.inf]])
        assert difference(masked, masked, "file") == 0
        assert difference(masked[:, 1:], masked[:, 1:], "file") == 0
        assert difference(masked, masked + torch.tensor([1e-6, 0, 0]), "file") > 0
        with pytest.raises(RuntimeError, match="differ by 1, rounding explains only 0.0001"):
            difference(masked, masked + torch.tensor([1.0, 0, 0]), "file")
        for other in (-masked, torch.ones(1, 3), torch.tensor([[1.0, torch.nan, torch.inf]])):
            with pytest.raises(RuntimeError, match="where the network gives -inf"):
                difference(masked, other, "file")
            with pytest.raises(RuntimeError, match="file"):
                difference(other, masked, "file")
        nan = torch.tensor([[0.0, torch.nan]])
        with pytest.raises(RuntimeError, match="the network gives NaN in 1 of 2 outputs"):
            difference(nan, nan, "file")


def test_onnx_is_quiet_and_leaves_the_logger_as_it_was(written, said):
    assert [record.getMessage() for record in said] == []
    assert EXPORTER.level == logging.WARNING


def test_the_list_of_formats_is_the_contract():
    assert set(FORMATS) == {"onnx", "onnx-int8", "torch", "json", "graphml", "safetensors"}


def test_the_type_that_is_told_is_that_of_the_network(network, images, tmp_path):
    """Whoever reads the file feeds it, and knows nothing of the data that it was trained on."""
    data = split(images.double(), torch.arange(len(images)) % 2, valid=1, test=1)
    task = Classification.of(data)
    path = tmp_path / "net.onnx"
    export(network, POINT, images[:1], "onnx", path, task=task)
    session = onnxruntime.InferenceSession(path)
    told = json.loads(session.get_modelmeta().custom_metadata_map["preprocessing"])
    assert told["training_inputs"]["dtype"] == "float32"
    assert session.get_inputs()[0].type == "tensor(float)"


class Classified(nn.Module):
    """With a token of its own, expanded to the batch as many people write it."""

    def __init__(self, count):
        super().__init__()
        self.token, self.head = nn.Parameter(torch.zeros(1, 64)), nn.Linear(64, 10)
        self.count = count

    def forward(self, x):
        return self.head(x.flatten(1) + self.token.expand(self.count(x), -1))


@pytest.mark.parametrize("format", ["torch", "onnx"])
def test_a_network_that_fixes_its_batch_is_told_how_not_to(images, tmp_path, format):
    path = tmp_path / "net"
    with pytest.raises(ValueError, match=r"number of examples, as len\(x\).* write x.shape\[0\]"):
        export(Classified(len), POINT, images[:1], format, path)
    assert not list(tmp_path.iterdir())
    export(Classified(lambda x: x.shape[0]), POINT, images[:1], format, path)
