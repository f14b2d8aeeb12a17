"""A draft: the ONNX file of a network for a measurement."""

import pytest
import torch
from torch import nn

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


@pytest.mark.parametrize("older", [True, False], ids=["older exporter", "other exporter"])
def test_a_draft_computes_what_the_network_does_and_changes_nothing(monkeypatch, older):
    network, example, real = Two().train(), torch.ones(1, 3), torch.randn(5, 3)
    before, hooks = [p.clone() for p in network.parameters()], len(network._forward_hooks)
    if not older:
        export = torch.onnx.export

        def refuse(*args, dynamo, **named):
            if not dynamo:
                raise RuntimeError("the older exporter cannot")
            return export(*args, dynamo=dynamo, **named)

        monkeypatch.setattr(torch.onnx, "export", refuse)
    draft = drafted(network, example, real)
    assert network.training and len(network._forward_hooks) == hooks
    assert torch.equal(example, torch.ones(1, 3))
    assert all(map(torch.equal, network.parameters(), before))
    assert {*draft.output} == {"wide", "narrow"}
    torch.testing.assert_close(draft.inputs.nest, real.double())
    runs = OnnxNetwork(session_of(draft.content), draft.output)
    with torch.no_grad():
        expected = network.eval()(real.double())
    torch.testing.assert_close(runs(real.double()), expected)
