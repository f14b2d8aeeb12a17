"""What each method promises beyond the common laws: plain oracles, pinned values, messages."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from scipy.optimize import nnls

from paretonas.solvers import (
    EPO,
    MGDA,
    DualProj,
    LinearScalarization,
    PCGrad,
    PriorityProjection,
    RandomWeights,
    SmoothTchebycheff,
    Tchebycheff,
    UPGrad,
    Weighted,
)


@pytest.fixture
def jacobian():
    """Three gradients that conflict pairwise in part."""
    torch.manual_seed(1)
    return torch.randn(3, 5, dtype=torch.float64)


def _into_cone(rows, vector):
    """Project by scipy: v = u + sum of x_j g_j, x the least squares fit of -u by rows."""
    return vector + nnls(rows.T, -vector)[0] @ rows


# linear


def test_linear_scalarization_without_preference_is_the_mean(jacobian):
    torch.testing.assert_close(LinearScalarization()(jacobian).vector, jacobian.mean(0))


def test_one_preference_per_ray(jacobian):
    rays = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
    both = LinearScalarization(rays)(jacobian.expand(2, -1, -1))
    torch.testing.assert_close(both.vector, rays @ jacobian)


def test_random_weights_are_convex_and_differ_between_calls(jacobian):
    solver = RandomWeights(torch.Generator().manual_seed(0))
    first, second = solver(jacobian).weights, solver(jacobian).weights
    assert first.sum() == pytest.approx(1.0)
    assert (first > 0).all()
    assert not torch.equal(first, second)


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
@pytest.mark.parametrize("kind", [LinearScalarization, SmoothTchebycheff, EPO, DualProj])
def test_what_is_no_preference_is_refused(kind, preference, message):
    with pytest.raises((ValueError, TypeError), match=message):
        kind(torch.tensor(preference))


def test_preference_that_does_not_fit_the_jacobian_is_refused(jacobian):
    with pytest.raises(ValueError, match=r"\(m,\) = \(3,\) to fit the jacobian, got \(2,\)"):
        LinearScalarization(torch.tensor([0.5, 0.5]))(jacobian)
    rays = torch.full((2, 3), 1 / 3)
    with pytest.raises(ValueError, match=r"\(r, m\) = \(4, 3\) to fit the jacobian, got \(2, 3\)"):
        LinearScalarization(rays)(jacobian.expand(4, -1, -1))


# MGDA


def test_mgda_stops_at_a_vertex():
    """The short gradient lies in the cone's face, so it is the whole answer: weight exactly 1."""
    direction = MGDA()(torch.tensor([[1.0, 0.0, 0.0], [5.0, 5.0, 0.0], [4.0, 0.0, 9.0]]))
    assert direction.weights.tolist() == [1.0, 0.0, 0.0]


def test_mgda_weighs_orthogonal_gradients_by_inverse_squares():
    norms = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)
    expected = norms**-2 / (norms**-2).sum()
    torch.testing.assert_close(MGDA()(norms.diag()).weights, expected)


def test_mgda_with_a_zero_gradient_stops():
    direction = MGDA()(torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 1.0]]))
    assert direction.weights.tolist() == [0.0, 1.0, 0.0]
    assert direction.vector.tolist() == [0.0, 0.0]
    assert direction.certificate.stationarity_gap == 0


def test_mgda_of_duplicates_is_that_of_one():
    row = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    twice = row.repeat(3, 1)
    torch.testing.assert_close(MGDA()(twice).vector, MGDA()(row).vector)


# projections


@pytest.mark.parametrize("m", [2, 3, 5])
def test_upgrad_and_dualproj_against_plain_projections(m):
    rng = np.random.default_rng(m)
    for _ in range(20):
        rows = rng.standard_normal((m, 4)) * 10 ** rng.uniform(-2, 2, (m, 1))
        unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        mean_of_projections = np.mean([_into_cone(unit, row) for row in rows], axis=0)
        projection_of_mean = _into_cone(unit, rows.mean(0))
        size = np.abs(rows).max()
        given = torch.from_numpy(rows)
        assert np.allclose(UPGrad()(given).vector, mean_of_projections, atol=1e-9 * size)
        assert np.allclose(DualProj()(given).vector, projection_of_mean, atol=1e-9 * size)


