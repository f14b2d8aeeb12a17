"""Modules that add choices to any `torch.nn.Module`, and the supernet (one-shot model) over them.

Choices among modules: `OneOf` of several, `Depth` of how many blocks, `Connect` of which tensors.
Choices among numbers, which are sizes with arithmetic: `Width`, `Heads`, `Kernel`, `Ratio`,
`Resolution`.
The elastic layers are torch's layers, but take a `Size` where torch takes a number; `Elastic` is
the base to make more of them. The name of a choice is its path in the network
(``network.block1.op`` is ``"block1.op"``), or the name it was given. All architectures of a
supernet share its weights (weight sharing).
"""

from .attention import MultiheadAttention
from .choices import Depth, OneOf, ShapeError, Stack
from .connection import Connect, Connected
from .conversion import Conversion, Converted, convert
from .elastic import Channels, Elastic
from .layers import (
    Bilinear,
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
    Embedding,
    EmbeddingBag,
    Linear,
    PReLU,
)
from .norms import (
    BatchNorm1d,
    BatchNorm2d,
    BatchNorm3d,
    GroupNorm,
    InstanceNorm1d,
    InstanceNorm2d,
    InstanceNorm3d,
    LayerNorm,
    RMSNorm,
)
from .parameter import Learned, Parameter
from .recurrent import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from .resolution import Resolution
from .sizes import Heads, Kernel, Picked, Ratio, Size, Width, largest, make_divisible
from .supernet import NetworkSpace, Supernet

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Bilinear",
    "Channels",
    "Connect",
    "Connected",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Conversion",
    "Converted",
    "Depth",
    "Elastic",
    "Embedding",
    "EmbeddingBag",
    "GRUCell",
    "GroupNorm",
    "Heads",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "Kernel",
    "LSTMCell",
    "LayerNorm",
    "Learned",
    "Linear",
    "MultiheadAttention",
    "NetworkSpace",
    "OneOf",
    "PReLU",
    "Parameter",
    "Picked",
    "RMSNorm",
    "RNNCell",
    "Ratio",
    "Resolution",
    "ShapeError",
    "Size",
    "Stack",
    "Supernet",
    "Width",
    "convert",
    "largest",
    "make_divisible",
]
