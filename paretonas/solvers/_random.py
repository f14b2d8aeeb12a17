"""The random numbers of random solvers."""

from __future__ import annotations

import torch
from torch import Tensor


def check_generator(generator: object) -> None:
    """Accept None or a `torch.Generator`, not a seed.

    Raises:
        TypeError: it is something else.
    """
    if generator is None or isinstance(generator, torch.Generator):
        return
    hint = (
        f"; write torch.Generator().manual_seed({generator})" if isinstance(generator, int) else ""
    )
    raise TypeError(
        f"generator must be a torch.Generator or None, got {type(generator).__name__}{hint}"
    )


def coins(generator: torch.Generator | None, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Draw from [0, 1) on the generator's device; in float32 at least."""
    wide = torch.promote_types(dtype, torch.float32)
    device = "cpu" if generator is None else generator.device
    return torch.rand(shape, generator=generator, dtype=wide, device=device)
