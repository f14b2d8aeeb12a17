"""A draft: the ONNX file of a network for a measurement."""

import onnx
import pytest
import torch
from torch import nn

from paretonas._slow_export import SlowExportWarning
from paretonas.export import onnx_file
from paretonas.export.draft import drafted
from paretonas.export.onnx_file import OnnxNetwork, session_of


class Two(nn.Module):
    """Two outputs by name, in its own floating type; it changes its input."""

    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 2).double(), nn.Dropout()

    def forward(self, x):
        x.mul_(2.0)
        return {"wide": x, "narrow": self.drop(self.layer(x))}


@pytest.fixture
def only_the_other(monkeypatch):
    """Torch's older exporter fails."""
    export = torch.onnx.export

    def refuse(*args, dynamo, **named):
        if not dynamo:
            raise RuntimeError("the older exporter cannot\nfor some reason")
        return export(*args, dynamo=dynamo, **named)

    monkeypatch.setattr(torch.onnx, "export", refuse)
    onnx_file._tell_slow.cache_clear()


def test_drafts_that_compute_something_else_are_told_once(monkeypatch):
    export = torch.onnx.export
    shifts = iter([1.0, 2.0])

    def shifted(network, *args, dynamo, **named):
        if not dynamo:
            network.bias.data += next(shifts)
        try:
            return export(network, *args, dynamo=dynamo, **named)
        finally:
            if not dynamo:
                network.bias.data.zero_()

    monkeypatch.setattr(torch.onnx, "export", shifted)
    onnx_file._tell_slow.cache_clear()
    network = nn.Linear(3, 2)
    network.bias.data.zero_()
    with pytest.warns(SlowExportWarning) as told:
        for _ in range(2):
            drafted(network, torch.ones(1, 3))
    (told,) = [str(each.message) for each in told if each.category is SlowExportWarning]
    assert "cannot write this network (its file does not give the network's outputs); " in told


@pytest.mark.parametrize("older", [True, False], ids=["older exporter", "other exporter"])
def test_a_draft_computes_what_the_network_does_and_changes_nothing(request, older):
    network, example, real = Two().train(), torch.ones(1, 3), torch.randn(5, 3)
    before, hooks = [p.clone() for p in network.parameters()], len(network._forward_hooks)
    if older:
        draft = drafted(network, example, real)
    else:
        request.getfixturevalue("only_the_other")
        with pytest.warns(SlowExportWarning) as told:
            draft = drafted(network, example, real)
            drafted(nn.Linear(3, 2), torch.ones(1, 3))  # it is said once
        (told,) = [str(each.message) for each in told if each.category is SlowExportWarning]
        assert "cannot write this network (the older exporter cannot); the other one" in told
    assert network.training and len(network._forward_hooks) == hooks
    assert torch.equal(example, torch.ones(1, 3))
    assert all(map(torch.equal, network.parameters(), before))
    assert {*draft.output} == {"wide", "narrow"}
    torch.testing.assert_close(draft.inputs.nest, real.double())
    runs = OnnxNetwork(session_of(draft.content), draft.output)
    with torch.no_grad():
        expected = network.eval()(real.double())
    torch.testing.assert_close(runs(real.double()), expected)


def test_the_other_exporter_names_nodes_by_their_modules_too(only_the_other):
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.Sigmoid())

        def forward(self, x):
            return torch.relu(self.body(self.body(x))).mean((2, 3))

    network = Twice()
    with pytest.warns(SlowExportWarning):
        draft = drafted(network, torch.randn(1, 3, 4, 4))
    names = [node.name for node in onnx.load_from_string(draft.content).graph.node]
    assert len(set(names)) == len(names)
    assert {"/body.0/Conv", "/body.0/Conv_1", "/body.1/Sigmoid", "/Relu"} <= {*names}
