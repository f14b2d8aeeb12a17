"""The multilayer perceptron: sizes by a formula, and one activation everywhere."""

from random import Random

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from paretonas.nn.conformance import check_space
from paretonas.space import draw
from search_spaces.mlp import space

ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


@pytest.fixture(scope="module")
def supernet():
    return space.supernet()


@pytest.mark.parametrize("seed", range(6))
def test_an_architecture_is_its_picks(supernet, seed):
    """Its size by hand, its path in the supernet, and its activations."""
    picks = draw(space.choices, Random(seed))
    width, depth = int(picks["width"]), int(picks["blocks"])
    hidden = [int(picks[f"blocks.blocks.{n}.hidden"]) for n in range(depth)]
    products = 64 * width + sum(2 * width * each for each in hidden) + 10 * width
    others = width + sum(2 * width + each + width for each in hidden) + 2 * width + 10

    network = supernet.extract(picks).train()
    columns = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    with FlopCounterMode(display=False) as counter:
        found = network(columns)
    assert sum(p.numel() for p in network.parameters()) == products + others
    assert counter.get_total_flops() == 2 * 4 * products
    assert torch.allclose(found, supernet(columns, picks), atol=1e-5)
    used = [type(m) for m in network.modules() if isinstance(m, (*ACTIVATIONS.values(),))]
    assert used == [ACTIVATIONS[picks["activation"]]] * (depth + 1)


def test_the_space_keeps_its_promises():
    check_space(space)
