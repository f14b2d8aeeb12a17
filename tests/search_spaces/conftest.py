import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def counts():
    """The numbers of parameters and of multiply-adds of one forward pass, as torch counts them."""

    def counted(network, inputs):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.eval()(inputs)
        return sum(p.numel() for p in network.parameters()), counter.get_total_flops() // 2

    return counted
