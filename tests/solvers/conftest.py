"""Jacobians that solvers must survive, each built from a seed, and the solvers that must."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from paretonas.solvers import (
    EPO,
    MGDA,
    DualProj,
    LinearScalarization,
    PCGrad,
    PriorityProjection,
    RandomWeights,
    SmoothTchebycheff,
    Solver,
    Tchebycheff,
    UPGrad,
    Weighted,
)


def ray(m: int) -> Tensor:
    """A preference with unequal entries."""
    steps = torch.arange(1, m + 1, dtype=torch.float64)
    return steps / steps.sum()


# One line per public solver: how to build it for m objectives.
SOLVERS: dict[str, Callable[[int], Solver]] = {
    "DualProj": lambda m: DualProj(),
    "EPO": lambda m: EPO(ray(m)),
    "LinearScalarization": lambda m: LinearScalarization(ray(m)),
    "MGDA": lambda m: MGDA(),
    "PCGrad": lambda m: PCGrad(),
    "PriorityProjection": lambda m: PriorityProjection(),
    "RandomWeights": lambda m: RandomWeights(torch.Generator().manual_seed(m)),
    "SmoothTchebycheff": lambda m: SmoothTchebycheff(ray(m)),
    "Tchebycheff": lambda m: Tchebycheff(ray(m)),
    "UPGrad": lambda m: UPGrad(),
    "Weighted": lambda m: Weighted(ray(m), MGDA()),
}


def _low_rank(m: int, n: int) -> Tensor:
    return torch.randn(m, 1 + m // 3) @ torch.randn(1 + m // 3, n)


def _duplicates(m: int, n: int) -> Tensor:
    rows = torch.randn(m, n)
    rows[-1] = rows[0]
    return rows


def _opposite(m: int, n: int) -> Tensor:
    rows = torch.randn(m, n)
    rows[-1] = -3 * rows[0]
    return rows


def _zero_row(m: int, n: int) -> Tensor:
    rows = torch.randn(m, n)
    rows[m // 2] = 0.0
    return rows


def _stationary(m: int, n: int) -> Tensor:
    """The last row is minus a positive combination of the others, so their hull contains 0."""
    rows = torch.randn(m, n)
    rows[-1] = -(torch.rand(m - 1, 1) * rows[:-1]).sum(0)
    return rows


def _near_parallel(m: int, n: int) -> Tensor:
    return torch.randn(1, n) + 1e-4 * torch.randn(m, n)


def _near_opposite(m: int, n: int) -> Tensor:
    signs = torch.tensor([1.0, -1.0]).repeat(m)[:m, None]
    return signs * torch.randn(1, n) + 1e-4 * torch.randn(m, n)


def _apart(m: int, n: int) -> Tensor:
    return torch.randn(m, n) * torch.logspace(-3, 3, m)[:, None]


def _agreeing(m: int, n: int) -> Tensor:
    return torch.rand(m, n) + 0.1


MATRICES: dict[str, Callable[[int, int], Tensor]] = {
    "random": torch.randn,
    "low rank": _low_rank,
    "duplicates": _duplicates,
    "opposite": _opposite,
    "zero row": _zero_row,
    "all zero": torch.zeros,
    "stationary": _stationary,
    "near parallel": _near_parallel,
    "near opposite": _near_opposite,
    "rows 1e6 apart": _apart,
    "agreeing": _agreeing,
    "tiny": lambda m, n: 1e-30 * torch.randn(m, n),
    "huge": lambda m, n: 1e30 * torch.randn(m, n),
}
SHAPES = [(1, 4), (2, 1), (2, 5), (3, 2), (3, 50), (4, 4), (6, 3), (7, 30)]  # m > n among them


@pytest.fixture(params=list(SOLVERS))
def build(request: pytest.FixtureRequest) -> Callable[[int], Solver]:
    """Every solver in turn."""
    return SOLVERS[request.param]


@pytest.fixture
def under_law() -> set[str]:
    """The names of the solvers above."""
    return set(SOLVERS)


@pytest.fixture
def jacobians() -> list[tuple[str, Tensor]]:
    """Named jacobians of every kind and shape in float64; the same on each run."""
    return _jacobians()


@pytest.fixture
def values() -> Callable[[int], Tensor]:
    """Positive, unequal values for m objectives."""
    return lambda m: torch.linspace(0.2, 0.9, m, dtype=torch.float64).flip(0)


def _jacobians() -> list[tuple[str, Tensor]]:
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            for name, make in MATRICES.items():
                found += [(f"{name} {m}x{n}", make(m, n)) for m, n in SHAPES]
        finally:
            torch.set_default_dtype(before)
    return found
