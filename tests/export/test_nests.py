"""Exported files of networks that take and give nests of tensors."""

import copy
import json
import re
from typing import NamedTuple

import networkx as nx
import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from paretonas.arguments import Arguments, call, tensors
from paretonas.export import export
from paretonas.export.architecture import preparation
from paretonas.export.exported import difference
from paretonas.export.inputs import Inputs, output_names, real_inputs
from paretonas.front import Point
from paretonas.graph import network_graph
from paretonas.nn import Stack

POINT = Point({"a": "b"}, {"error_percent": 1.0}, id="a01")


class Tagger(nn.Module):
    """Token ids and the state of an LSTM, whose examples are in the second dimension."""

    def __init__(self):
        super().__init__()
        self.embed, self.cell = nn.Embedding(9, 6), nn.LSTM(6, 4, 2, batch_first=True)

    def forward(self, ids, state):
        return self.cell(self.embed(ids), state)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, x, table, *, padding):
        y, _ = self.attention(x, x, x, key_padding_mask=padding, need_weights=False)
        return x + y + table


class Transformer(nn.Module):
    """Keyword arguments, one of them without a batch; a dict of outputs, an input among them."""

    def __init__(self):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(9, 6), Stack(Block(), Block())

    def forward(self, *, ids, padding, table, power):
        x = self.blocks(self.embed(ids), table, padding=padding) ** power
        return {"scores": x, "twice": [x, None], "ids": ids, "power": power}


