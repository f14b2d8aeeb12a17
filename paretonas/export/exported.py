"""The result of an export: the file, its size, and the largest difference of its outputs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

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


def difference(expected: Tensor, found: Tensor, what: str) -> float:
    """The largest absolute difference; equal infinities do not differ.

    Raises:
        RuntimeError: the difference is more than rounding, the shapes differ, only one side has an
            infinity or NaN, or the network gives NaN, which cannot be compared.
    """
    if expected.shape != found.shape:
        raise RuntimeError(
            f"{what} gives outputs of shape {tuple(found.shape)}, "
            f"the network of shape {tuple(expected.shape)}"
        )
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
    allowed = _TOLERANCE * max(1.0, float(expected[finite].abs().max()) if len(apart) else 0.0)
    if largest > allowed:
        raise RuntimeError(
            f"{what} does not give the network's outputs: they differ by {largest:.3g}, "
            f"rounding explains only {allowed:.3g}"
        )
    return largest
