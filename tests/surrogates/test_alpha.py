"""Rays, aiming, scaling and driving alpha, on problems whose answer is known."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from paretonas.relaxation import picks_of, probabilities
from paretonas.solvers import (
    EPO,
    MGDA,
    LinearScalarization,
    PCGrad,
    SmoothTchebycheff,
    UPGrad,
    Weighted,
)
from paretonas.surrogates.alpha import Scale, optimize_alpha, projected, rays, with_preference

SIZES = (3, 4)


def lattice_size(m: int, parts: int) -> int:
    return math.comb(parts + m - 1, m - 1)


@settings(max_examples=40)
@given(st.integers(1, 4), st.integers(1, 60), st.sampled_from([0.0, 0.02, 0.1]))
def test_rays_are_the_smallest_lattice_on_the_simplex_that_suffices(m, count, least):
    found = rays(m, count, least)
    parts = 1
    while m > 1 and lattice_size(m, parts) < count:
        parts += 1
    assert found.shape == (lattice_size(m, parts), m)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(len(found)))
    assert (found >= least - 1e-6).all()
    assert len(set(map(tuple, found.tolist()))) == len(found)
    raw = rays(m, count, least=0.0)
    torch.testing.assert_close(raw * parts, (raw * parts).round())  # equal distances
    corners = {tuple(row) for row in torch.eye(m).tolist()}
    assert corners <= set(map(tuple, raw.tolist()))


def test_a_solver_with_a_preference_to_fill_gets_the_rays():
    preference = rays(2, 3)
    for solver in (SmoothTchebycheff(mu=0.3), LinearScalarization(), EPO()):
        pointed = with_preference(solver, preference)
        assert type(pointed) is type(solver)
        assert pointed.preference is preference
        assert solver.preference is None  # the one given stays as it was
    assert with_preference(SmoothTchebycheff(mu=0.3), preference).mu == 0.3


def test_any_other_solver_is_wrapped():
    preference = rays(2, 3)
    for solver in (MGDA(), PCGrad(), UPGrad()):
        pointed = with_preference(solver, preference)
        assert isinstance(pointed, Weighted)
        assert pointed.inner is solver
        assert pointed.preference is preference

    def plain(jacobian, values=None, state=None):
        return MGDA()(jacobian, values, state)

    assert with_preference(plain, preference).inner is plain  # a function may be a solver


def test_a_preference_that_is_there_is_kept():
    own = torch.tensor([0.3, 0.7])
    for solver in (LinearScalarization(own), Weighted(own, MGDA())):
        assert with_preference(solver, rays(2, 3)) is solver


def tables(seed: int = 0) -> torch.Tensor:
    """(K, 2) what each option costs: two objectives that are sums over choices."""
    return torch.rand(sum(SIZES), 2, generator=torch.Generator().manual_seed(seed))


def every_cost(table: torch.Tensor) -> tuple[list[tuple[int, ...]], torch.Tensor]:
    """All architectures, and (12, 2) their costs."""
    picks = list(itertools.product(*(range(size) for size in SIZES)))
    parts = table.split(list(SIZES))
    costs = [sum(part[i] for part, i in zip(parts, row, strict=True)) for row in picks]
    return picks, torch.stack(costs)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", [LinearScalarization(), SmoothTchebycheff(mu=0.01)])
def test_each_ray_ends_at_its_own_best_architecture(solver, seed):
    """Of separable costs the linear optimum is a vertex: the architecture of least weighted sum.

    Smooth Tchebycheff balances expectations instead: its best *distribution* is compared.
    """
    table = tables(seed)
    preference = rays(2, 6)
    start = torch.zeros(len(preference), sum(SIZES))
    *_, last = optimize_alpha(
        start, SIZES, lambda p: p @ table, with_preference(solver, preference), steps=200
    )
    p = probabilities(last.alpha, SIZES, 0.3)
    picks, costs = every_cost(table)
    if isinstance(solver, LinearScalarization):
        sums = costs @ preference.T  # (12, r)
        decided = [tuple(row) for row in picks_of(p, SIZES).tolist()]
        for ray, found in enumerate(decided):
            assert sums[picks.index(found), ray] == pytest.approx(float(sums[:, ray].min()))
        return
    reached = (preference * (p @ table)).amax(dim=1)
    # A mixture of two architectures, joined to the best: the least maximum on the convex hull.
    share = torch.linspace(0, 1, 201)[:, None, None, None]
    mixed = share * costs[None, :, None] + (1 - share) * costs[None, None, :]
    best = (mixed.flatten(0, 2)[:, None] * preference).amax(dim=-1).amin(dim=0)
    assert (reached <= best * 1.1 + 0.01).all()
    assert (reached >= best - 1e-3).all()  # nothing is below the optimum


def test_rays_do_not_interact():
    table = tables(1)
    preference = rays(2, 5)
    solver = SmoothTchebycheff()
    start = torch.randn(len(preference), sum(SIZES), generator=torch.Generator().manual_seed(0))
    batched = list(
        optimize_alpha(
            start, SIZES, lambda p: p @ table, with_preference(solver, preference), steps=30
        )
    )
    for ray in range(len(preference)):
        alone = list(
            optimize_alpha(
                start[ray : ray + 1],
                SIZES,
                lambda p: p @ table,
                with_preference(solver, preference[ray : ray + 1]),
                steps=30,
            )
        )
        torch.testing.assert_close(alone[-1].alpha[0], batched[-1].alpha[ray], rtol=0, atol=1e-4)
        torch.testing.assert_close(alone[-1].values[0], batched[-1].values[ray], rtol=0, atol=1e-4)


def test_steps_tell_the_values_before_them_and_leave_the_start_alone():
    table = tables()
    start = torch.zeros(2, sum(SIZES))
    solver = with_preference(LinearScalarization(), rays(2, 2))
    steps = list(optimize_alpha(start, SIZES, lambda p: p @ table, solver, steps=5))
    assert len(steps) == 5
    assert torch.equal(start, torch.zeros_like(start))
    flat = probabilities(start, SIZES) @ table
    torch.testing.assert_close(steps[0].values, flat)
    assert not steps[-1].alpha.requires_grad
    assert not steps[-1].values.requires_grad
    assert steps[0].cosines.shape == (2, 2)
    torch.testing.assert_close(steps[0].cosines.diagonal().float(), torch.ones(2))
    alphas = {tuple(step.alpha.flatten().tolist()) for step in steps}
    assert len(alphas) == 5  # each step keeps its own


def test_the_temperature_falls_from_blurred_to_decided():
    seen = []

    def relaxed(p):
        seen.append(p.detach())
        return p @ torch.zeros(sum(SIZES), 2) + 0 * p.sum(dim=1, keepdim=True) + 1

    start = torch.randn(1, sum(SIZES), generator=torch.Generator().manual_seed(0))
    solver = with_preference(LinearScalarization(), rays(2, 2)[:1])
    list(optimize_alpha(start, SIZES, relaxed, solver, steps=4, temperatures=(2.0, 0.25)))
    for p, temperature in zip(seen, (2.0, 1.0, 0.5, 0.25), strict=True):
        torch.testing.assert_close(p, probabilities(start, SIZES, temperature))


@pytest.mark.parametrize("shift", [0.0, -5.0])
def test_values_below_zero_stop_no_solver(shift):
    """Scaled values are 0 at the best that is known, and alpha may lead beyond it."""
    table = tables()
    solver = with_preference(EPO(), rays(2, 3))
    start = torch.zeros(3, sum(SIZES))
    steps = list(optimize_alpha(start, SIZES, lambda p: p @ table + shift, solver, steps=20))
    assert all(torch.isfinite(step.alpha).all() for step in steps)


positive = st.lists(
    st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3), min_size=1, max_size=6
).map(lambda rows: torch.tensor(rows, dtype=torch.float64))


@given(positive)
def test_a_scale_brings_what_is_known_to_0_and_1_and_back(values):
    scale = Scale.of(values)
    scaled = scale(values.log())
    assert scaled.min() >= -1e-9
    assert scaled.max() <= 1 + 1e-9
    spread = values.amax(dim=0) > values.amin(dim=0) * (1 + 1e-6)
    torch.testing.assert_close(scaled.amin(dim=0), torch.zeros(3).double(), rtol=0, atol=1e-6)
    assert ((scaled.amax(dim=0) - 1).abs()[spread] < 1e-6).all()
    torch.testing.assert_close(scale.undo(scaled), values, rtol=1e-6, atol=0)


def test_a_scale_does_not_see_units():
    values = torch.tensor([[1.0, 20.0], [4.0, 80.0], [2.0, 30.0]], dtype=torch.float64)
    in_bytes = values * torch.tensor([1.0, 1024.0])
    one, other = (Scale.of(v)(v.log()) for v in (values, in_bytes))
    torch.testing.assert_close(one, other)


def test_a_cost_of_nothing_has_a_scale():
    values = torch.tensor([[1.0, 0.0], [2.0, 3.0]])
    scale = Scale.of(values)
    scaled = scale(values.clamp_min(1e-9).log())
    assert torch.isfinite(scaled).all()
    torch.testing.assert_close(scaled, torch.tensor([[0.0, 0.0], [1.0, 1.0]]))


def test_excess_counts_only_what_is_beyond_a_limit():
    scale = Scale.of(torch.tensor([[1.0, 1.0], [math.e, math.e**2]], dtype=torch.float64))
    logs = torch.tensor([[0.5, 1.0], [0.0, 2.0], [2.0, 0.0]], dtype=torch.float64)
    found = scale.excess(logs, torch.tensor([math.inf, 0.5]))
    expected = torch.tensor([[0.0, 0.25], [0.0, 0.75], [0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    assert not scale.excess(logs, torch.full((2,), math.inf)).any()


def test_a_projected_direction_is_the_nearest_in_its_half_space():
    """A general program is the oracle: min |d - v|^2 such that g . d >= |g| |v|."""
    generator = torch.Generator().manual_seed(0)
    vectors, rows = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    rows[0] = 5 * vectors[0]  # falls as fast already
    found = projected(vectors, rows)
    torch.testing.assert_close(found[0], vectors[0])
    for vector, row, mine in zip(vectors.numpy(), rows.numpy(), found.numpy(), strict=True):
        unit, least = row / np.linalg.norm(row), np.linalg.norm(vector)
        limit = {"type": "ineq", "fun": lambda d, u=unit, t=least: u @ d - t}
        best = minimize(
            lambda d, v=vector: ((d - v) ** 2).sum(), vector, constraints=[limit], tol=1e-12
        )
        np.testing.assert_allclose(mine, best.x, atol=1e-5)


def test_rays_that_violate_a_limit_come_within_it():
    """The best options cost most; a limit on the cost leaves the others."""
    worth, cost = torch.tensor([[3.0, 2.0, 0.0] * 3, [0.0, 1.0, 3.0] * 3])
    start = 0.1 * torch.randn(5, 9, generator=torch.Generator().manual_seed(0))
    preference = torch.tensor([[0.98, 0.02]]).expand(5, 2)
    ends = {}
    for name, violation in {"free": None, "limited": lambda p: torch.relu(p @ cost - 4)}.items():
        *_, last = optimize_alpha(
            start,
            (3, 3, 3),
            lambda p: torch.stack([p @ worth, p @ cost], dim=1),
            LinearScalarization(preference=preference),
            steps=80,
            violation=violation,
        )
        ends[name] = probabilities(last.alpha, (3, 3, 3), 0.3) @ cost
    assert (ends["free"] > 8).all()
    assert (ends["limited"] < 4.2).all() and (ends["limited"] > 3).all()
