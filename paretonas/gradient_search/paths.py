"""Which paths of a supernet an update of its weights trains: one, several, or a sandwich."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map

from .._whole import whole
from ..nn import Supernet
from ..space import Architecture
from ..training import Teacher

KINDS = ("fair", "sandwich", "distill")


@dataclass(frozen=True)
class Paths:
    """The paths of one update; their gradients are averaged.

    Random paths are drawn fairly: see `paretonas.space.fair_paths`. By the sandwich rule the
    largest and the smallest architecture are trained in each update as well. With in-place
    distillation all others learn the outputs of the largest one in place of the targets. All paths
    get the same batch, and each counts as a step of the budget.

    Attributes:
        count: random paths.
        sandwich: whether the largest and the smallest one are trained too.
        distill: whether the others learn from the largest one, which is then trained too.

    Raises:
        ValueError: a count below 1.

    References:
        Chu et al. 2021, "FairNAS" (arXiv 1907.01845): fair single paths. Yu and Huang 2019,
        "Universally Slimmable Networks" (arXiv 1903.05134): the sandwich rule and in-place
        distillation; also in Yu et al. 2020, "BigNAS" (arXiv 2003.11142).

    >>> Paths.parse("sandwich:2").passes
    4
    """

    count: int = 1
    sandwich: bool = False
    distill: bool = False

    def __post_init__(self) -> None:
        whole("the count of paths", self.count, 1)

    @classmethod
    def parse(cls, text: str) -> Paths:
        """Read ``fair``, ``sandwich`` or ``distill``, or with a number of random paths ``fair:4``.

        Raises:
            ValueError: it reads otherwise, or the number is below 1.
        """
        match = re.fullmatch(r"(\w+)(?::(\d+))?", text)
        if match is None or match[1] not in KINDS:
            raise ValueError(
                f"paths read fair, sandwich or distill, or with a number fair:4; got {text!r}"
            )
        kind = match[1]
        count = int(match[2]) if match[2] else 1
        return cls(count, sandwich=kind != "fair", distill=kind == "distill")

    def __str__(self) -> str:
        """As `parse` reads it."""
        kind = "distill" if self.distill else "sandwich" if self.sandwich else "fair"
        return kind if self.count == 1 else f"{kind}:{self.count}"

    @property
    def extremes(self) -> bool:
        """Whether the largest and the smallest architecture are among the paths."""
        return self.sandwich or self.distill

    @property
    def passes(self) -> int:
        """How many paths an update has."""
        return self.count + 2 * self.extremes

    def group(self, drawn: Iterator[Architecture], supernet: Supernet) -> list[Architecture]:
        """The paths of the next update; the largest one comes first."""
        random = [next(drawn) for _ in range(self.count)]
        if not self.extremes:
            return random
        return [supernet.extreme(largest=True), *random, supernet.extreme(largest=False)]


class Largest(Teacher):
    """Teaches what the largest path has just given for the same batch.

    Its outputs are recorded while the context `recording` is open. Scores of classes are learned by
    the Kullback-Leibler divergence of their softmax, all other outputs by the squared error.
    """

    def __init__(self, *, classes: bool) -> None:
        distill = None if classes else _squared_error
        super().__init__(nn.Identity(), weight=1.0, temperature=1.0, distill=distill)
        self._player = _Player()

    def on(self, device: torch.device) -> nn.Module:
        """A module that gives the recorded outputs, one after the other, for any inputs."""
        return self._player

    def recording(self, network: nn.Module) -> Any:
        """A hook that records the outputs of a network; remove it afterwards."""
        self._player.outputs.clear()
        record = self._player.outputs.append
        return network.register_forward_hook(
            lambda _, __, output: record(tree_map(_detached, output))
        )

    def rewind(self) -> None:
        """Begin anew with the first output, for the next path."""
        self._player.place = 0


class _Player(nn.Module):
    """Gives outputs in the order of their recording."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Any] = []
        self.place = 0

    def forward(self, *_: Any, **__: Any) -> Any:
        self.place += 1
        return self.outputs[self.place - 1]


def _detached(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def _squared_error(output: Any, teachers: Any) -> Tensor:
    pairs = zip(tree_leaves(output), tree_leaves(teachers), strict=True)
    errors = [
        functional.mse_loss(own, target)
        for own, target in pairs
        if isinstance(own, Tensor) and own.is_floating_point()
    ]
    return torch.stack(errors).sum()
