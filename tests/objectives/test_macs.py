"""Multiply-accumulates: as torch counts them, and as they are published."""

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from paretonas.objectives import Flops, Macs
from paretonas.objectives.conformance import check_objective
from paretonas.objectives.operations import count_macs
from paretonas.space import every
from search_spaces.mobile import LARGE, MobileNet


def counted(network, *inputs) -> int:
    """By torch, which has formulas only for what is not fused: with gradients, nothing is."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        network(*inputs)
    return counter.get_total_flops()


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.Conv2d(width, 4 * width, 1, bias=False),
        )
        self.skip = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
        if stride == 1 and inputs == 4 * width:
            self.skip = nn.Identity()

    def forward(self, x):
        return self.layers(x) + self.skip(x)


def resnet50() -> nn.Module:
    layers, inputs = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.MaxPool2d(3, 2, 1)], 64
    for stage, blocks in enumerate((3, 4, 6, 3)):
        for block in range(blocks):
            width = 64 * 2**stage
            layers.append(Bottleneck(inputs, width, 2 if stage and not block else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


@pytest.mark.parametrize(
    ("network", "millions"),
    [(lambda: MobileNet(LARGE), 216.59), (resnet50, 4089.18)],
    ids=["MobileNetV3-Large", "ResNet-50"],
)
def test_published_networks_have_the_published_number(network, millions):
    """As torchvision lists them: 0.22 and 4.09 billion."""
    with torch.device("meta"):
        found = count_macs(network(), torch.empty(1, 3, 224, 224))
    assert round(found / 1e6, 2) == millions


def test_the_table_is_what_torch_counts_on_every_architecture(supernet, example):
    macs, flops = Macs.of(supernet, example), Flops.of(supernet, example)
    for architecture in every(supernet.choices):
        network = supernet.extract(architecture)
        expected = counted(network.eval(), example)
        assert expected > 0
        assert flops.exact(architecture) == flops.measure(network, example) == expected
        assert 2 * macs.exact(architecture) == 2 * macs.measure(network, example) == expected
    assert (macs.column, flops.column) == ("macs", "flops")


def test_both_are_objectives(supernet, example):
    class Space:
        name, choices = "small", supernet.choices

    check_objective(Macs.of(supernet, example), Space, architectures=8)


@pytest.mark.parametrize(
    ("network", "inputs"),
    [
        (nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), torch.randn(2, 5, 16)),
        (nn.MultiheadAttention(16, 4, batch_first=True), (torch.randn(2, 5, 16),) * 3),
        (nn.GRU(8, 16), torch.randn(5, 2, 8)),
        (nn.ConvTranspose2d(3, 8, 3, stride=2), torch.randn(1, 3, 8, 8)),
        (nn.Conv1d(8, 8, 3, groups=4), torch.randn(1, 8, 20)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_a_forward_pass_fuses_counts_the_same(network, inputs):
    expected = counted(network.train(), *(inputs if isinstance(inputs, tuple) else (inputs,)))
    assert 2 * count_macs(network, inputs) == expected > 0


@pytest.mark.parametrize("directions", [1, 2])
def test_an_lstm_multiplies_by_its_weights_at_each_step(directions):
    network = nn.LSTM(8, 16, 2, batch_first=True, bidirectional=directions == 2)
    steps = 3 * 5
    expected = steps * sum(p.numel() for n, p in network.named_parameters() if "weight" in n)
    assert count_macs(network, torch.randn(3, 5, 8)) == expected


def test_scaled_dot_products_count_without_gradients_too():
    class Attention(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    assert count_macs(Attention(), torch.randn(2, 4, 10, 8)) == 2 * 4 * 10 * 10 * 8 * 2
