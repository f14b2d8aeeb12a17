"""Drop-in modules that hold a choice inside any `torch.nn.Module`, and the supernet over them.

Three kinds of choice: `OneOf` among modules, `Width` among numbers of channels, `Depth` among
numbers of blocks. A choice is named by its path in the network (``network.block1.op`` is
``"block1.op"``). The elastic layers are torch's own, with a `Width` allowed wherever torch takes a
number of channels.
"""

from .choices import Depth, OneOf, ShapeError, Width
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
    "Supernet",
    "Width",
]
