"""Elastic layers that map channels: convolutions, linear maps, embeddings, PReLU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .elastic import Channels, Elastic, cut
from .sizes import Kernel, Size, _Product, same


class _Conv(Elastic):
    """What convolutions have in common."""

    weight: nn.Parameter
    spatial: int
    transposed = False

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        inputs, outputs = a["in_channels"], a["out_channels"]
        first, second = (inputs, outputs) if self.transposed else (outputs, inputs)
        each = per_group(second, a["groups"])
        return {"weight": [first, each, *self._kernel(a)], "bias": [outputs]}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["in_channels"], -1 - self.spatial)]

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["out_channels"], -1 - self.spatial)]

    def check(self, a: Mapping[str, Any]) -> None:
        per_group(a["in_channels"], a["groups"])
        per_group(a["out_channels"], a["groups"])

    def mixture(self, *args: Any, **kwargs: Any) -> Any:
        a = self.arguments
        apart = all(_in_groups(a[name], a["groups"]) for name in ("in_channels", "out_channels"))
        return self.masked(*args, **kwargs) if apart else super().mixture(*args, **kwargs)

    def pieces(self) -> dict[str, Tensor]:
        """The parts of the parameters; a mixture has the expected kernel."""
        found = super().pieces()
        for kernel, axes in self._kernels().items():
            if isinstance(kernel.gate, Tensor):
                whole, chances = found["weight"], kernel.chances().to(found["weight"].dtype)
                each = [self._smaller(whole, kernel, axes, n) for n in kernel.numbers]
                parts = zip(chances, each, strict=True)
                found["weight"] = torch.stack([c * _around(part, whole) for c, part in parts]).sum(
                    0
                )
            elif kernel.transform and kernel.now() < kernel.most():
                ranges = [
                    r if i < 2 else None for i, r in enumerate(self._shell().ranges["weight"])
                ]
                whole = cut(self.weight, dict(enumerate(ranges)))
                found["weight"] = self._smaller(whole, kernel, axes, kernel.now())
        return found

    def _smaller(self, weight: Tensor, kernel: Kernel, axes: Sequence[int], size: int) -> Tensor:
        """The weight of a smaller kernel: its center, transformed from each size to the next."""
        if not kernel.transform:
            return _center(weight, axes, size)
        for larger, smaller in zip(kernel.numbers[:0:-1], kernel.numbers[-2::-1], strict=True):
            if larger <= size:
                break
            center = _center(weight, axes, smaller)
            flat = center.flatten(2) @ self.get_parameter(f"transform_{larger}to{smaller}").mT
            weight = flat.reshape(center.shape)
        return weight

    def _adopt(self, full: nn.Module, arguments: Mapping[str, Any], *rest: Any) -> None:
        super()._adopt(full, arguments, *rest)
        for kernel, axes in self._kernels().items():
            if not kernel.transform:
                continue
            if len(axes) < self.spatial:
                raise ValueError(
                    f"a Kernel with transform=True must be the size of all {self.spatial} axes of "
                    f"the kernel, got {arguments['kernel_size']}"
                )
            names = []
            for larger, smaller in zip(kernel.numbers[1:], kernel.numbers, strict=False):
                names.append(f"transform_{larger}to{smaller}")
                matrix = torch.eye(smaller**self.spatial).to(self.weight)
                self.register_parameter(names[-1], nn.Parameter(matrix))
            self._parts = {*self._parts, *names}

    def _kernels(self) -> dict[Kernel, list[int]]:
        """The kernels that are choices, and the axes of the weight that each has."""
        found: dict[Kernel, list[int]] = {}
        for axis, kernel in enumerate(self._kernel(self.arguments), start=2):
            if isinstance(kernel, Kernel):
                found.setdefault(kernel, []).append(axis)
        return found

    def _kernel(self, a: Mapping[str, Any]) -> Sequence[Any]:
        kernel = a["kernel_size"]
        return [*kernel] if isinstance(kernel, list | tuple) else [kernel] * self.spatial


class Conv1d(_Conv):
    """`torch.nn.Conv1d` whose channels, groups and kernel may be sizes."""

    layer, spatial = nn.Conv1d, 1


class Conv2d(_Conv):
    """`torch.nn.Conv2d` whose channels, groups and kernel may be sizes.

    >>> from paretonas.nn import Kernel, Width
    >>> width, kernel = Width(8, 16), Kernel(3, 5)
    >>> depthwise = Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
    >>> grouped = Conv2d(4 * width, 4 * width, 3, 1, 1, groups=4)

    With a number of groups, the channels are best written as ``groups * width``, the width of each
    group. A plain width, which the groups must divide at each pick, keeps the first channels of
    all, so that a channel may be in other groups than at another pick.

    Raises:
        ValueError: `groups` does not divide the channels at every pick.
    """

    layer, spatial = nn.Conv2d, 2


class Conv3d(_Conv):
    """`torch.nn.Conv3d` whose channels, groups and kernel may be sizes."""

    layer, spatial = nn.Conv3d, 3


class ConvTranspose1d(_Conv):
    """`torch.nn.ConvTranspose1d` whose channels, groups and kernel may be sizes."""

    layer, spatial, transposed = nn.ConvTranspose1d, 1, True


class ConvTranspose2d(_Conv):
    """`torch.nn.ConvTranspose2d` whose channels, groups and kernel may be sizes."""

    layer, spatial, transposed = nn.ConvTranspose2d, 2, True


class ConvTranspose3d(_Conv):
    """`torch.nn.ConvTranspose3d` whose channels, groups and kernel may be sizes."""

    layer, spatial, transposed = nn.ConvTranspose3d, 3, True


class Linear(Elastic):
    """`torch.nn.Linear` whose features may be sizes.

    >>> from paretonas.nn import Width
    >>> width = Width(8, 16)
    >>> head = Linear(width * 49, 10)  # after the flatten of (width, 7, 7)

    Attributes:
        weight: (largest output features, largest input features); a pick uses a part.
    """

    layer = nn.Linear

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        return {"weight": [a["out_features"], a["in_features"]], "bias": [a["out_features"]]}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["in_features"], -1)]

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["out_features"], -1)]

    mixture = Elastic.masked


class Bilinear(Elastic):
    """`torch.nn.Bilinear` whose features may be sizes."""

    layer = nn.Bilinear

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        sizes = [a["out_features"], a["in1_features"], a["in2_features"]]
        return {"weight": sizes, "bias": sizes[:1]}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["in1_features"], -1), (a["in2_features"], -1)]

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["out_features"], -1)]

    mixture = Elastic.masked


class Embedding(Elastic):
    """`torch.nn.Embedding` whose `embedding_dim` may be a size."""

    layer: ClassVar[type[nn.Module]] = nn.Embedding

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        return {"weight": [a["num_embeddings"], a["embedding_dim"]]}

    def outputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["embedding_dim"], -1)]

    def check(self, a: Mapping[str, Any]) -> None:
        if a.get("max_norm") is not None:
            raise ValueError(
                f"an elastic {self.layer.__name__} has no max_norm, which changes its weights"
            )

    mixture = Elastic.masked


class EmbeddingBag(Embedding):
    """`torch.nn.EmbeddingBag` whose `embedding_dim` may be a size."""

    layer = nn.EmbeddingBag


class PReLU(Elastic):
    """`torch.nn.PReLU` whose number of parameters may be a size."""

    layer = nn.PReLU

    def axes(self, a: Mapping[str, Any]) -> Mapping[str, Sequence[Any]]:
        return {"weight": [a["num_parameters"]]}

    def inputs(self, a: Mapping[str, Any]) -> Sequence[tuple[Any, int]]:
        return [(a["num_parameters"], 1)]

    outputs = inputs
    mixture = Elastic.masked


def _center(weight: Tensor, axes: Sequence[int], size: int) -> Tensor:
    for axis in axes:
        weight = weight.narrow(axis, (weight.shape[axis] - size) // 2, size)
    return weight


def _around(part: Tensor, whole: Tensor) -> Tensor:
    """A smaller kernel with zeros around it."""
    gaps = [(w - p) // 2 for p, w in zip(part.shape, whole.shape, strict=True)]
    return functional.pad(part, [gap for g in reversed(gaps) for gap in (g, g)])


def per_group(channels: Channels, groups: Channels) -> Channels:
    """The channels of one group.

    Raises:
        ValueError: the groups do not divide the channels at every pick.
    """
    if same(groups, 1):
        return channels
    if same(channels, groups):
        return 1
    if isinstance(channels, _Product) and same(channels.outer, groups):
        return channels.inner
    if isinstance(groups, Size):
        raise ValueError(
            f"where groups is a size, channels must be this size, or a multiple of it: {groups!r} "
            f"or {groups!r} * 2, got {channels!r}"
        )
    values = channels.values() if isinstance(channels, Size) else (channels,)
    for value in values:
        if value % groups:
            raise ValueError(f"groups must divide the channels at every pick: {groups} and {value}")
    return channels // groups


def _in_groups(channels: Channels, groups: Channels) -> bool:
    """Whether each channel is in the same group at every pick."""
    if isinstance(channels, int) or same(groups, 1) or same(channels, groups):
        return True
    return isinstance(channels, _Product) and same(channels.outer, groups)