class InPlace(nn.Module):
    """Two positional inputs, both changed in place, and a third one that is never read."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, *parts):
        image, row = parts[:2]
        return self.head(image.sub_(0.5).relu_().mean((2, 3)) * row.mul_(2))


class Alone(nn.Module):
    """One floating tensor, changed in place; two outputs with names."""

    class Output(NamedTuple):
        half: Tensor
        whole: Tensor

    def forward(self, x):
        x.sub_(x.mean())
        return self.Output(x / 2, x * 1.0)


def inputs(name, batch):
    torch.manual_seed(batch)
    ids = torch.randint(0, 9, (batch, 5))
    match name:
        case "tagger":
            return ids, (torch.rand(2, batch, 4), torch.rand(2, batch, 4))
        case "transformer":
            padding = torch.arange(5)[None] > torch.arange(batch)[:, None]
            table = torch.arange(6.0).repeat(1, 1)
            return Arguments(ids=ids, padding=padding, table=table, power=2)
        case "in place":
            return [torch.rand(batch, 3, 2, 2), torch.rand(batch, 3), torch.rand(batch)]
        case _:
            return torch.rand(batch, 3)


NETWORKS = {"tagger": Tagger, "transformer": Transformer, "in place": InPlace, "alone": Alone}
named = pytest.mark.parametrize("name", NETWORKS)


def network(name):
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def written(name, format, path, **settings):
    """Export, and check that the inputs handed in stay as they were."""
    example, images = inputs(name, 1), inputs(name, 6)
    before = copy.deepcopy(tensors([example, images]))
    result = export(network(name), POINT, example, format, path, images=images, **settings)
    assert all(map(torch.equal, tensors([example, images]), before))
    return result


@named
def test_the_program_is_called_like_the_network(name, tmp_path):
    result = written(name, "torch", tmp_path / "net.pt2")
    loaded = torch.export.load(result.path).module()
    for batch in (1, 2, 9):
        given = inputs(name, batch)
        before = copy.deepcopy(tensors(given))
        with torch.no_grad():
            found = call(loaded, given)
            expected = call(network(name), copy.deepcopy(given))
        if name == "alone":  # a file cannot hold the class of a named tuple
            expected = expected._asdict()
        difference(expected, found, "it")  # raises
        assert type(found) is type(expected)
        assert all(map(torch.equal, tensors(given), before)), "the program changes its inputs"


NAMES = {
    "tagger": (["ids", "state_0", "state_1"], ["output_0", "output_1_0", "output_1_1"]),
    "transformer": (["ids", "padding", "table"], ["scores", "twice_0", "output_ids"]),
    "in place": (["parts_0", "parts_1", "parts_2"], ["logits"]),
    "alone": (["images"], ["half", "whole"]),
}


@named
def test_the_onnx_file_has_the_names_of_the_arguments_and_keys(name, tmp_path):
    result = written(name, "onnx", tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(result.path)
    names, results = NAMES[name]
    assert [each.name for each in session.get_inputs()] == names
    assert [each.name for each in session.get_outputs()] == results
    for batch in (1, 2, 9):
        given = inputs(name, batch)
        feed = {n: t.numpy().copy() for n, t in zip(names, tensors(given), strict=True)}
        found = session.run(None, feed)
        with torch.no_grad():
            expected = tensors(call(network(name), given))
        for a, b in zip(expected, found, strict=True):
            np.testing.assert_allclose(b, a.numpy(), atol=1e-5, rtol=1e-5)
    told = [*session.get_inputs(), *session.get_outputs()]
    for each, array in zip(told, [*feed.values(), *found], strict=True):
        assert each.shape == ["batch" if size == 9 else size for size in array.shape]
    inner = onnx.load(result.path).graph.value_info
    named = {dim.dim_param for value in inner for dim in value.type.tensor_type.shape.dim}
    assert not any(re.search(r"\bs\d+\b", name) for name in named)


@named
def test_weights_and_graph_are_written_as_for_other_networks(name, tmp_path):
    result = written(name, "safetensors", tmp_path / "net.safetensors")
    assert safetensors.torch.load_file(result.path).keys() == network(name).state_dict().keys()
    graph = network_graph(network(name), inputs(name, 1))
    result = written(name, "graphml", tmp_path / "net.graphml", graph=graph)
    assert len(nx.read_graphml(result.path)) == len(graph)


def test_the_inputs_are_told_by_name_type_and_shape(tmp_path):
    result = written("transformer", "safetensors", tmp_path / "net.safetensors")
    told = json.loads(result.beside[0].read_text())
    assert told["inputs"] == {
        "ids": {"dtype": "int64", "shape": ["batch", 5]},
        "padding": {"dtype": "bool", "shape": ["batch", 5]},
        "table": {"dtype": "float32", "shape": [1, 6]},
    }
    assert "input_shape" not in told


def test_integers_alone_are_told_in_both_ways(tmp_path):
    ids = torch.zeros(1, 5, dtype=torch.int32)
    result = export(nn.Embedding(3, 2), POINT, ids, "safetensors", tmp_path / "net.safetensors")
    told = json.loads(result.beside[0].read_text())
    assert told["input_shape"] == [5]
    assert told["inputs"] == {"input": {"dtype": "int32", "shape": ["batch", 5]}}


class TestBatchDimensions:
    def test_two_batches_tell_them_from_others(self):
        given = [(torch.zeros(4, 4), torch.zeros(n, 3), torch.zeros(4, n)) for n in (1, 4)]
        assert Inputs.of(*given).batch == (None, 0, 1)

    def test_one_batch_has_them_first(self):
        one = (torch.zeros(2, 2), torch.zeros(3, 2), torch.tensor(1.0))
        assert Inputs.of(one, one).batch == (0, None, None)

    @pytest.mark.parametrize(
        ("example", "images", "message"),
        [
            ((torch.zeros(1, 2),), (torch.zeros(3, 3),), r"shape \(2,\), got \(3,\)"),
            ((torch.zeros(1, 2),), (torch.zeros(3),), r"shape \(\(1, 2\)\), got \(\(3,\)\)"),
            ({"a": torch.zeros(1, 2)}, {"b": torch.zeros(1, 2)}, r"{a: \(1, 2\)}, got {b: "),
            ((torch.zeros(()), 3), (torch.zeros(()), 3), "needs a batch"),
            ((torch.zeros(0, 2), torch.zeros(0)), None, "needs a batch"),
        ],
    )
    def test_others_are_refused(self, example, images, message):
        with pytest.raises(ValueError, match=message):
            Inputs.of(example, example if images is None else images)


def test_names_are_unlike():
    x = torch.zeros(1)
    assert output_names({"a.b": x, "a b": [x], "c": {"d": x}}, []) == ["a_b", "a_b_0", "c_d"]
    assert output_names({"a.b": x, "a b": x, "ids": x}, ["ids"]) == ["a_b", "a_b_", "output_ids"]
    assert output_names([x, 1, (x, {"k": x})], []) == ["output_0", "output_2_0", "output_2_1_k"]


def test_differences_are_looked_for_everywhere():
    one = {"a": torch.zeros(2), "n": torch.tensor([10**6]), "t": (1, None)}
    assert difference(one, copy.deepcopy(one), "it") == 0
    with pytest.raises(RuntimeError, match="differ by 1, rounding explains only 0"):
        difference(one, {**one, "n": torch.tensor([10**6 + 1])}, "it")
    with pytest.raises(RuntimeError, match="is not the same"):
        difference(one, {**one, "t": (2, None)}, "it")
    with pytest.raises(RuntimeError, match="differ by 1, "):
        difference(one, {**one, "a": torch.ones(2)}, "it")


class TestInputsOfATask:
    """A task is whatever has batches; the inputs in them are found by their shapes."""

    class Batches:
        preprocessing = None

        def __init__(self, batch):
            self.batch = batch

        def batches(self, split, *, seed, epoch):
            return [self.batch]

    @staticmethod
    def inputs(batch, length=4):
        return {"ids": torch.arange(batch * length).reshape(batch, length), "x": torch.ones(batch)}

    def test_they_are_found_in_a_pair_and_alone(self):
        found, example = self.inputs(6), self.inputs(1)
        for batch in ((found, torch.zeros(6)), [found, None], found):
            given = real_inputs(self.Batches(batch), "test", 5, example)
            assert torch.equal(given["ids"], found["ids"][:5])
            assert given["x"].shape == (5,)
        pair = (torch.zeros(6, 2), torch.zeros(6, 3))  # two inputs, no targets
        given = real_inputs(self.Batches(pair), "test", 9, (torch.zeros(1, 2), torch.zeros(1, 3)))
        assert [t.shape for t in given] == [(6, 2), (6, 3)]

    def test_the_example_stands_for_batches_of_other_lengths(self):
        example = self.inputs(1)
        longer = self.Batches((self.inputs(6, length=9), torch.zeros(6)))
        assert real_inputs(longer, "test", 5, example) is example

    def test_the_statistics_are_those_of_each_input_by_name(self):
        class Takes(nn.Linear):
            def forward(self, *, ids, x):
                return super().forward(x[:, None].expand(-1, 3))

        task = self.Batches((self.inputs(6), torch.zeros(6)))
        task.batch[0]["x"] = torch.tensor([1.0, 2.0, 3.0, -torch.inf, 2.0, 2.0]).double()
        told = preparation(task, Takes(3, 2), self.inputs(1))
        assert told == {
            "stated": False,
            "training_inputs": {
                "ids": {"dtype": "int64", "shape": [4], "min": 0, "max": 23},
                "x": {"dtype": "float32", "shape": [], "min": 1, "max": 3, "mean": 2}
                | {"std": pytest.approx(0.4**0.5)},
            },
        }

    def test_large_examples_are_few(self):
        class Asked(self.Batches):
            def few(self, split, examples):
                self.asked = examples
                return self.batch

        task = Asked((torch.zeros(2, 2**20), torch.zeros(2)))
        preparation(task, nn.Identity(), torch.zeros(1, 2**20))
        assert task.asked == 2**24 / 2**20


class Packed(nn.Module):
    """A tagger of padded sequences, which torch.export cannot trace."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(3, 4, batch_first=True)

    def forward(self, x):
        lengths = (x[..., 0] != 0).sum(dim=1).clamp_min(1)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, True, enforce_sorted=False)
        return nn.utils.rnn.pad_packed_sequence(self.rnn(packed)[0], True, total_length=5)[0]


def test_a_network_that_cannot_be_traced_is_refused_in_one_line(tmp_path):
    point = Point({"op": "a"}, {"error_percent": 1.0}, id="a01")
    with pytest.raises(ValueError, match=r"cannot trace this network.*\(safetensors\)"):
        export(Packed(), point, torch.ones(2, 5, 3), "torch", tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())
