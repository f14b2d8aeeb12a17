"""A choice of the resolution that a network works at."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .choices import Chooser
from .extraction import Extraction
from .sizes import SizeChoice


class Resolution(SizeChoice):
    """A choice among sizes to which images are resized, for networks that take any size.

    >>> resolution = Resolution(20, 24, 28)

    Called on images (batch, channels, height, width) it gives square images of the picked size, by
    bilinear interpolation. An extracted network has a `torch.nn.Upsample` in its place. In a
    mixture the images are brought back to the largest size and mixed, since later layers cannot
    work at several sizes at once; this is an approximation.

    Args:
        sizes: the heights and widths, in pixels, increasing.
        name: choices of the same name are one choice.

    Raises:
        ValueError: in a forward pass, of anything but images.

    References:
        Cai et al. 2020, "Once-for-All: Train One Network and Specialize it for Efficient
        Deployment" (arXiv 1908.09791), whose networks have an elastic resolution.
    """

    def __init__(self, *sizes: int, name: str | None = None) -> None:
        super().__init__(sizes, name)

    def forward(self, images: Tensor) -> Tensor:
        """Resize images, (batch, channels, height, width)."""
        if images.ndim != 4:
            raise ValueError(
                "a Resolution takes images (batch, channels, height, width), got the shape "
                f"{tuple(images.shape)}"
            )
        gate = Chooser.gated(self)
        if isinstance(gate, int):
            return _resized(images, self.numbers[gate])
        each = [_resized(_resized(images, n), self.most()) for n in self.numbers]
        chances = gate.to(images.dtype)
        return torch.stack([c * y for c, y in zip(chances, each, strict=True)]).sum(0)

    def extracted(self, memo: Extraction) -> Any:
        """Torch's layer for the pick."""
        plain = nn.Upsample(size=(int(self), int(self)), mode="bilinear", align_corners=False)
        plain.training = self.training
        return plain


def _resized(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", align_corners=False)
