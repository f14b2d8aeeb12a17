"""Modules that add choices to any `torch.nn.Module`, and the supernet (one-shot model) over them.

There are three kinds of choice: `OneOf` among modules, `Width` among numbers of channels, `Depth`
among numbers of blocks. The name of a choice is its path in the network (``network.block1.op`` is
``"block1.op"``). The elastic layers are torch's layers, but accept a `Width` as a number of
channels. All architectures of a supernet share its weights (weight sharing).
"""

from .choices import Depth, OneOf, ShapeError, Stack, Width
from .layers import BatchNorm1d, BatchNorm2d, Channels, Conv1d, Conv2d, Linear
from .supernet import NetworkSpace, Supernet

__all__ = [
    "BatchNorm1d",
    "BatchNorm2d",
    "Channels",
    "Conv1d",
    "Conv2d",
    "Depth",
    "Linear",
    "NetworkSpace",
    "OneOf",
    "ShapeError",
    "Stack",
    "Supernet",
    "Width",
]
