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


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.RMSNorm(5), (3, 5)),
        (nn.RMSNorm((3, 5), eps=0.1), (3, 5)),
        (nn.RMSNorm(5, elementwise_affine=False), (2, 3, 5)),
    ],
    ids=["one axis", "two axes", "no weight"],
)
def test_the_older_exporter_writes_a_transposed_matrix_and_an_rms_norm(norm, shape):
    class Swapping(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = norm

        def forward(self, x):
            return self.norm(x.mT) + torch.rms_norm(x.mT, (x.shape[-2],))

    generator = torch.Generator().manual_seed(0)
    if norm.weight is not None:
        nn.init.normal_(norm.weight, generator=generator)
    network = Swapping().eval()
    x = torch.randn(2, *shape, generator=generator).mT.contiguous()
    draft = drafted(network, x[:1], x)
    # Only this exporter names nodes by their modules; the other one takes seconds.
    assert {"/Transpose", "/norm/ReduceMean"} <= {node.name for node in nodes(draft.content)}
    with torch.no_grad():
        torch.testing.assert_close(
            OnnxNetwork(session_of(draft.content), draft.output)(x), network(x)
        )


def nodes(content):
    onnx = pytest.importorskip("onnx")
    return onnx.load_from_string(content).graph.node
