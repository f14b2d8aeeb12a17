"""Two plain networks for small images, of the kind that people have trained already."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


def residual(width: float = 1.0) -> nn.Module:
    """Six residual blocks with two convolutions each, at two resolutions; ten classes.

    He et al. 2016, "Deep residual learning for image recognition" (arXiv 1512.03385).

    Args:
        width: a factor of all numbers of channels.
    """
    early, late = round(24 * width), round(48 * width)
    return nn.Sequential(
        *_layer(1, early, 3, stride=2, activation=nn.ReLU),
        nn.Sequential(*(Basic(early, early) for _ in range(3))),
        nn.Sequential(Basic(early, late, stride=2), Basic(late, late), Basic(late, late)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(late, 10),
    )


def mobile(width: float = 1.0) -> nn.Module:
    """Six inverted residual blocks with depthwise convolutions of 3 and 5, at two resolutions.

    Howard et al. 2019, "Searching for MobileNetV3" (arXiv 1905.02244).

    Args:
        width: a factor of all numbers of channels.
    """
    early, late = round(12 * width), round(24 * width)
    return nn.Sequential(
        *_layer(1, early, 3, stride=2, activation=nn.Hardswish),
        nn.Sequential(*(Inverted(early, early, kernel) for kernel in (3, 5, 5))),
        nn.Sequential(
            Inverted(early, late, 5, stride=2), *(Inverted(late, late, 5) for _ in range(2))
        ),
        *_layer(late, 4 * late, 1, activation=nn.Hardswish),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * late, 10),
    )


NETWORKS: dict[str, Callable[..., nn.Module]] = {"residual": residual, "mobile": mobile}


class Basic(nn.Module):
    """Two convolutions of 3 x 3, and a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        first = _layer(inputs, outputs, 3, stride=stride, activation=nn.ReLU)
        self.body = nn.Sequential(*first, *_layer(outputs, outputs, 3))
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(*_layer(inputs, outputs, 1, stride=stride))
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x) + self.shortcut(x)
        return y.relu()


class Inverted(nn.Module):
    """A wide depthwise convolution between two pointwise ones, and a shortcut if it fits."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, expansion: int = 4
    ) -> None:
        super().__init__()
        wide = expansion * inputs
        self.body = nn.Sequential(
            *_layer(inputs, wide, 1, activation=nn.Hardswish),
            *_layer(wide, wide, kernel, stride=stride, groups=wide, activation=nn.Hardswish),
            *_layer(wide, outputs, 1),
        )
        self.adds = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.adds else y


def _layer(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: type[nn.Module] | None = None,
) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers = [convolution, nn.BatchNorm2d(outputs)]
    return [*layers, activation()] if activation else layers
