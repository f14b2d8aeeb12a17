"""Every promise of the table holds on all jacobians tried, and every "no" has a counterexample."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas.solvers.claims import CLAIMS, promised, table
from paretonas.solvers.conformance import (
    KINDS,
    MEASURES,
    NEARLY_STATIONARY,
    check_solver,
    equal_values,
    full_digits,
    not_strongly_stationary,
    stationarity_gap,
)

PAGE = Path(__file__).parents[2] / "docs" / "solvers.md"


SIZES = (1, 2, 3, 6)  # others are drawn below


def test_every_solver_passes_the_check_at_one_size_after_the_other(promising, request):
    build, claims = promising
    m = SIZES[request.node.callspec.indices["promising"] % len(SIZES)]
    check_solver(build(m), claims, objectives=(m,))


@pytest.mark.deep
def test_every_solver_passes_the_check_at_every_size(promising):
    build, claims = promising
    for m in SIZES:
        check_solver(build(m), claims, objectives=(m,))


@pytest.mark.hypothesis  # said here, as the function that is given examples is inside
def test_every_promise_holds(name):
    build, _ = CLAIMS[name]

    @settings(max_examples=settings.default.max_examples // 5, database=None)
    @given(
        kind=st.sampled_from(KINDS),
        m=st.integers(1, 7),
        n=st.integers(1, 12),
        seed=st.integers(0, 10**6),
        power=st.sampled_from([-30, -5, 0, 0, 5, 30]),
    )
    def hold(kind, m, n, seed, power):
        rows = full_digits(kind, m, n, seed) * 10.0**power
        if stationarity_gap(rows) < NEARLY_STATIONARY:
            return  # the next test
        for promise, (measure, tolerance) in MEASURES.items():
            if promised(name, promise):
                assert measure(build(m), rows, seed) <= tolerance, promise

    hold()


def test_every_no_has_a_counterexample(name):
    build, claims = CLAIMS[name]
    for promise, (measure, tolerance) in MEASURES.items():
        if promised(name, promise):
            continue
        tried = (
            (full_digits(kind, m, n, seed), seed)
            for seed in range(40)
            for kind in KINDS
            for m, n in ((3, 4), (2, 3), (5, 4))
        )
        assert any(
            measure(build(len(rows)), rows, seed) > 10 * tolerance for rows, seed in tried
        ), f"{name} is said not to be {promise}, but nothing shows it"
    if not claims.strongly_stationary:
        assert any(_stopped(build, rows) for rows in stopping_points())


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
        for values in (falling, equal_values(len(rows)))
    )


def _solve(build, rows, values):
    return build(len(rows))(rows, values).vector


def test_the_page_shows_this_table():
    shown = re.search(r"<!-- claims: start -->\n(.*)\n<!-- claims: end -->", PAGE.read_text(), re.S)
    assert shown is not None
    assert shown.group(1) == table(), "run paretonas/solvers/claims.py"
