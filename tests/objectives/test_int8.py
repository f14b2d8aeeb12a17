"""Quantized networks and written files: what ONNX Runtime and the disk say of them."""

import copy
import logging
import sys
from random import Random
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from paretonas.cli import run
from paretonas.constraint import split_unit
from paretonas.export import export
from paretonas.forward import copied
from paretonas.gradient_search.objectives import column_of, wanted_of
from paretonas.names import find_objectives
from paretonas.objectives import (
    FileSize,
    Int8FileSize,
    Int8Latency,
    Int8Metric,
    MeasuredObjective,
)
from paretonas.objectives.int8 import quantized
from paretonas.point import Point
from paretonas.space import draw
from paretonas.training import Recipe, train
from search_spaces.toy import space


@pytest.fixture(scope="module")
def trained():
    network = space.supernet().extract({"width": "16", "mix": "pool", "deep": "1"})
    for _ in train(network, space.load_task(), Recipe(epochs=2), seed=0):
        pass
    return network


@pytest.fixture(scope="module")
def example():
    return space.load_task().example()


def operations(content: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(content).graph.node]


def test_a_quantized_network_computes_with_integers(trained, example):
    content = quantized(trained, example, space.load_task()).content
    model = onnx.load_from_string(content)
    kinds = {array.data_type for array in model.graph.initializer if len(array.dims) > 1}
    assert kinds == {onnx.TensorProto.INT8}  # all weights
    assert "QuantizeLinear" in operations(content)


def test_its_metric_is_that_of_onnx_runtime(trained, example):
    """An oracle without the package: ONNX Runtime on the examples, counted by hand."""
    objective, task = Int8Metric(space), space.load_task()
    assert isinstance(objective, MeasuredObjective)
    found = objective.measure(trained, example)
    session = onnxruntime.InferenceSession(quantized(trained, example, task).content)
    for split, column in (("valid", "int8_error_percent"), ("test", "int8_error_test_percent")):
        wrong = total = 0
        for images, labels in task.batches(split, seed=0, epoch=0):
            (logits,) = session.run(None, {"images": images.numpy()})
            wrong, total = wrong + (logits.argmax(1) != labels.numpy()).sum(), total + len(labels)
        assert found[column] == pytest.approx(100 * wrong / total)
    assert found["int8_error_percent"] < 60  # it has learned something: guessing errs in 90 of 100


def test_integers_are_close_to_the_network(trained, example):
    task = space.load_task()
    (images, _), *_ = task.batches("valid", seed=0, epoch=0)
    runs = quantized(trained, example, task).network()
    with torch.no_grad():
        expected = trained.eval()(images)
    apart = (runs(images) - expected).norm() / expected.norm()
    assert 0 < apart < 0.1  # 8 bits: of rounding alone it would be 0


def test_measuring_changes_nothing(trained, example):
    before, inputs = copy.deepcopy(trained.state_dict()), example.clone()
    trained.train()
    handlers, level, state = [*logging.root.handlers], logging.root.level, torch.get_rng_state()
    Int8Latency(space).measure(copied(trained), example)
    Int8FileSize(space).measure(trained, example)
    FileSize.of(space.supernet(), example).measure(trained, example)
    assert trained.training and torch.equal(example, inputs)
    assert all(torch.equal(before[name], t) for name, t in trained.state_dict().items())
    assert ([*logging.root.handlers], logging.root.level) == (handlers, level)
    assert torch.equal(torch.get_rng_state(), state)


def test_other_weights_are_quantized_anew(trained, example):
    network, task = copied(trained), space.load_task()
    first = quantized(network, example, task)
    assert quantized(network, example, task) is first
    with torch.no_grad():
        next(network.parameters()).mul_(2.0)
    assert quantized(network, example, task).content != first.content


def test_the_latency_and_the_size_are_of_this_file(trained, example):
    found = Int8Latency(space).measure(trained, example)
    assert found["int8_latency_ms"] > 0 and found["int8_latency_spread_ms"] >= 0
    content = quantized(trained, example, space.load_task()).content
    assert Int8FileSize(space).measure(trained, example) == len(content) / 1024


class Waves(nn.Module):
    """Nothing in it has integers."""

    def forward(self, x):
        return torch.sin(x)


def test_what_cannot_be_quantized_is_named(example):
    with pytest.raises(ValueError, match=r"nothing in the network .* for Sin") as caught:
        quantized(Waves(), example, space.load_task())
    assert "\n" not in str(caught.value)


