"""Elastic layers: torch's layers that also accept a `Width` as a number of channels."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from .choices import Width
from .extraction import Extracted, Extraction

Channels = int | Width
"""A number of channels or features, or a choice among numbers."""


def _most(channels: Channels) -> int:
    return channels.widths[-1] if isinstance(channels, Width) else channels


def _now(channels: Channels) -> int:
    return channels.channels if isinstance(channels, Width) else channels


class Elastic(Extracted):
    """The base of the elastic layers.

    Attributes:
        channels: the channels of the input and of the output.
    """

    weight: nn.Parameter | None
    bias: nn.Parameter | None
    channels: tuple[Channels, Channels]
    _drawn: dict[str, Tensor]

    def _adopt(self, full: nn.Module, channels: tuple[Channels, Channels]) -> None:
        """Take the parameters of torch's layer, and remember their initial values."""
        self.channels = channels
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(full, name))
        self._drawn = {n: p.detach().clone() for n, p in self.named_parameters()}

    def untouched(self) -> list[str]:
        """The parameters that still have torch's initial values; it can be called only once."""
        drawn, self._drawn = self._drawn, {}
        held = dict(self.named_parameters())
        return [n for n, d in drawn.items() if n in held and torch.equal(held[n], d.to(held[n]))]

    def _masked(self, y: Tensor, axis: int) -> Tensor:
        outputs = self.channels[1]
        return outputs.mask(y, axis) if isinstance(outputs, Width) else y

    def extracted(self, memo: Extraction) -> nn.Module:
        """Torch's layer for the current picks."""
        layer, pieces = self._plain()
        layer.training = self.training
        wholes = {name: self.get_parameter(name) for name in pieces}
        smaller = any(pieces[name].shape != whole.shape for name, whole in wholes.items())
        for name, whole in wholes.items():
            drawn = layer.get_parameter(name) if smaller else None
            layer.register_parameter(name, memo.piece(whole, pieces[name], drawn))
        return layer

    def _plain(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """Torch's layer for the current picks, and the pieces of the parameters for it."""
        raise NotImplementedError


class _Conv(Elastic):
    """The elastic part of `Conv1d` and `Conv2d`."""

    weight: nn.Parameter
    _torch: type[nn.Module]
    _functional: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: Channels,
        out_channels: Channels,
        kernel_size: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: Channels = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if isinstance(groups, Width) and not groups is in_channels is out_channels:
            raise ValueError(
                "groups may be a Width only where in_channels and out_channels are the same Width"
            )
        if isinstance(groups, int) and groups > 1 and isinstance(in_channels, Width):
            raise ValueError(
                f"with a Width for in_channels, groups must be 1 or that Width, got {groups}"
            )
        self._settings = {"stride": stride, "padding": padding, "dilation": dilation}
        self._kernel_size = kernel_size
        self._grouped = groups if isinstance(groups, int) else None
        full = self._torch(
            _most(in_channels),
            _most(out_channels),
            kernel_size,
            groups=_most(groups),
            bias=bias,
            **self._settings,
        )
        self._adopt(full, (in_channels, out_channels))

    def _slices(self) -> tuple[Tensor, Tensor | None, int]:
        inputs, outputs = (_now(c) for c in self.channels)
        groups = inputs if self._grouped is None else self._grouped
        weight: Tensor = self.weight[:outputs, : inputs // groups]
        bias = None if self.bias is None else self.bias[:outputs]
        return weight, bias, groups

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, groups = self._slices()
        y = type(self)._functional(x, weight, bias, groups=groups, **self._settings)
        return self._masked(y, 1)

    def _plain(self) -> tuple[nn.Module, dict[str, Tensor]]:
        weight, bias, groups = self._slices()
        layer = self._torch(
            weight.shape[1] * groups,
            weight.shape[0],
            self._kernel_size,
            groups=groups,
            bias=bias is not None,
            device=weight.device,
            dtype=weight.dtype,
            **self._settings,
        )
        return layer, _present(weight=weight, bias=bias)


class Conv1d(_Conv):
    """`torch.nn.Conv1d` whose channels may be a `Width`; ``groups=width`` is depthwise."""

    _torch = nn.Conv1d
    _functional = staticmethod(functional.conv1d)


class Conv2d(_Conv):
    """`torch.nn.Conv2d` whose channels may be a `Width`; ``groups=width`` is depthwise.

    >>> width = Width(8, 16)
    >>> depthwise = Conv2d(width, width, 3, padding=1, groups=width, bias=False)

    Raises:
        ValueError: `groups` does not divide the channels for every pick.
    """

    _torch = nn.Conv2d
    _functional = staticmethod(functional.conv2d)


class Linear(Elastic):
    """`torch.nn.Linear` whose features may be a `Width`.

    Attributes:
        weight: (largest output features, largest input features); a pick uses the upper left part.
    """

    weight: nn.Parameter

    def __init__(self, in_features: Channels, out_features: Channels, bias: bool = True) -> None:
        super().__init__()
        full = nn.Linear(_most(in_features), _most(out_features), bias=bias)
        self._adopt(full, (in_features, out_features))

    def _slices(self) -> tuple[Tensor, Tensor | None]:
        inputs, outputs = (_now(c) for c in self.channels)
        return self.weight[:outputs, :inputs], None if self.bias is None else self.bias[:outputs]

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (..., input features) with the weights of the picked features."""
        return self._masked(functional.linear(x, *self._slices()), -1)

    def _plain(self) -> tuple[nn.Module, dict[str, Tensor]]:
        weight, bias = self._slices()
        layer = nn.Linear(
            weight.shape[1],
            weight.shape[0],
            bias=bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        return layer, _present(weight=weight, bias=bias)


class _ElasticBatchNorm(Elastic):
    """The elastic part of `BatchNorm1d` and `BatchNorm2d`.

    In a supernet it normalizes by the current batch, since the running statistics of one path are
    useless for another. The plain layer from `Supernet.extract` keeps running statistics again.
    """

    _torch: type[_BatchNorm]
    _like: Tensor

    def __init__(
        self,
        num_features: Channels,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
    ) -> None:
        super().__init__()
        full = self._torch(_most(num_features), affine=affine)
        self.eps, self.momentum = eps, momentum
        self._adopt(full, (num_features, num_features))
        # Stores the device and the type for a layer without weights.
        self.register_buffer("_like", torch.empty(0), persistent=False)

    def _slices(self) -> tuple[Tensor | None, Tensor | None, int]:
        count = _now(self.channels[0])
        if self.weight is None or self.bias is None:
            return None, None, count
        return self.weight[:count], self.bias[:count], count

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, _ = self._slices()
        y = functional.batch_norm(x, None, None, weight, bias, training=True, eps=self.eps)
        return self._masked(y, 1)

    def _plain(self) -> tuple[nn.Module, dict[str, Tensor]]:
        weight, bias, count = self._slices()
        layer = self._torch(
            count,
            eps=self.eps,
            momentum=self.momentum,
            affine=weight is not None,
            device=self._like.device,
            dtype=self._like.dtype,
        )
        return layer, _present(weight=weight, bias=bias)


class BatchNorm1d(_ElasticBatchNorm):
    """`torch.nn.BatchNorm1d` whose features may be a `Width`."""

    _torch = nn.BatchNorm1d


class BatchNorm2d(_ElasticBatchNorm):
    """`torch.nn.BatchNorm2d` whose features may be a `Width`."""

    _torch = nn.BatchNorm2d


def _present(**pieces: Tensor | None) -> dict[str, Tensor]:
    return {name: piece for name, piece in pieces.items() if piece is not None}