def test_upgrad_is_linear_in_the_length_of_each_gradient(jacobian):
    """Linear under scaling: f(aJ) + f(bJ) = f((a + b)J) for positive row factors."""
    one, other = torch.tensor([1.0, 1e-6, 3.0]).double(), torch.tensor([2.0, 5.0, 1e6]).double()
    f = UPGrad()
    apart = f(one[:, None] * jacobian).vector + f(other[:, None] * jacobian).vector
    torch.testing.assert_close(
        apart, f((one + other)[:, None] * jacobian).vector, rtol=1e-8, atol=1e-8
    )


def test_upgrad_of_two_is_half_of_pcgrad():
    torch.manual_seed(0)
    pairs = torch.randn(50, 2, 4, dtype=torch.float64)
    torch.testing.assert_close(2 * UPGrad()(pairs).vector, PCGrad()(pairs).vector)


def test_priority_projection_of_two_is_one_sided():
    torch.manual_seed(2)
    for lead, other in torch.randn(40, 2, 3, dtype=torch.float64):
        expected = lead - min((lead @ other).item(), 0.0) / (other @ other) * other
        found = PriorityProjection()(torch.stack([lead, other])).vector
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("m", [3, 5, 8])
def test_priority_projection_against_a_plain_projection(m):
    rng = np.random.default_rng(m)
    for _ in range(20):
        rows = rng.standard_normal((m, 4))
        expected = _into_cone(rows[1:], rows[0])
        found = PriorityProjection()(torch.from_numpy(rows)).vector
        assert np.allclose(found, expected, atol=1e-9)


# PCGrad


def _pcgrad_by_hand(*, rows, orders):
    """The published loop, in the space of gradients, for one order per gradient."""
    total = np.zeros(rows.shape[1])
    for i, order in enumerate(orders):
        moved = rows[i].copy()
        for j in order:
            inner = moved @ rows[j]
            if inner < 0:
                moved -= inner / (rows[j] @ rows[j]) * rows[j]
        total += moved
    return total


@pytest.mark.parametrize("m", [2, 3])
def test_pcgrad_averages_over_all_orders(m):
    rng = np.random.default_rng(m)
    for _ in range(10):
        rows = rng.standard_normal((m, 4))
        others = [[j for j in range(m) if j != i] for i in range(m)]
        every = product(*(list(permutations(o)) for o in others))
        expected = np.mean([_pcgrad_by_hand(rows=rows, orders=orders) for orders in every], axis=0)
        assert np.allclose(PCGrad()(torch.from_numpy(rows)).vector, expected)


def test_pcgrad_with_a_generator_is_one_of_the_orders():
    rows = np.random.default_rng(5).standard_normal((3, 3))
    others = [[j for j in range(3) if j != i] for i in range(3)]
    every = product(*(list(permutations(o)) for o in others))
    possible = [_pcgrad_by_hand(rows=rows, orders=orders) for orders in every]
    solver = PCGrad(torch.Generator().manual_seed(0))
    for _ in range(10):
        found = solver(torch.from_numpy(rows)).vector.numpy()
        assert min(np.abs(found - p).max() for p in possible) < 1e-12


# Tchebycheff


def test_smooth_tchebycheff_is_the_gradient_of_its_scalar(jacobian):
    preference = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    ideal, mu = torch.tensor([0.1, 0.0, -0.2], dtype=torch.float64), 0.07
    values = torch.tensor([0.4, 0.3, 0.9], dtype=torch.float64, requires_grad=True)
    (mu * torch.logsumexp(preference * (values - ideal) / mu, 0)).backward()
    found = SmoothTchebycheff(preference, mu, ideal)(jacobian, values.detach())
    torch.testing.assert_close(found.weights, values.grad)


def test_smooth_tchebycheff_tends_to_tchebycheff(jacobian):
    values = torch.tensor([0.5, 0.8, 0.7], dtype=torch.float64)
    sharp = SmoothTchebycheff(mu=1e-5)(jacobian, values).vector
    torch.testing.assert_close(sharp, Tchebycheff()(jacobian, values).vector)
    torch.testing.assert_close(sharp, jacobian[1] / 3)


