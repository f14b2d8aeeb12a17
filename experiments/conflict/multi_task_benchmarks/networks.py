"""The networks of the published results, written from their description in the papers.

`SegNet` is the single-task baseline and `AttentionSegNet` the multi-task network of NYUv2 and
Cityscapes (Liu, Johns and Davison, End-to-End Multi-Task Learning with Attention, 2019, arXiv
1803.10704, called MTAN; the encoder is VGG-16's without the linear layers). `FaceNetwork` is the
nine-layer network of CelebA (Liu et al., FAMO, 2023, arXiv 2306.03792).

All have `heads`, one for each task, and `shared_parameters()`. As in the code of Nash-MTL and FAMO,
*everything is shared except the last two convolutions of a task*. A task's own attention modules
are included: the gradient of another task is 0 there, but they count in the lengths of gradients.
The code of CAGrad does not include the attention modules.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (64, 128, 256, 512, 512)  # of the five stages
CONVOLUTIONS = (2, 2, 3, 3, 3)  # in each stage, on the way down and on the way up
Pairs = list[tuple[Tensor, Tensor]]


class SegNet(nn.Module):
    """An encoder and its mirror image, joined by the places that the pooling picked.

    With one task this is the published baseline. With several it is the split network, in which
    the tasks have only their last two convolutions to themselves.

    Args:
        outputs: channels of each task.
        widths: channels of the five stages.

    Images are (batch, 3, height, width), both sizes multiples of 32; the answer is a list of
    (batch, channels, height, width).
    """

    def __init__(self, outputs: Sequence[int], widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        down = [3, *widths]
        up = [widths[0], *widths[:-1]]  # what a stage hands to the one above it
        self.enter_down = nn.ModuleList(map(_convolution, down[:-1], down[1:]))
        self.rest_down = nn.ModuleList(map(_convolutions, widths, CONVOLUTIONS))
        self.enter_up = nn.ModuleList(map(_convolution, widths, up))
        self.rest_up = nn.ModuleList(map(_convolutions, up, CONVOLUTIONS))
        self.heads = nn.ModuleList(_head(widths[0], channels) for channels in outputs)
        _start(self)

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Everything but the heads."""
        return (p for name, p in self.named_parameters() if not name.startswith("heads."))

    def forward(self, images: Tensor) -> list[Tensor]:
        *_, (_, features) = self.trunk(images)[1]
        return [head(features) for head in self.heads]

    def trunk(self, images: Tensor) -> tuple[Pairs, Pairs]:
        """The features of each stage: going down, first and last; up, unpooled and last."""
        down: Pairs = []
        up: Pairs = []
        places = []
        features = images
        for enter, rest in zip(self.enter_down, self.rest_down, strict=True):
            first = enter(features)
            last = rest(first)
            down.append((first, last))
            features, chosen = functional.max_pool2d(last, 2, return_indices=True)
            places.append(chosen)
        for stage in reversed(range(len(places))):
            unpooled = functional.max_unpool2d(features, places[stage], 2)
            features = self.rest_up[stage](self.enter_up[stage](unpooled))
            up.append((unpooled, features))
        return down, up


class AttentionSegNet(SegNet):
    """SegNet with a path of soft masks for each task: the multi-task attention network.

    In each stage a task's mask, between 0 and 1, is made of the stage's first features and the
    task's own features from the stage before, and multiplies the stage's last features. The
    convolutions between the stages of the task paths are shared by all tasks.
    """

    def __init__(self, outputs: Sequence[int], widths: Sequence[int] = WIDTHS) -> None:
        super().__init__(outputs, widths)
        after, up = [*widths[1:], widths[-1]], [widths[0], *widths[:-1]]
        self.between_down = nn.ModuleList(map(_convolution, widths, after))
        self.between_up = nn.ModuleList(map(_convolution, widths, up))
        seen_down = [widths[0], *(2 * width for width in widths[1:])]
        seen_up = [low + high for low, high in zip(widths, up, strict=True)]
        self.masks_down = nn.ModuleList(_masks(seen_down, widths) for _ in outputs)
        self.masks_up = nn.ModuleList(_masks(seen_up, up) for _ in outputs)
        _start(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        down, up = self.trunk(images)
        paths = zip(self.masks_down, self.masks_up, self.heads, strict=True)
        return [head(self._path(down, up, *masks)) for *masks, head in paths]

    def _path(
        self, down: Pairs, up: Pairs, masks_down: nn.ModuleList, masks_up: nn.ModuleList
    ) -> Tensor:
        own: Tensor | None = None
        for (first, last), mask, between in zip(down, masks_down, self.between_down, strict=True):
            seen = first if own is None else torch.cat((first, own), 1)
            own = functional.max_pool2d(between(mask(seen) * last), 2)
        assert own is not None
        stages = reversed(range(len(up)))
        for (unpooled, last), stage in zip(up, stages, strict=True):
            own = functional.interpolate(own, scale_factor=2, mode="bilinear", align_corners=True)
            own = self.between_up[stage](own)
            own = masks_up[stage](torch.cat((unpooled, own), 1)) * last
        return own


class FaceNetwork(nn.Module):
    """Seven convolutions, two linear layers, and a linear head for each question.

    Args:
        questions: how many heads.
        widths: channels of the four stages, the last also of the linear layers.

    Images are (batch, 3, height, width), sizes multiples of 8; the answer is a list of (batch,),
    above 0 for yes.
    """

    def __init__(self, questions: int, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for stage, (width, count) in enumerate(zip(widths, (1, 2, 2, 2), strict=True)):
            layers += [nn.MaxPool2d(2)] if stage else []
            for channels in (before, width)[:count]:
                layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
                layers += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        for _ in range(2):
            layers += [nn.Linear(before, before, bias=False), nn.BatchNorm1d(before)]
            layers += [nn.ReLU(inplace=True)]
        self.base = nn.Sequential(*layers)
        self.heads = nn.ModuleList(nn.Linear(before, 1) for _ in range(questions))

    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """Everything but the heads."""
        return self.base.parameters()

    def forward(self, images: Tensor) -> list[Tensor]:
        features = self.base(images)
        return [head(features).squeeze(1) for head in self.heads]


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _convolutions(channels: int, count: int) -> nn.Sequential:
    """What follows the first of `count` convolutions."""
    return nn.Sequential(*(_convolution(channels, channels) for _ in range(count - 1)))


def _head(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.Conv2d(inputs, outputs, 1))


def _masks(seen: Sequence[int], channels: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(map(_mask, seen, channels))


def _mask(seen: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(seen, channels, 1),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Conv2d(channels, channels, 1),
        nn.BatchNorm2d(channels),
        nn.Sigmoid(),
    )


def _start(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight)
            nn.init.zeros_(module.bias)
