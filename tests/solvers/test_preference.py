"""Solvers that are aimed by a preference: their programs, plain oracles, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, nnls

from paretonas.solvers.epo import EPO
from paretonas.solvers.kernels.exact_lp import exact
from paretonas.solvers.kernels.hull import Candidates, shortest
from paretonas.solvers.kernels.lp import Program, Solution, lp_residual, maximize
from paretonas.solvers.linear import LinearScalarization
from paretonas.solvers.mgda import MGDA
from paretonas.solvers.pmgda import PMGDA
from paretonas.solvers.pmtl import PMTL
from paretonas.solvers.tchebycheff import SmoothTchebycheff, Tchebycheff

KINDS = [Tchebycheff, SmoothTchebycheff, EPO, PMTL, PMGDA]
RAYS = {
    2: torch.tensor([[0.85, 0.15], [0.7, 0.3], [0.5, 0.5], [0.3, 0.7], [0.15, 0.85]]).double(),
    3: torch.tensor(
        [[4, 1, 1], [1, 4, 1], [1, 1, 4], [2, 2, 2], [2.2, 2.2, 1.6]], dtype=torch.float64
    )
    / 6,
}


@pytest.fixture
def jacobian():
    """Three gradients that conflict pairwise in part."""
    torch.manual_seed(1)
    return torch.randn(3, 5, dtype=torch.float64)


def _bowls(m):
    """1 - exp(-|x - e_i|^2) for each unit vector e_i: the front is concave, and the hull of the
    e_i is the Pareto set (Fonseca and Fleming's problem, for any number of objectives)."""
    centers = torch.eye(m, m + 2, dtype=torch.float64)

    def values_and_jacobian(x):
        away = x[:, None] - centers
        near = torch.exp(-(away * away).sum(-1))
        return 1.0 - near, 2.0 * near[..., None] * away

    return values_and_jacobian


def _descend(solver, m, steps, rate=0.2):
    torch.manual_seed(0)
    problem = _bowls(m)
    x = 0.3 * torch.randn(5, m + 2, dtype=torch.float64)
    for _ in range(steps):
        values, rows = problem(x)
        x = x - rate * solver(rows, values).vector
    values, rows = problem(x)
    return values, solver(rows, values)


def _toward(preference):
    """Unit vectors where preference_i * value_i is the same for all i."""
    along = 1.0 / preference
    return along / along.norm(dim=-1, keepdim=True)


def _degrees(values, preference):
    unit = values / values.norm(dim=-1, keepdim=True)
    return torch.rad2deg(torch.acos((unit * _toward(preference)).sum(-1).clamp(-1, 1)))


def _shortest_plainly(vectors):
    """Min norm by scipy: with unit rows u_i, lambda_i = x_i / |v_i| solves a least squares."""
    size = np.linalg.norm(vectors, axis=1).min()
    if size == 0:
        return np.zeros(vectors.shape[1])
    ones = np.vstack([vectors.T / size, np.ones(len(vectors))])
    shares = nnls(ones, np.r_[np.zeros(vectors.shape[1]), 1.0])[0]
    return shares / shares.sum() @ vectors


# tiny linear programs


@settings(max_examples=60, deadline=None, database=None)
@given(m=st.integers(1, 8), k=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_linear_program_against_scipy(m, k, seed):
    rng = np.random.default_rng(seed)
    objective, matrix = rng.standard_normal(m), rng.standard_normal((k, m))
    bound = np.where(rng.random(k) < 0.5, 0.0, rng.random(k))  # zeros make it degenerate
    oracle = linprog(-objective, A_ub=matrix, b_ub=bound, A_eq=np.ones((1, m)), b_eq=[1.0])
    program = Program.of(*(a[None] for a in (objective, matrix, bound)))
    solution = maximize(program)
    assert solution.feasible.item() == (oracle.status == 0)
    if oracle.status == 0:
        assert objective @ solution.x[0] == pytest.approx(-oracle.fun, abs=1e-9)
        assert (matrix @ solution.x[0] <= bound + 1e-9).all()
        assert lp_residual(program, solution) < 1e-10


def test_linear_programs_of_a_batch_do_not_touch_each_other():
    rng = np.random.default_rng(0)
    data = rng.standard_normal((30, 3)), rng.standard_normal((30, 4, 3)), rng.random((30, 4))
    together = maximize(Program.of(*data))
    for i in range(30):
        alone = maximize(Program.of(*(part[i : i + 1] for part in data)))
        assert np.array_equal(together.feasible[i : i + 1], alone.feasible)
        assert np.array_equal(together.x[i : i + 1], alone.x)


def test_linear_programs_that_are_degenerate_have_an_answer():
    """Equal columns, rows and objectives of 0: singular bases abound, and nothing is raised."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        matrix = rng.integers(-1, 2, (1, 5, 4)).astype(float)
        objective, bound = rng.integers(-1, 2, (1, 4)).astype(float), np.zeros((1, 5))
        program = Program.of(objective, matrix, bound)
        solution = maximize(program)
        oracle = linprog(-objective[0], matrix[0], bound[0], np.ones((1, 4)), [1.0])
        assert solution.feasible.item() == (oracle.status == 0), seed
        if oracle.status == 0:
            assert objective[0] @ solution.x[0] == pytest.approx(-oracle.fun, abs=1e-9), seed
            assert lp_residual(program, solution) < 1e-12, seed


def test_lp_residual_sees_the_answer_to_another_program():
    program = Program.of(np.array([[1.0, 2.0]]), np.zeros((1, 1, 2)), np.ones((1, 1)))
    best = maximize(program)
    other = maximize(Program.of(np.array([[2.0, 1.0]]), np.zeros((1, 1, 2)), np.ones((1, 1))))
    assert lp_residual(program, best) == 0
    assert lp_residual(program, other) > 0.1


@settings(max_examples=40, deadline=None, database=None)
@given(m=st.integers(1, 6), k=st.integers(1, 6), seed=st.integers(0, 10**6))
def test_exact_arithmetic_solves_to_the_last_digit(m, k, seed):
    rng = np.random.default_rng(seed)
    objective, matrix = rng.standard_normal(m), rng.standard_normal((k, m))
    bound = np.where(rng.random(k) < 0.5, 0.0, rng.random(k))
    program = Program.of(*(a[None] for a in (objective, matrix, bound)))
    x, feasible, prices = exact(program.objective[0], program.matrix[0], program.bound[0])
    by_floats = maximize(program)
    assert feasible == by_floats.feasible.item()
    if feasible:
        found = Solution(x[None], np.array([True]), prices[None])
        assert lp_residual(program, found) < 1e-14
        assert program.objective[0] @ (x - by_floats.x[0]) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("kind", [EPO, PMGDA])
def test_gradients_that_nearly_cancel_are_solved_as_well(kind):
    """Angles of 1e-4 to each other or to the opposite: bases of condition 1e9."""
    torch.manual_seed(0)
    signs = torch.tensor([1.0, -1.0]).repeat(4)[:7, None]
    for noise in (1e-3, 1e-4, 1e-6):
        line = torch.randn(40, 1, 30, dtype=torch.float64)
        rows = signs * line + noise * torch.randn(40, 7, 30, dtype=torch.float64)
        values = torch.rand(40, 7, dtype=torch.float64) + 0.05
        found = kind()(rows, values)
        assert (found.certificate.kkt_residual <= 1e-9).all(), noise


# hulls of many borders


@settings(max_examples=80, deadline=None, database=None)
@given(m=st.integers(1, 5), n=st.integers(1, 8), k=st.integers(1, 30), seed=st.integers(0, 10**6))
def test_shortest_of_many_against_least_squares(m, n, k, seed):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((m, n)) * 10 ** rng.uniform(-2, 0, (m, 1))
    if seed % 3 == 0 and m > 1:
        rows[1] = -rows[0]
    rows /= np.linalg.norm(rows, axis=1).max()
    axis, points = rng.random(m), rng.random((k, m))
    gaps = np.linalg.norm(points - axis, axis=1)
    members = rng.random(m + k) < 0.5
    members[0] = True
    candidates = Candidates((rows @ rows.T)[None], axis[None], points, gaps[None], members[None])
    found = shortest(candidates, np.zeros((1, m + 1), dtype=int))
    vectors = np.vstack([np.eye(m), (points - axis) / gaps[:, None]]) @ rows
    best = np.linalg.norm(_shortest_plainly(vectors[members]))
    assert np.linalg.norm(found.weights[0] @ rows) == pytest.approx(best, abs=1e-7)
    assert found.gap <= 1e-10


# Tchebycheff


def test_smooth_tchebycheff_is_the_gradient_of_its_scalar(jacobian):
    preference = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    ideal = torch.tensor([-0.1, 0.0, 0.2], dtype=torch.float64)
    values = torch.tensor([0.5, 0.4, 0.7], dtype=torch.float64, requires_grad=True)
    scalar = 0.1 * torch.logsumexp(preference * (values - ideal) / 0.1, dim=0)
    (expected,) = torch.autograd.grad(scalar, values)
    direction = SmoothTchebycheff(preference, mu=0.1, ideal=ideal)(jacobian, values)
    torch.testing.assert_close(direction.vector, expected @ jacobian)


def test_smooth_tchebycheff_tends_to_tchebycheff(jacobian):
    values = torch.tensor([0.5, 0.4, 0.7], dtype=torch.float64)
    sharp = Tchebycheff()(jacobian, values)
    torch.testing.assert_close(SmoothTchebycheff(mu=1e-4)(jacobian, values).vector, sharp.vector)
    torch.testing.assert_close(sharp.vector, jacobian[2] / 3)


def test_smooth_tchebycheff_of_huge_values_is_finite():
    values = torch.tensor([-1e300, 1e300, 0.0], dtype=torch.float64)
    found = SmoothTchebycheff(mu=1e-200)(torch.eye(3, dtype=torch.float64), values)
    assert found.weights.isfinite().all()
    assert found.weights[1] == pytest.approx(1 / 3)


def test_tchebycheff_shares_among_exact_ties(jacobian):
    values = torch.tensor([0.7, 0.4, 0.7], dtype=torch.float64)
    direction = Tchebycheff()(jacobian, values)
    torch.testing.assert_close(direction.vector, (jacobian[0] + jacobian[2]) / 6)


@pytest.mark.parametrize("kind", [Tchebycheff, SmoothTchebycheff])
def test_tchebycheff_needs_no_gradients(kind, jacobian):
    values = torch.tensor([0.5, 0.4, 0.7], dtype=torch.float64)
    assert not kind.needs_gradients
    assert torch.equal(kind().from_values(values).weights, kind()(jacobian, values).weights)


@pytest.mark.parametrize("mu", [0.0, -1.0, float("nan"), float("inf")])
def test_mu_must_be_positive(mu):
    with pytest.raises(ValueError, match="mu must be positive and finite, got"):
        SmoothTchebycheff(mu=mu)


def test_ideal_must_fit(jacobian):
    with pytest.raises(ValueError, match=r"ideal must have shape \(m,\) = \(3,\), got \(2,\)"):
        Tchebycheff(ideal=torch.zeros(2))(jacobian, torch.ones(3))
    with pytest.raises(ValueError, match="ideal must be finite"):
        Tchebycheff(ideal=torch.tensor([0.0, float("nan")]))


# what is common to all


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_asked_for(kind, jacobian):
    with pytest.raises(ValueError, match="needs the values of the objectives"):
        kind()(jacobian)


@pytest.mark.parametrize("kind", [LinearScalarization, *KINDS])
@pytest.mark.parametrize(
    ("preference", "message"),
    [
        ([0.5, 0.6], r"must sum to 1 over the objectives, got \[?1.1"),
        ([1.5, -0.5], "must be positive and finite"),
        ([1.0, 0.0], "must be positive and finite"),
        ([float("nan"), 0.5], "must be positive and finite"),
        ([[[0.5, 0.5]]], r"must have shape \(m,\) or \(r, m\), got \(1, 1, 2\)"),
    ],
)
def test_what_is_no_preference_is_refused(kind, preference, message):
    with pytest.raises(ValueError, match=message):
        kind(torch.tensor(preference))


@pytest.mark.parametrize("kind", [EPO, PMTL, PMGDA])
@pytest.mark.parametrize("m", [1, 2, 3, 5])
def test_a_batch_gives_what_each_ray_would(kind, m):
    torch.manual_seed(m)
    rows = torch.randn(60, m, 7, dtype=torch.float64)
    rows[0, 0] = 0.0
    rows[1, -1] = rows[1, 0]
    rows[2] = 0.0
    values = torch.rand(60, m, dtype=torch.float64) + 0.05
    values[::4] = 0.3  # on the ray
    together = kind()(rows, values)
    certificate = together.certificate
    assert (certificate.kkt_residual <= 1e-9).all()
    assert len(set(certificate.branch)) > 1 or m == 1
    for i in range(60):
        alone = kind()(rows[i], values[i])
        torch.testing.assert_close(together.vector[i], alone.vector, rtol=1e-9, atol=1e-12)
        assert certificate.branch[i] == alone.certificate.branch


@pytest.mark.parametrize("kind", [EPO, PMTL, PMGDA])
def test_any_scale_is_the_same_scale(kind):
    torch.manual_seed(3)
    rows = torch.randn(30, 3, 9, dtype=torch.float64)
    values = torch.rand(30, 3, dtype=torch.float64) + 0.05
    values[::4] = 0.3
    plain = kind()(rows, values).vector
    for power in range(-300, 301, 60):
        scaled = kind()(rows, values * 10.0**power).vector
        torch.testing.assert_close(scaled, plain, rtol=1e-7, atol=1e-9)
    for power in range(-30, 31, 10):
        scaled = kind()(rows * 10.0**power, values).vector / 10.0**power
        torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-12)
    apart = rows * torch.tensor([1e-6, 1.0, 1e6], dtype=torch.float64)[:, None]
    found = kind()(apart, values)
    assert found.vector.isfinite().all()
    assert (found.certificate.kkt_residual <= 1e-9).all()


@pytest.mark.parametrize("kind", [EPO, PMTL, PMGDA])
@pytest.mark.parametrize("m", [2, 3, 4])
def test_permuting_the_objectives_changes_nothing(kind, m):
    torch.manual_seed(m)
    rows = torch.randn(40, m, 9, dtype=torch.float64)
    values = torch.rand(40, m, dtype=torch.float64) + 0.05
    values[::4] = 0.3
    order = torch.randperm(m)
    plain, permuted = kind()(rows, values), kind()(rows[:, order], values[:, order])
    torch.testing.assert_close(plain.vector, permuted.vector, rtol=1e-8, atol=1e-10)


# EPO


@pytest.mark.parametrize("m", [2, 3])
def test_epo_ends_on_the_front_where_the_preference_points(m):
    values, found = _descend(EPO(RAYS[m]), m, 150)
    assert (_degrees(values, RAYS[m]) < 2.5).all()
    assert (found.certificate.stationarity_gap < 0.01).all()


def test_epo_reaches_the_preferred_point_of_a_known_front():
    """Two shifted paraboloids: their front is the segment between the centers, where the values
    (t^2, (1-t)^2) meet preference 0.8 and 0.2 at t / (1 - t) = (0.2 / 0.8)^(1/2), t = 1/3."""
    centers = torch.tensor([[0.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    point = torch.tensor([0.9, 0.7], dtype=torch.float64)
    solver = EPO(torch.tensor([0.8, 0.2], dtype=torch.float64))
    branches = set()
    for _ in range(250):
        away = point - centers
        direction = solver(2 * away, (away * away).sum(-1))
        branches.add(direction.certificate.branch)
        point = point - 0.05 * direction.vector
    assert point.tolist() == pytest.approx([1 / 3, 0.0], abs=0.01)
    assert branches >= {"balance", "descent"}


def test_epo_descends_without_harm_once_balanced():
    torch.manual_seed(0)
    rows = torch.randn(40, 3, 6, dtype=torch.float64)
    found = EPO()(rows, torch.ones(40, 3, dtype=torch.float64))
    assert set(found.certificate.branch) == {"descent"}
    assert (rows @ found.vector.unsqueeze(-1)).min() > -1e-9


def test_epo_balances_by_lowering_the_worst():
    torch.manual_seed(0)
    rows = torch.randn(40, 3, 6, dtype=torch.float64)
    values = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64).expand(40, -1)
    found = EPO()(rows, values)
    assert set(found.certificate.branch) == {"balance"}
    assert (rows[:, 0] * found.vector).sum(-1).min() > -1e-9


def test_epo_that_cannot_keep_the_balance_descends_all_the_same():
    torch.manual_seed(0)
    rows = torch.randn(150, 3, 4, dtype=torch.float64)
    found = EPO()(rows, 1.0 + 1e-3 * torch.rand(150, 3, dtype=torch.float64))
    assert (rows @ found.vector.unsqueeze(-1)).min() > -1e-9
    assert set(found.certificate.branch) == {"descent", "relaxed descent"}


def test_epo_refuses_values_that_are_not_positive():
    with pytest.raises(ValueError, match=r"positive values .* got -0.5 for objective 1$"):
        EPO()(torch.eye(2), torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match=r"got 0.0 for objective 0 of ray 1$"):
        EPO()(torch.ones(2, 2, 2), torch.tensor([[1.0, 1.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="tolerance must be non-negative"):
        EPO(tolerance=-1.0)


# PMTL


def _plain_pmtl(rows, values, preference, others, tolerance):
    """The method on the gradients themselves, one ray, border by border."""
    axis, here = 1 / preference / np.linalg.norm(1 / preference), values / np.linalg.norm(values)
    outside, near = [], []
    for other in 1 / others / np.linalg.norm(1 / others, axis=1, keepdims=True):
        across = other - axis
        gap = np.linalg.norm(across)
        beyond = across @ here / (gap * gap / 2)  # -1 on the axis, 0 on the border
        if beyond > 0:
            outside.append(across / gap @ rows)
        if beyond > -tolerance:
            near.append(across / gap @ rows)
    return _shortest_plainly(np.array(outside if outside else [*rows, *near]))


@settings(max_examples=100, deadline=None, database=None)
@given(m=st.integers(2, 5), k=st.integers(1, 12), seed=st.integers(0, 10**6))
def test_pmtl_against_a_plain_version(m, k, seed):
    rng = np.random.default_rng(seed)
    rows, values = rng.standard_normal((m, 6)), rng.random(m) + 0.01
    preference, others = rng.dirichlet(np.full(m, 3.0)), rng.dirichlet(np.full(m, 3.0), k)
    if seed % 2:
        values = 1 / preference + 0.5 * rng.random(m)  # mostly inside
    expected = _plain_pmtl(rows, values, preference, others, 0.5)
    solver = PMTL(torch.from_numpy(preference), torch.from_numpy(others), tolerance=0.5)
    found = solver(torch.from_numpy(rows), torch.from_numpy(values))
    assert found.vector.numpy() == pytest.approx(expected, abs=1e-6)
    assert found.certificate.kkt_residual <= 1e-9


@pytest.mark.parametrize("m", [2, 3])
def test_pmtl_ends_on_the_front_in_its_cone(m):
    values, found = _descend(PMTL(RAYS[m]), m, 150)
    angles = torch.stack([_degrees(values, ray.expand_as(values)) for ray in RAYS[m]], dim=1)
    assert (angles.diagonal() <= angles.amin(1) + 1.0).all()
    assert set(found.certificate.branch) == {"descent"}
    assert (found.certificate.stationarity_gap < 0.02).all()


def test_pmtl_takes_the_rays_of_its_preference_for_the_others():
    torch.manual_seed(0)
    rows, values = torch.randn(5, 3, 8).double(), torch.rand(5, 3).double()
    as_set = PMTL(RAYS[3])(rows, values).vector
    assert torch.equal(as_set, PMTL(RAYS[3], RAYS[3])(rows, values).vector)
    for i in range(5):
        alone = PMTL(RAYS[3][i], RAYS[3])(rows[i], values[i]).vector
        torch.testing.assert_close(as_set[i], alone)


def test_pmtl_of_one_ray_is_bounded_by_the_axes():
    """A value along (1, 0) is nearer to that axis than to (1, 1); at 22 degrees it is not."""
    solver, rows = PMTL(), torch.eye(2).expand(2, -1, -1)
    found = solver(rows, torch.tensor([[1.0, 0.2], [1.0, 0.5]]))
    assert found.certificate.branch == ("entry", "descent")
    assert found.vector[0, 0] > 0 > found.vector[0, 1]
    assert torch.equal(found.vector[1], MGDA()(rows[1]).vector)


def test_pmtl_inside_harms_no_objective_and_keeps_off_the_near_border():
    torch.manual_seed(0)
    rows = torch.randn(80, 3, 8, dtype=torch.float64)
    values = torch.tensor([1.0, 1.0, 0.45], dtype=torch.float64).expand(80, -1)  # near an axis
    found = PMTL(tolerance=0.9)(rows, values)
    assert set(found.certificate.branch) == {"descent"}
    changes = (rows @ found.vector.unsqueeze(-1)).squeeze(-1)
    assert changes.min() > -1e-9
    axis = torch.full((3,), 3.0**-0.5, dtype=torch.float64)
    for border in torch.eye(3, dtype=torch.float64)[:2] - axis:
        assert (changes @ border).min() > -1e-9


def test_pmtl_where_the_cone_cannot_be_neared_descends():
    """With one and the same gradient, u_j - u_k of equal sums cannot be changed."""
    rows = torch.ones(2, 3, dtype=torch.float64)
    others = torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    preference = torch.tensor([0.7, 0.3], dtype=torch.float64)
    found = PMTL(preference, others)(rows, torch.tensor([1.0, 0.2], dtype=torch.float64))
    assert found.certificate.branch == "descent"
    torch.testing.assert_close(found.vector, rows[0])


def test_pmtl_among_hundreds_of_rays():
    torch.manual_seed(0)
    for m in (2, 3, 4):
        rays = torch.rand(300, m, dtype=torch.float64) + 0.1
        rays = rays / rays.sum(-1, keepdim=True)
        rows = torch.randn(300, m, 12, dtype=torch.float64)
        values = 1 / rays * (1 + 0.2 * torch.rand(300, m, dtype=torch.float64))
        found = PMTL(rays)(rows, values)
        assert (found.certificate.kkt_residual <= 1e-9).all()
        assert {"entry", "descent"} == set(found.certificate.branch)
        for i in range(0, 300, 75):
            expected = _plain_pmtl(
                rows[i].numpy(),
                values[i].numpy(),
                rays[i].numpy(),
                np.delete(rays.numpy(), i, axis=0),
                0.1,
            )
            assert found.vector[i].numpy() == pytest.approx(expected, abs=1e-6)


def test_pmtl_at_the_ideal_descends():
    found = PMTL()(torch.eye(2), torch.zeros(2))
    assert found.certificate.branch == "descent"
    assert found.vector.tolist() == [0.5, 0.5]


def test_pmtl_refuses_what_it_cannot_aim():
    with pytest.raises(ValueError, match=r"at least 0 .*, got -0.5 for objective 1$"):
        PMTL()(torch.eye(2), torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match=r"others must have shape \(K, m\), got \(2,\)"):
        PMTL(others=torch.tensor([0.5, 0.5]))
    with pytest.raises(ValueError, match=r"\(K, m\) with m = 3 to fit the jacobian, got \(1, 2\)"):
        PMTL(others=torch.tensor([[0.5, 0.5]]))(torch.eye(3), torch.ones(3))
    with pytest.raises(ValueError, match=r"tolerance must be in \[0, 1\), got 1"):
        PMTL(tolerance=1.0)


# PMGDA


def _distance(values, preference):
    along = _toward(preference)
    return (values - (values * along).sum(-1, keepdim=True) * along).norm(dim=-1)


@pytest.mark.parametrize("m", [2, 3])
def test_pmgda_ends_on_the_front_on_its_ray(m):
    values, found = _descend(PMGDA(RAYS[m]), m, 250)
    assert (_degrees(values, RAYS[m]) < 1.0).all()
    assert (found.certificate.stationarity_gap < 0.02).all()


@pytest.mark.parametrize("m", [2, 3, 5])
def test_pmgda_corrects_at_the_promised_rate_with_the_best_worst_cosine(m):
    """Against scipy, on unit vectors: the rows and the gradient of the distance to the ray."""
    torch.manual_seed(m)
    rows = torch.randn(40, m, 6, dtype=torch.float64) * torch.rand(40, m, 1).double()
    preference = torch.rand(40, m, dtype=torch.float64) + 0.1
    preference = preference / preference.sum(-1, keepdim=True)
    values = (torch.rand(40, m, dtype=torch.float64) + 0.05).requires_grad_()
    found = PMGDA(preference, sigma=0.7)(rows, values)
    (outward,) = torch.autograd.grad(_distance(values, preference).sum(), values)
    corrected = [i for i, branch in enumerate(found.certificate.branch) if branch == "correction"]
    assert len(corrected) > 30
    for i in corrected:
        unit = torch.cat([rows[i], (outward[i] @ rows[i])[None]])
        unit = (unit / unit.norm(dim=-1, keepdim=True)).numpy()
        cosines = unit @ unit.T
        above = np.hstack([-cosines[:m], np.ones((m, 1))])
        turn = np.r_[-cosines[m], 0.0]
        best = linprog(
            np.r_[np.zeros(m + 1), -1.0],
            np.vstack([above, turn]),
            np.r_[np.zeros(m), -0.7],
            np.r_[np.ones(m + 1), 0.0][None],
            [1.0],
            bounds=[(0, None)] * (m + 1) + [(None, None)],
        )
        expected = best.x[: m + 1] @ unit
        length = found.vector[i].norm() / np.linalg.norm(expected)
        rates = unit @ found.vector[i].numpy() / length.item()
        assert rates[m] >= 0.7 - 1e-9
        assert rates[:m].min() == pytest.approx((unit @ expected)[:m].min(), abs=1e-7)


def test_pmgda_on_the_ray_is_mgda():
    torch.manual_seed(0)
    rows, ray = torch.randn(5, 3, 8).double(), RAYS[3]
    found = PMGDA(ray)(rows, 0.3 / ray)
    assert set(found.certificate.branch) == {"descent"}
    assert torch.equal(found.vector, MGDA()(rows).vector)


def test_pmgda_moves_along_the_front_where_no_objective_can_fall_alone():
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    found = PMGDA()(rows, torch.tensor([0.9, 0.1], dtype=torch.float64))
    assert found.certificate.branch == "correction"
    assert found.vector[0] > 0
    assert found.certificate.stationarity_gap == 0


def test_pmgda_leaves_a_zero_gradient_out_of_the_correction():
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    found = PMGDA()(rows, torch.tensor([0.9, 0.1, 0.2], dtype=torch.float64))
    assert found.weights[1] == 0
    assert (found.vector[:2] > 0).all()
    stopped = PMGDA()(torch.zeros(3, 4), torch.tensor([0.9, 0.1, 0.2]))
    assert stopped.vector.tolist() == [0.0] * 4


def test_pmgda_whose_distance_cannot_change_lets_the_objectives_fall():
    """The ray of (1, 1) with equal gradients: l - (d, d) stays as far from it."""
    rows = torch.tensor([[1.0, 2.0], [1.0, 2.0]], dtype=torch.float64)
    found = PMGDA()(rows, torch.tensor([0.9, 0.1], dtype=torch.float64))
    assert found.certificate.smallest_cosine == pytest.approx(1.0)
    assert found.certificate.kkt_residual <= 1e-9


def test_pmgda_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match=r"at least 0 .*, got -0.5 for objective 1$"):
        PMGDA()(torch.eye(2), torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match=r"tolerance must be in \(0, 1\), got 0"):
        PMGDA(tolerance=0.0)
    with pytest.raises(ValueError, match=r"sigma must be in \(0, 1\], got 1.5"):
        PMGDA(sigma=1.5)