def test_tchebycheff_shares_among_exact_ties(jacobian):
    found = Tchebycheff()(jacobian, torch.tensor([2.0, 2.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(found.vector, jacobian[:2].mean(0) / 3)


@pytest.mark.parametrize("solver", [SmoothTchebycheff(), Tchebycheff(), EPO()])
def test_values_are_asked_for(solver, jacobian):
    with pytest.raises(ValueError, match="needs the values of the objectives"):
        solver(jacobian)


@pytest.mark.parametrize("mu", [0.0, -1.0, float("nan"), float("inf")])
def test_mu_must_be_positive(mu):
    with pytest.raises(ValueError, match="mu must be positive and finite, got"):
        SmoothTchebycheff(mu=mu)


def test_ideal_must_fit(jacobian):
    with pytest.raises(ValueError, match=r"ideal must have shape \(m,\) = \(3,\), got \(2,\)"):
        Tchebycheff(ideal=torch.zeros(2))(jacobian, torch.ones(3))


# EPO


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
    for jacobian in torch.randn(40, 3, 6, dtype=torch.float64):
        found = EPO()(jacobian, torch.ones(3, dtype=torch.float64))
        assert found.certificate.branch == "descent"
        assert (jacobian @ found.vector).min() > -1e-9


def test_epo_balances_by_lowering_the_worst():
    torch.manual_seed(0)
    values = torch.tensor([0.9, 0.2, 0.4], dtype=torch.float64)
    for jacobian in torch.randn(40, 3, 6, dtype=torch.float64):
        found = EPO()(jacobian, values)
        assert found.certificate.branch == "balance"
        assert jacobian[0] @ found.vector > -1e-9


def test_epo_that_cannot_keep_the_balance_descends_all_the_same():
    torch.manual_seed(0)
    branches = set()
    for jacobian in torch.randn(150, 3, 4, dtype=torch.float64):
        found = EPO()(jacobian, 1.0 + 1e-3 * torch.rand(3, dtype=torch.float64))
        branches.add(found.certificate.branch)
        assert (jacobian @ found.vector).min() > -1e-9
    assert branches == {"descent", "relaxed descent"}


def test_epo_names_the_branch_of_each_ray():
    jacobian = torch.eye(2, dtype=torch.float64).expand(2, -1, -1)
    found = EPO()(jacobian, torch.tensor([[0.5, 0.5], [0.9, 0.1]], dtype=torch.float64))
    assert found.certificate.branch == ("descent", "balance")


def test_epo_refuses_values_that_are_not_positive():
    with pytest.raises(ValueError, match=r"positive values .* got -0.5 for objective 1$"):
        EPO()(torch.eye(2), torch.tensor([1.0, -0.5]))
    with pytest.raises(ValueError, match="tolerance must be non-negative"):
        EPO(tolerance=-1.0)


# Weighted


def test_weighted_aims_the_inner_solver(jacobian):
    preference = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    aimed = Weighted(preference, MGDA())(jacobian)
    scaled = MGDA()(preference[:, None] * jacobian)
    torch.testing.assert_close(aimed.vector, scaled.vector)
    torch.testing.assert_close(aimed.weights, scaled.weights * preference)


def test_weighted_scales_values_like_gradients(jacobian):
    preference = torch.tensor([0.1, 0.8, 0.1], dtype=torch.float64)
    values = torch.tensor([0.9, 0.5, 0.4], dtype=torch.float64)
    found = Weighted(preference, Tchebycheff())(jacobian, values)
    torch.testing.assert_close(found.vector, 0.8 * jacobian[1] / 3)


# the certificate


def test_certificate_of_opposite_gradients():
    certificate = LinearScalarization()(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])).certificate
    assert certificate.smallest_cosine == pytest.approx(-1.0)
    assert certificate.stationarity_gap == pytest.approx(0.0, abs=1e-9)
    assert certificate.rank == 1
    assert certificate.branch == "closed form"


def test_certificate_counts_rank_without_zero_rows():
    rows = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [2.0, 2.0, 0.0]])
    assert MGDA()(rows).certificate.rank == 2
    assert MGDA()(torch.zeros(2, 3)).certificate.rank == 0


def test_unread_certificate_costs_no_gram_matrix(monkeypatch, jacobian):
    from paretonas.solvers._gram import Gram

    def fail(*_):
        raise AssertionError("a Gram matrix was computed")

    monkeypatch.setattr(Gram, "of", staticmethod(fail))
    direction = LinearScalarization()(jacobian)
    with pytest.raises(AssertionError, match="Gram"):
        _ = direction.certificate.smallest_cosine


def test_certificate_shows_its_numbers():
    shown = repr(MGDA()(torch.eye(2)).certificate)
    assert shown.startswith("Certificate(smallest_cosine=0.7071")
    assert "branch='exact'" in shown
