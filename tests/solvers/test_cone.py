"""MGDA, UPGrad, DualProj, PriorityProjection: what never conflicts, held to plain projections."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchjd.aggregation as torchjd
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from paretonas.solvers.dual_cone import DualProj, UPGrad
from paretonas.solvers.mgda import MGDA
from paretonas.solvers.pcgrad import PCGrad
from paretonas.solvers.priority import PriorityProjection

METHODS = [MGDA, UPGrad, DualProj, PriorityProjection]
CONES = [UPGrad, DualProj, PriorityProjection]


@pytest.fixture
def jacobian():
    """Three gradients that conflict pairwise in part."""
    torch.manual_seed(1)
    return torch.randn(3, 5, dtype=torch.float64)


def _into_cone(rows, vector):
    """Project by scipy: v = u + sum of x_j g_j, x the least squares fit of -u by rows."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return vector + nnls(unit.T, -vector)[0] @ unit


def _plain(kind, rows):
    """The method by its definition, slowly."""
    if kind is UPGrad:
        return np.mean([_into_cone(rows, row) for row in rows], axis=0)
    if kind is DualProj:
        return _into_cone(rows, rows.mean(0))
    return _into_cone(rows[1:], rows[0]) if len(rows) > 1 else rows[0]


def _smallest_cosine(rows, vector):
    rows, vector = rows.double(), vector.double()
    rows = rows / rows.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    vector = vector / vector.abs().max()
    rows = rows[rows.abs().amax(-1) > 0]
    return (rows @ vector / (rows.norm(dim=-1) * vector.norm())).min().item()


# Against plain versions


@pytest.mark.parametrize("kind", CONES)
@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 9])
def test_cone_methods_against_plain_projections(kind, m):
    rng = np.random.default_rng(m)
    for n in (4, 4, 4, 12, 12, 12):
        rows = rng.standard_normal((m, n)) * 10 ** rng.uniform(-2, 2, (m, 1))
        found = kind()(torch.from_numpy(rows)).vector.numpy()
        assert np.allclose(found, _plain(kind, rows), atol=1e-9 * np.abs(rows).max())


@pytest.mark.parametrize("kind", CONES)
@pytest.mark.parametrize("m", [2, 3, 8])
def test_torchjd_agrees_as_far_as_its_ridge_allows(kind, m):
    """TorchJD adds 1e-4 to the Gram matrix: good to some percent where rows are independent."""
    torch.manual_seed(m)
    theirs = {UPGrad: torchjd.UPGrad(), DualProj: torchjd.DualProj()}
    for jacobian in torch.randn(5, m, 200, dtype=torch.float64):
        found = kind()(jacobian).vector
        if kind is PriorityProjection:  # theirs is stretched to the length of the first row
            expected = torchjd.PCD(tau=0.0)(jacobian)
            expected = expected * (found.norm() / expected.norm())
        else:
            expected = theirs[kind](jacobian)
        assert (found - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("m", [2, 3, 8])
def test_mgda_is_as_short_as_torchjd_or_shorter(m):
    torch.manual_seed(m)
    theirs = torchjd.MGDA(epsilon=1e-12, max_iters=2000)
    for jacobian in torch.randn(3, m, 6, dtype=torch.float64):
        assert MGDA()(jacobian).vector.norm() <= theirs(jacobian).norm() * (1 + 1e-9)


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
    torch.testing.assert_close(MGDA()(row.repeat(3, 1)).vector, MGDA()(row).vector)


def test_mgda_gains_its_squared_length_for_every_objective():
    """The shortest point v of the hull has g_i . v >= |v|^2, with equality where weighted."""
    torch.manual_seed(0)
    for jacobian in torch.randn(30, 5, 8, dtype=torch.float64):
        found = MGDA()(jacobian)
        gains = jacobian @ found.vector / found.vector.square().sum()
        assert gains.min() > 1 - 1e-9
        assert (gains[found.weights > 1e-9] - 1).abs().max() < 1e-9


# UPGrad and DualProj


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


@pytest.mark.parametrize("kind", [UPGrad, DualProj])
def test_gradients_in_harmony_are_averaged(kind):
    torch.manual_seed(0)
    jacobian = torch.rand(6, 9, dtype=torch.float64)
    direction = kind()(jacobian)
    torch.testing.assert_close(direction.vector, jacobian.mean(0))
    assert direction.weights.tolist() == pytest.approx([1 / 6] * 6, abs=1e-15)


def test_dualproj_projects_the_sum_that_the_preference_weighs():
    rng = np.random.default_rng(0)
    preference = np.array([0.7, 0.2, 0.1])
    for _ in range(10):
        rows = rng.standard_normal((3, 4))
        found = DualProj(torch.from_numpy(preference))(torch.from_numpy(rows)).vector
        assert np.allclose(found, _into_cone(rows, preference @ rows))


def test_dualproj_takes_one_preference_per_ray(jacobian):
    rays = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], dtype=torch.float64)
    both = DualProj(rays)(jacobian.expand(2, -1, -1)).vector
    for ray, found in zip(rays, both, strict=True):
        torch.testing.assert_close(found, DualProj(ray)(jacobian).vector)