def test_an_operation_that_prevents_it_is_named(trained, example, monkeypatch):
    from onnxruntime.quantization.operators.conv import QDQConv

    def refuse(self):
        raise NotImplementedError("no such\nkernel")

    monkeypatch.setattr(QDQConv, "quantize", refuse)
    with pytest.raises(ValueError) as caught:
        quantized(copied(trained), example, space.load_task())
    told = str(caught.value)
    assert told == "the network cannot be quantized: Conv: NotImplementedError: no such kernel"


def test_a_missing_package_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for objective in (Int8Metric, Int8Latency, Int8FileSize):  # before anything is trained
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'paretonas\[onnx\]'"):
            objective(space)
    assert run(["search", "--space", "toy", "--minimize", "latency,int8_error"]) == 1
    (told,) = capsys.readouterr().err.splitlines()
    assert told == "paretonas: ONNX needs onnxruntime: pip install 'paretonas[onnx]'"


def test_the_table_of_files_is_close_to_the_files(example):
    supernet, rng = space.supernet(), Random(1)
    objective = FileSize.of(supernet, example)
    assert all((slot.values >= 0).all() for slot in objective.table.slots)
    assert objective.column == "file_size_kib"
    for architecture in (draw(supernet.choices, rng) for _ in range(4)):
        written = objective.measure(supernet.extract(architecture), example)
        assert objective.exact(architecture) == pytest.approx(written, rel=0.1)


def test_the_size_of_a_file_is_that_of_the_export(trained, example, tmp_path):
    """The other exporter writes it, with a text on the architecture."""
    point = Point({"width": "16", "mix": "pool", "deep": "1"}, {"error_percent": 1.0}, id="a01")
    path = tmp_path / "net.onnx"
    export(trained, point, example, "onnx", path)
    (told,) = onnx.load(path).metadata_props
    size = (path.stat().st_size - len(told.value)) / 1024
    measured = FileSize.of(space.supernet(), example).measure(trained, example)
    assert measured == pytest.approx(size, rel=0.05)


def test_a_quantized_export_is_read_back(trained, example, tmp_path):
    path, task = tmp_path / "net.onnx", space.load_task()
    point = Point({"width": "16", "mix": "pool", "deep": "1"}, {"error_percent": 1.0}, id="a01")
    exported = export(trained, point, example, "onnx-int8", path, task=task)
    session = onnxruntime.InferenceSession(path)
    assert "architecture" in session.get_modelmeta().custom_metadata_map
    assert [each.name for each in session.get_outputs()] == ["logits"]
    assert exported.bytes == path.stat().st_size
    with torch.no_grad():
        expected = trained.eval()(example).numpy()
    (found,) = session.run(None, {"images": example.numpy()})
    assert np.abs(found - expected).max() == pytest.approx(exported.max_difference, rel=1e-5)
    assert [each.name for each in tmp_path.iterdir()] == ["net.onnx"]
    with pytest.raises(ValueError, match="nothing in the network"):
        export(Waves(), point, example, "onnx-int8", path, task=task)
    assert path.stat().st_size == exported.bytes


def test_another_example_or_task_is_quantized_anew(trained, example):
    network, task = copied(trained), space.load_task()
    first = quantized(network, example, task)
    assert quantized(network, example, copy.copy(task)) is not first
    again = quantized(network, example, task)
    assert quantized(network, example.clone(), task) is not again


def test_the_metric_is_asked_for_once():
    asked = []

    def load():
        asked.append(1)
        return task

    task, seen = space.load_task(), Int8Metric(SimpleNamespace(load_task=load))
    assert [isinstance(seen, MeasuredObjective) for _ in range(3)] == [True] * 3
    assert (seen.name, seen.column, seen.maximize) == ("int8_error", "int8_error_percent", False)
    assert len(asked) == 1


def test_int8_latency_is_timed_with_the_threads_of_the_search():
    (found,) = wanted_of("int8_latency", space, "cpu", 2)
    assert found == Int8Latency(space, 2)
    assert find_objectives("int8_latency", space) == (Int8Latency(space, 1),)


def test_what_is_reported_begins_with_the_name_of_the_objective(trained, example):
    for objective in (Int8Metric(space), Int8Latency(space)):
        name = split_unit(objective.column)[0]
        found = objective.measure(trained, example)
        assert all(column.startswith(f"{name}_") for column in found)


@pytest.mark.parametrize("name", ["file_size", "int8_file_size"])
def test_the_column_of_a_file_is_its_name(name):
    columns = [*map(column_of, wanted_of(name, space, "cpu", 1))]
    assert columns == [f"{name}_kib"]
