"""Every promise of the table holds on all jacobians tried, and every "no" has a counterexample."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

PAGE = Path(__file__).parents[2] / "docs" / "solvers.md"


def _values(m):
    return torch.full((m,), 0.5, dtype=torch.float64)


def _unit(vector):
    vector = vector.double() / vector.double().abs().max().clamp_min(1e-300)
    return vector / vector.norm().clamp_min(1e-300)


def _units(rows):
    return torch.stack([_unit(row) for row in rows])


def _gap(rows):
    from paretonas.solvers import MGDA

    return MGDA()(rows).certificate.stationarity_gap.item()


def _solve(build, rows, values=None):
    return build(len(rows))(rows, _values(len(rows)) if values is None else values).vector


# --- how far a promise is broken on one jacobian, 0 where it holds ----------------------------


def conflict(build, rows, seed):
    vector = _solve(build, rows)
    return max(0.0, -(_units(rows) @ _unit(vector)).min().item())


def equivariance(build, rows, seed):
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
    values = torch.linspace(0.2, 0.9, len(rows), dtype=torch.float64)
    plain, turned = _solve(build, rows, values), _solve(build, rows[order], values[order])
    return _apart(plain, turned)


def linearity(build, rows, seed):
    one, two = 10 ** torch.empty(2, len(rows), 1, dtype=torch.float64).uniform_(
        -1, 1, generator=torch.Generator().manual_seed(seed)
    )
    parts = _solve(build, one * rows), _solve(build, two * rows)
    both = _solve(build, (one + two) * rows)
    return _apart(parts[0] + parts[1], both, *parts)


def invariance(build, rows, seed):
    factors = 10 ** torch.empty(len(rows), 1, dtype=torch.float64).uniform_(
        -1, 1, generator=torch.Generator().manual_seed(seed)
    )
    return _apart(_unit(_solve(build, rows)), _unit(_solve(build, factors * rows)))


def repetition(build, rows, seed):
    solver = build(len(rows))
    one, two = (solver(rows, _values(len(rows))).vector for _ in range(2))
    return _apart(one, two)


def _apart(one, other, *more):
    size = max(vector.norm().item() for vector in (one, other, *more))
    return (one - other).norm().item() / max(size, 1e-300)


MEASURES = {
    "non_conflicting": (conflict, 1e-6),
    "equivariant": (equivariance, 1e-6),
    "linear": (linearity, 1e-6),
    "invariant": (invariance, 1e-6),
    "deterministic": (repetition, 1e-12),
}
PROMISES = [*MEASURES, "strongly_stationary"]


def _matrix(kind, m, n, seed):
    """A jacobian with full digits; those near stationarity have directions of pure rounding."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(m, n, dtype=torch.float64, generator=generator)
    if kind == "conflicting":
        rows = rows - 2 * rows.mean(0) + 0.3 * torch.randn(1, n, generator=generator)
    elif kind == "low rank":
        rank = min(m, n, 2)
        rows = torch.randn(m, rank, dtype=torch.float64, generator=generator) @ rows[:rank]
    elif kind == "apart":
        rows = rows * torch.logspace(-3, 3, m, dtype=torch.float64).unsqueeze(1)
    elif kind == "duplicates":
        rows[-1] = rows[0]
    elif kind == "agreeing":
        rows = rows.abs() + 0.1
    elif kind == "wide":
        rows = rows * 10 ** torch.empty(m, 1).uniform_(-2, 2, generator=generator)
    return rows


KINDS = ["random", "conflicting", "low rank", "apart", "duplicates", "agreeing", "wide"]


def test_every_promise_holds(name, claims):
    claim = claims[name]

    @settings(max_examples=60, database=None)
    @given(
        kind=st.sampled_from(KINDS),
        m=st.integers(1, 7),
        n=st.integers(1, 12),
        seed=st.integers(0, 10**6),
        power=st.sampled_from([-30, -5, 0, 0, 5, 30]),
    )
    def hold(kind, m, n, seed, power):
        rows = _matrix(kind, m, n, seed) * 10.0**power
        if _gap(rows) < 1e-5:
            return  # the next test
        for promise, (measure, tolerance) in MEASURES.items():
            if getattr(claim, promise):
                assert measure(claim.build, rows, seed) <= tolerance, promise

    hold()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_promised_not_to_conflict_even_at_stationary_points(name, claims, jacobians, dtype):
    if not claims[name].non_conflicting:
        pytest.skip("makes no such promise")
    for label, rows in jacobians:
        assert conflict(claims[name].build, rows.to(dtype), 0) <= 1e-6, label


def not_strongly_stationary(m, n, seed):
    """Rows of which no strictly positive combination is 0, though a convex one may be.

    The first row is orthogonal to all others, so its weight in a vanishing combination is 0; of
    the others, the second is minus a positive combination of the rest.
    """
    rows = torch.randn(m, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    axis = _unit(rows[0])
    rows[1:] -= (rows[1:] @ axis).unsqueeze(1) * axis
    if m > 2:
        rows[1] = -rows[2:].mean(0)
    return rows


def test_strongly_stationary_means_that_only_such_points_stop_it(name, claims):
    claim, stopped = claims[name], []
    for m in (2, 3, 4, 6):
        for seed in range(5):
            rows = not_strongly_stationary(m, 8, seed)
            length = _solve(claim.build, rows).norm() / rows.norm(dim=1).mean()
            stopped.append(length < 1e-6)
    if claim.strongly_stationary:
        assert not any(stopped)


def test_every_no_has_a_counterexample(name, claims):
    claim = claims[name]
    for promise, (measure, tolerance) in MEASURES.items():
        if getattr(claim, promise):
            continue
        tried = (
            (_matrix(kind, m, n, seed), seed)
            for seed in range(40)
            for kind in KINDS
            for m, n in ((3, 4), (2, 3), (5, 4))
        )
        assert any(measure(claim.build, rows, seed) > 10 * tolerance for rows, seed in tried), (
            f"{name} is said not to be {promise}, but nothing shows it"
        )
    if not claim.strongly_stationary:
        assert any(_stopped(claim.build, rows) for rows in stopping_points())


def stopping_points():
    """Jacobians of which no strictly positive combination is 0, each made to stop some method."""
    for m in (2, 3, 4):
        yield not_strongly_stationary(m, 8, 0)
        first_is_zero = torch.randn(m, 8, dtype=torch.float64)
        first_is_zero[0] = 0.0
        yield first_is_zero
    # In each coordinate the squares, with their signs, add up to 0; but a combination of rows that
    # vanishes would need equal weights, and the plain sums do not vanish.
    root = 2**0.5
    yield torch.tensor([[1, 1, -root], [1, -root, 1], [-root, 1, 1]], dtype=torch.float64)


def _stopped(build, rows):
    falling = torch.linspace(0.9, 0.2, len(rows), dtype=torch.float64)
    return any(
        _solve(build, rows, values).norm() < 1e-6 * rows.norm(dim=1).mean()
        for values in (falling, _values(len(rows)))
    )


def test_the_page_shows_this_table(table):
    shown = re.search(r"<!-- claims: start -->\n(.*)\n<!-- claims: end -->", PAGE.read_text(), re.S)
    assert shown is not None
    assert shown.group(1) == table(), "run experiments/solver_claims.py"
