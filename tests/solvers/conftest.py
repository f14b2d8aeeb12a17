"""Jacobians that solvers must survive, each built from a seed, and the solvers that must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor

from paretonas.solvers import Solver
from paretonas.solvers.claims import CLAIMS
from paretonas.solvers.conformance import Claims


def ray(m: int) -> Tensor:
    """A preference with unequal entries."""
    steps = torch.arange(1, m + 1, dtype=torch.float64)
    return steps / steps.sum()


def _aimed(build: Callable[[int], Solver]) -> Callable[[int], Solver]:
    return lambda m: replace(build(m), preference=ray(m))


# Every public solver as it comes, and aimed if it can be.
SOLVERS: dict[str, Callable[[int], Solver]] = {}
for title, (make_one, _) in CLAIMS.items():
    SOLVERS[title] = make_one
    if "preference" in {field.name for field in fields(make_one(2))}:
        SOLVERS[f"{title} aimed"] = _aimed(make_one)


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


@pytest.fixture(params=list(SOLVERS))
def promising(request: pytest.FixtureRequest) -> tuple[Callable[[int], Solver], Claims]:
    """Every solver in turn and what it promises; claims are for equal preferences only."""
    title, _, aimed = request.param.partition(" ")
    claims = CLAIMS[title][1]
    return SOLVERS[request.param], Claims(deterministic=claims.deterministic) if aimed else claims


@pytest.fixture(params=list(CLAIMS))
def name(request: pytest.FixtureRequest) -> str:
    """Every solver's name in turn."""
    return str(request.param)


@pytest.fixture
def jacobians() -> list[tuple[str, Tensor]]:
    """Named jacobians of every kind and shape in float64; the same on each run."""
    return drawn(0, SHAPES)


def drawn(seed: int, shapes: list[tuple[int, int]]) -> list[tuple[str, Tensor]]:
    """One jacobian of every kind and shape."""
    found = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            for name, make in MATRICES.items():
                found += [(f"{name} {m}x{n}", make(m, n)) for m, n in shapes]
        finally:
            torch.set_default_dtype(before)
    return found


@pytest.fixture
def values() -> Callable[[int], Tensor]:
    """Positive, unequal values for m objectives."""
    return lambda m: torch.linspace(0.2, 0.9, m, dtype=torch.float64).flip(0)
