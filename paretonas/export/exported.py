"""The result of an export: the file, its size, and the largest difference of its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from paretonas.arguments import tensors

# Other kernels add in another order, so float32 outputs differ in the last bits, relative to the
# largest output. A wrong operation gives a much larger difference.
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Exported:
    """A written file; if it can run, it was loaded again and its outputs were compared.

    Attributes:
        path: the file.
        bytes: the size of the file.
        max_difference: the largest absolute difference between an output of the file and of the
            network; None for files that do not run.
        beside: other files that belong to it.
    """

    path: Path
    bytes: int
    max_difference: float | None = None
    beside: tuple[Path, ...] = ()


def difference(expected: Any, found: Any, what: str) -> float:
    """The largest absolute difference of tensors, or of nests tensor by tensor.

    Equal infinities do not differ. Values that are not floating point must be equal.

    Raises:
        RuntimeError: the difference is more than rounding, the nests or shapes differ, only one
            side has an infinity or NaN, or the network gives NaN, which cannot be compared.
    """
    ours, theirs = tree_leaves(expected), tree_leaves(found)
    kinds = [[isinstance(leaf, Tensor) or leaf for leaf in leaves] for leaves in (ours, theirs)]
    if kinds[0] != kinds[1]:
        raise RuntimeError(
            f"{what} gives {_told(theirs)}, the network gives {_told(ours)}, which is not the same"
        )
    pairs = zip(tensors(ours), tensors(theirs), strict=True)
    return max((_difference(a, b, what) for a, b in pairs), default=0.0)


def _told(leaves: list[Any]) -> str:
    return str([f"Tensor{tuple(v.shape)}" if isinstance(v, Tensor) else v for v in leaves])


def _difference(expected: Tensor, found: Tensor, what: str) -> float:
    if expected.shape != found.shape:
        raise RuntimeError(
            f"{what} gives outputs of shape {tuple(found.shape)}, "
            f"the network of shape {tuple(expected.shape)}"
        )
    exact = not (expected.is_floating_point() or expected.is_complex())
    if expected.is_complex():
        expected, found = torch.view_as_real(expected), torch.view_as_real(found)
    expected, found = expected.double(), found.double()
    if expected.isnan().any():
        raise RuntimeError(
            f"the network gives NaN in {int(expected.isnan().sum())} of {expected.numel()} "
            f"outputs, so {what} cannot be compared with it"
        )
    finite = expected.isfinite() & found.isfinite()
    unlike = ~finite & (expected != found)
    if unlike.any():
        raise RuntimeError(
            f"{what} does not give the network's outputs: {float(found[unlike][0])} where the "
            f"network gives {float(expected[unlike][0])}"
        )
    apart = (expected - found)[finite].abs()
    largest = float(apart.max()) if len(apart) else 0.0
    allowed = (
        0.0
        if exact
        else _TOLERANCE * max(1.0, float(expected[finite].abs().max()) if len(apart) else 0.0)
    )
    if largest > allowed:
        raise RuntimeError(
            f"{what} does not give the network's outputs: they differ by {largest:.3g}, "
            f"rounding explains only {allowed:.3g}"
        )
    return largest
