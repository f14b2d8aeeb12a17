"""A split of examples, as batches. (Replaced by the full one.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from ..arguments import count, first, mapped, moved
from ..data import Split


class InMemory:
    fixed = False

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return count(self.inputs)

    def examples(self) -> int | None:
        return len(self)

    def batches(self, size: int, *, seed: int, epoch: int | None) -> Any:
        return _Batches(self, size, seed, epoch)

    def first(self, examples: int) -> Any:
        return first((self.inputs, self.targets), examples)

    def to(self, device: torch.device | str) -> InMemory:
        return InMemory(moved(self.inputs, device), moved(self.targets, device))


class _Batches:
    def __init__(self, feed: InMemory, size: int, seed: int, epoch: int | None) -> None:
        self.feed, self.size, self.seed, self.epoch = feed, size, seed, epoch

    def __len__(self) -> int:
        return -(-len(self.feed) // self.size)

    def __iter__(self) -> Iterator[Any]:
        n = len(self.feed)
        if self.epoch is None:
            order = torch.arange(n)
        else:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(n, generator=generator)
        for place in range(len(self)):
            at = (
                min(place * self.size, max(0, n - 2))
                if self.epoch is not None
                else place * self.size
            )
            rows = order[at : (place + 1) * self.size]
            yield mapped(lambda t: t[rows.to(t.device)], (self.feed.inputs, self.feed.targets))


def feed_of(examples: Any, name: str) -> InMemory:
    if isinstance(examples, Split):
        return InMemory(examples.inputs, examples.labels)
    return InMemory(*examples)