def test_dualproj_refuses_what_is_no_preference(jacobian):
    with pytest.raises(ValueError, match="must sum to 1 over the objectives"):
        DualProj(torch.tensor([0.5, 0.6]))
    with pytest.raises(ValueError, match=r"\(m,\) = \(3,\) to fit the jacobian, got \(2,\)"):
        DualProj(torch.tensor([0.5, 0.5]))(jacobian)


# PriorityProjection


def test_priority_projection_of_two_is_one_sided():
    torch.manual_seed(2)
    for lead, other in torch.randn(40, 2, 3, dtype=torch.float64):
        expected = lead - min((lead @ other).item(), 0.0) / (other @ other) * other
        found = PriorityProjection()(torch.stack([lead, other])).vector
        torch.testing.assert_close(found, expected)


def test_priority_projection_follows_the_first_where_it_harms_none():
    rows = torch.tensor([[1.0, 0.5], [2.0, 1.0], [0.0, 3.0]])
    assert PriorityProjection()(rows).vector.tolist() == [1.0, 0.5]


def test_priority_projection_does_not_depend_on_lengths_and_order_of_the_others(jacobian):
    plain = PriorityProjection()(jacobian).vector
    changed = torch.stack([jacobian[0], 1e6 * jacobian[2], 1e-6 * jacobian[1]])
    torch.testing.assert_close(PriorityProjection()(changed).vector, plain)
    torch.testing.assert_close(PriorityProjection()(changed * 7).vector, 7 * plain)


def test_priority_projection_without_a_first_gradient_stops(jacobian):
    jacobian[0] = 0.0
    assert PriorityProjection()(jacobian).vector.tolist() == [0.0] * 5


# What all of them must survive


@settings(max_examples=300, database=None)
@given(
    kind=st.sampled_from(METHODS),
    m=st.integers(2, 7),
    n=st.integers(1, 10),
    rank=st.integers(1, 7),
    near=st.integers(3, 12),
    apart=st.sampled_from([0, 0, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_never_conflicts_however_near_to_opposite_or_dependent(
    kind, m, n, rank, near, apart, dtype, seed
):
    """Rows within 10^-near of a subspace of that rank, or of the two ends of one line."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    rows += 10.0**-near * rng.standard_normal((m, n))
    rows *= 10.0 ** rng.uniform(-apart, apart, (m, 1))
    jacobian = torch.from_numpy(rows).to(dtype)
    direction = kind()(jacobian)
    assert direction.certificate.kkt_residual < 1e-9
    if direction.vector.any():
        assert _smallest_cosine(jacobian, direction.vector) >= -1e-6


@pytest.mark.parametrize("kind", METHODS)
def test_never_conflicts_and_solved_on_every_kind_of_jacobian(kind, jacobians):
    for name, jacobian in jacobians:
        direction = kind()(jacobian)
        assert direction.certificate.kkt_residual < 1e-12, name
        if direction.vector.any():
            assert _smallest_cosine(jacobian, direction.vector) >= -1e-6, name


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_a_zero_gradient_asks_for_nothing(kind, m):
    """And forbids nothing, except to MGDA, for which it is the shortest vector."""
    torch.manual_seed(m)
    rows = torch.randn(m, 5, dtype=torch.float64)
    padded = torch.cat([rows, torch.zeros(1, 5, dtype=torch.float64)])
    found, plain = kind()(padded).vector, kind()(rows).vector
    share = {MGDA: 0.0, PriorityProjection: 1.0}.get(kind, m / (m + 1))  # means are over m + 1
    torch.testing.assert_close(found, share * plain)
    assert kind()(torch.zeros(m, 5)).vector.tolist() == [0.0] * 5


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(kind, scale):
    torch.manual_seed(0)
    jacobian = torch.randn(4, 6, dtype=torch.float64)
    found = kind()(scale * jacobian)
    torch.testing.assert_close(found.vector / scale, kind()(jacobian).vector)
    assert found.certificate.kkt_residual < 1e-12


@pytest.mark.parametrize("kind", METHODS)
def test_nearly_dependent_rows_of_float32_are_solved(kind):
    """Where TorchJD's ridge, added in float32, leaves a matrix that its program solver refuses."""
    torch.manual_seed(0)
    row = torch.randn(100_000)
    jacobian = torch.stack([row, row * (1 + 1e-7) + 1e-7 * torch.randn(100_000), -row])
    direction = kind()(jacobian)
    assert direction.certificate.kkt_residual < 1e-9
    assert not direction.vector.any() or _smallest_cosine(jacobian, direction.vector) >= -1e-6


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("m", [2, 3, 4, 6])
def test_hundreds_of_rays_are_what_each_ray_would_be(kind, m):
    torch.manual_seed(m)
    jacobians = torch.randn(200, m, 7, dtype=torch.float64)
    together = kind()(jacobians)
    for i in range(0, 200, 17):
        alone = kind()(jacobians[i])
        torch.testing.assert_close(together.weights[i], alone.weights, rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(together.vector[i], alone.vector, rtol=1e-12, atol=1e-12)
