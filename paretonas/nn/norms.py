"""Elastic norms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from .elastic import Elastic
from .sizes import Size


class Tracking(Elastic):
    """A norm of each channel, which may have running statistics.

    In a supernet it normalizes by the current batch, since the running statistics of one path are
    useless for another. The plain layer from `Supernet.extract` has the statistics of the largest
    layer for its channels, and updates them as usual.
    """

    running_mean: Tensor | None
    running_var: Tensor | None
    track_running_stats: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.track_running_stats = self.arguments["track_running_stats"]

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        names = ("weight", "bias", "running_mean", "running_var")
        return {name: [a["num_features"]] for name in names} | {"num_batches_tracked": []}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["num_features"], 1)]

    outputs = inputs
    mixture = Elastic.masked

    def prepare(self, layer: nn.Module) -> None:
        vars(layer)["track_running_stats"] = self.track_running_stats

    def _load_from_state_dict(self, state_dict: Any, prefix: Any, *args: Any) -> None:
        for name, buffer in self._buffers.items():  # older files have no statistics
            if buffer is not None:
                state_dict.setdefault(f"{prefix}{name}", buffer)
        super()._load_from_state_dict(state_dict, prefix, *args)


class BatchNorm1d(Tracking):
    """`torch.nn.BatchNorm1d` whose features may be a size."""

    layer = nn.BatchNorm1d


class BatchNorm2d(Tracking):
    """`torch.nn.BatchNorm2d` whose features may be a size."""

    layer = nn.BatchNorm2d


class BatchNorm3d(Tracking):
    """`torch.nn.BatchNorm3d` whose features may be a size."""

    layer = nn.BatchNorm3d


class InstanceNorm1d(Tracking):
    """`torch.nn.InstanceNorm1d` whose features may be a size."""

    layer = nn.InstanceNorm1d


class InstanceNorm2d(Tracking):
    """`torch.nn.InstanceNorm2d` whose features may be a size."""

    layer = nn.InstanceNorm2d


class InstanceNorm3d(Tracking):
    """`torch.nn.InstanceNorm3d` whose features may be a size."""

    layer = nn.InstanceNorm3d


class GroupNorm(Elastic):
    """`torch.nn.GroupNorm` whose channels may be a size, best ``groups * width``."""

    layer = nn.GroupNorm

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        return {"weight": [a["num_channels"]], "bias": [a["num_channels"]]}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["num_channels"], 1)]

    outputs = inputs

    def check(self, a: Mapping[str, Any]) -> None:
        channels, groups = a["num_channels"], a["num_groups"]
        if isinstance(groups, int):
            for value in channels.values() if isinstance(channels, Size) else (channels,):
                if value % groups:
                    raise ValueError(
                        f"num_groups must divide the channels at every pick: {groups} and {value}"
                    )


class _OverTheLast(Elastic):
    """A norm over the last axes.

    Attributes:
        axis: of the input, that a shape of one number stands for; the own forward of a subclass of
            torch's layer may take another one than the last.
    """

    axis = -1

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        shape = _shape(a)
        return {"weight": shape, "bias": shape} if self.layer is nn.LayerNorm else {"weight": shape}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        shape = _shape(a)
        if len(shape) == 1:
            return [(shape[0], self.axis)]
        found = [(s, i - len(shape)) for i, s in enumerate(shape) if isinstance(s, Size)]
        return found or [(shape[-1], -1)]

    outputs = inputs

    def check(self, a: Mapping[str, Any]) -> None:
        if sum(isinstance(size, Size) for size in _shape(a)) > 1:
            raise ValueError(
                f"at most one axis of normalized_shape may be a size, got {a['normalized_shape']}"
            )


class LayerNorm(_OverTheLast):
    """`torch.nn.LayerNorm` of a shape in which one number may be a size."""

    layer = nn.LayerNorm


class RMSNorm(_OverTheLast):
    """`torch.nn.RMSNorm` of a shape in which one number may be a size."""

    layer = nn.RMSNorm


def _shape(a: Mapping[str, Any]) -> list[Any]:
    shape = a["normalized_shape"]
    return list(shape) if isinstance(shape, list | tuple) else [shape]
