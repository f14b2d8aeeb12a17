"""Averages over the processes of a group; each process has a part of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.distributed
from torch import Tensor

from paretonas.gradients.flatten import flatten, unflatten

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def average(tensors: Sequence[Tensor], group: ProcessGroup) -> None:
    """Replace each tensor by its mean over the processes, in place."""
    # Start all messages before waiting for the first one.
    sent = [torch.distributed.all_reduce(t, group=group, async_op=True) for t in tensors]
    for tensor, message in zip(tensors, sent, strict=True):
        message.wait()
        tensor /= group.size()


def average_rows(
    rows: Sequence[Sequence[Tensor | None]], parameters: Sequence[Tensor], group: ProcessGroup
) -> list[list[Tensor | None]]:
    """Average gradients with one message per row; a missing gradient counts as 0."""
    flat = [flatten(row, parameters) for row in rows]
    average(flat, group)
    return [list(unflatten(row, parameters)) for row in flat]
