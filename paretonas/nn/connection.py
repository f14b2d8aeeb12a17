"""A choice of connections: which of several tensors go on, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from .choices import Chooser, ShapeError
from .extraction import Extraction


class Connect(Chooser):
    """A choice of which tensors are summed, as in the cells of DARTS.

    Each tensor has a branch of its own, which runs only if the tensor is taken. A branch may hold
    choices itself.

    >>> from paretonas.nn import OneOf
    >>> node = Connect([OneOf({"conv": nn.Conv2d(8, 8, 3, 1, 1), "skip": nn.Identity()})
    ...                 for _ in range(3)], take=2)  # 0+1, 0+2 or 1+2

    Called as ``node(x0, x1, x2)``, it gives the sum over the taken ones. All branches give tensors
    of one shape.

    Args:
        branches: one for each tensor; a number stands for that many identities.
        take: how many are taken: a number, or several.
        name: choices of the same name are one choice.

    Attributes:
        blocks: the branches.
        taken: for each option, which branches it takes.

    Raises:
        ValueError: `take` is not between 1 and the number of branches.
        ShapeError: in a forward pass, if two branches give different shapes.

    References:
        Liu et al. 2019, "DARTS: Differentiable Architecture Search" (arXiv 1806.09055), where each
        node keeps two inputs.
    """

    def __init__(
        self,
        branches: Sequence[nn.Module] | int,
        take: int | Sequence[int] = 1,
        name: str | None = None,
    ) -> None:
        if isinstance(branches, int):
            branches = [nn.Identity() for _ in range(branches)]
        counts = [take] if isinstance(take, int) else sorted(set(take))
        if not counts or not all(1 <= count <= len(branches) for count in counts):
            raise ValueError(f"take must be between 1 and {len(branches)}, got {take}")
        taken = [each for n in counts for each in combinations(range(len(branches)), n)]
        super().__init__(["+".join(map(str, each)) for each in taken], name)
        self.taken = tuple(taken)
        self.blocks = nn.ModuleList(branches)

    def forward(self, *tensors: Tensor) -> Tensor:
        """The sum of the branches that are taken; in a mixture, each by its probability."""
        if len(tensors) != len(self.blocks):
            raise ValueError(
                f"a Connect of {len(self.blocks)} branches takes as many tensors, got "
                f"{len(tensors)}"
            )
        gate = self.gated()
        if isinstance(gate, int):
            return _sum([self.blocks[i](tensors[i]) for i in self.taken[gate]])
        found = []
        for index, block in enumerate(self.blocks):
            holding = torch.tensor([index in each for each in self.taken], device=gate.device)
            y = block(tensors[index].clone())
            found.append((gate * holding).sum().to(y.dtype) * y)
        return _sum(found)

    def ranks(self) -> Sequence[int]:
        """How many branches each option takes."""
        return [len(each) for each in self.taken]

    def uses(self, part: str) -> frozenset[int]:
        """The picks that take a branch."""
        return frozenset(i for i, each in enumerate(self.taken) if int(part) in each)

    def extracted(self, memo: Extraction) -> nn.Module:
        """The branches that are taken, and their sum."""
        taken = self.taken[self.decided()]
        plain = Connected(taken, [memo.copy_of(self.blocks[i]) for i in taken])
        plain.training = self.training
        return plain


class Connected(nn.ModuleList):
    """What a `Connect` becomes: a list of branches, which gives their sum.

    Attributes:
        taken: which tensor each branch gets.
    """

    def __init__(self, taken: Sequence[int], branches: Sequence[nn.Module]) -> None:
        super().__init__(branches)
        self.taken = tuple(taken)

    def forward(self, *tensors: Any) -> Any:
        """The sum of the branches on their tensors."""
        return _sum([branch(tensors[i]) for i, branch in zip(self.taken, self, strict=True)])


def _sum(found: Sequence[Tensor]) -> Tensor:
    total = found[0]
    for y in found[1:]:
        if y.shape != total.shape:
            raise ShapeError(
                f"the branches of a Connect must give one shape, got {tuple(total.shape)} and "
                f"{tuple(y.shape)}"
            )
        total = total + y
    return total
