"""NashMTL, FairGrad, CAGrad, IMTLG, ConFIG, AlignedMTL, PCGrad, GradVac: what their papers say."""

from __future__ import annotations

import math
from itertools import permutations, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from paretonas.solvers.aligned_mtl import AlignedMTL
from paretonas.solvers.cagrad import CAGrad
from paretonas.solvers.config import ConFIG
from paretonas.solvers.dual_cone import UPGrad
from paretonas.solvers.fair_grad import FairGrad
from paretonas.solvers.grad_vac import GradVac
from paretonas.solvers.imtl_g import IMTLG
from paretonas.solvers.nash_mtl import NashMTL
from paretonas.solvers.pcgrad import PCGrad

SAFE = [NashMTL(), FairGrad(), FairGrad(0.5), FairGrad(5.0), CAGrad(1.0), CAGrad(3.0)]
METHODS = [*SAFE, CAGrad(), IMTLG(), ConFIG(), PCGrad(), GradVac()]
METHODS += [AlignedMTL(scale) for scale in ("min", "median", "rmse")]


@st.composite
def nasty(draw):
    """Jacobians of any rank, with equal, opposite, zero and nearly dependent rows, at any scale."""
    m, n = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rank = draw(st.integers(1, max(m, n)))
    rows = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n))
    for _ in range(draw(st.integers(0, 2))):
        i, j = rng.integers(0, m, 2)
        kind = draw(st.sampled_from(["equal", "opposite", "zero", "near", "near opposite", "sum"]))
        noise = 10.0 ** rng.uniform(-9, -2) * rng.standard_normal(n)
        rows[i] = {
            "equal": rows[j],
            "opposite": -rows[j],
            "zero": 0 * rows[i],
            "near": rows[j] + noise,
            "near opposite": noise - rows[j],
            "sum": -(rng.random(m) @ rows),
        }[kind]
    apart = 10.0 ** (draw(st.sampled_from([0, 1, 3])) * rng.uniform(-1, 1, (m, 1)))
    return torch.from_numpy(rows * apart * 10.0 ** draw(st.sampled_from([-30, 0, 30])))


def gaussian(m, n, seed=0):
    return torch.randn(m, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def unit(rows):
    rows = rows / rows.abs().amax(-1, keepdim=True).clamp_min(1e-300)
    return rows / rows.norm(dim=-1, keepdim=True).clamp_min(1e-300)


def cosines(jacobian, vector):
    return unit(jacobian) @ unit(vector)


# All of them


@pytest.mark.parametrize("solver", METHODS, ids=str)
@settings(max_examples=12, deadline=None)
@given(jacobian=nasty())
def test_every_answer_is_finite_and_solved(solver, jacobian):
    direction = solver(jacobian)
    assert direction.vector.isfinite().all()
    assert direction.weights.isfinite().all()
    assert direction.certificate.kkt_residual <= 1e-9


@pytest.mark.parametrize("solver", SAFE, ids=str)
@settings(max_examples=40, deadline=None)
@given(jacobian=nasty())
def test_no_objective_gets_worse(solver, jacobian):
    assert cosines(jacobian, solver(jacobian).vector).min() >= -1e-6


@pytest.mark.parametrize("solver", METHODS, ids=str)
@settings(max_examples=5, deadline=None)
@given(jacobians=st.lists(nasty(), min_size=2, max_size=5))
def test_a_ray_is_not_touched_by_the_others(solver, jacobians):
    m = max(len(rows) for rows in jacobians)
    n = max(rows.shape[1] for rows in jacobians)
    pad = torch.nn.functional.pad
    stacked = torch.stack([pad(r, (0, n - r.shape[1], 0, m - len(r))) for r in jacobians])
    products = torch.stack([rows @ rows.mT for rows in stacked])
    together = solver.from_gram(products)
    for k, gram in enumerate(products):
        alone = solver.from_gram(gram)
        assert torch.equal(together.weights[k], alone.weights)
        assert together.certificate.branch[k] == alone.certificate.branch


@pytest.mark.parametrize("solver", [s for s in METHODS if not isinstance(s, GradVac)], ids=str)
@pytest.mark.parametrize("m", [2, 3, 4, 8])
def test_permuting_objectives_permutes_weights(solver, m):
    jacobian, order = gaussian(m, 9, seed=m), torch.randperm(m, generator=torch.Generator())
    plain, turned = solver(jacobian).weights, solver(jacobian[order]).weights
    torch.testing.assert_close(turned, plain[order], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("solver", METHODS, ids=str)
def test_all_zero_gradients_give_a_zero_direction(solver):
    direction = solver(torch.zeros(3, 4))
    assert torch.equal(direction.vector, torch.zeros(4))
    assert direction.weights.isfinite().all()


@pytest.mark.parametrize("solver", METHODS, ids=str)
def test_one_gradient_is_followed(solver):
    row = torch.tensor([[3.0, -4.0]])
    torch.testing.assert_close(unit(solver(row).vector), unit(row[0]))


@pytest.mark.parametrize("solver", [NashMTL(), FairGrad(), IMTLG(), ConFIG(), PCGrad()], ids=str)
def test_a_zero_gradient_is_left_out(solver):
    jacobian = gaussian(3, 5)
    with_zero = torch.cat([jacobian, torch.zeros(1, 5, dtype=torch.float64)])
    torch.testing.assert_close(solver(with_zero).vector, solver(jacobian).vector)


@pytest.mark.parametrize("solver", [PCGrad(), ConFIG(), GradVac()], ids=str)
def test_linear_in_the_length_of_each_gradient(solver):
    jacobian = gaussian(4, 6)
    first, second = torch.rand(2, 4, 1, dtype=torch.float64)
    both = solver((first + second) * jacobian).vector
    apart = solver(first * jacobian).vector + solver(second * jacobian).vector
    torch.testing.assert_close(both, apart)


@pytest.mark.parametrize("solver", [NashMTL(), IMTLG(), ConFIG()], ids=str)
def test_length_of_a_gradient_does_not_turn_the_direction(solver):
    jacobian = gaussian(4, 6)
    lengths = torch.tensor([[1e-3], [1.0], [1e3], [7.0]], dtype=torch.float64)
    torch.testing.assert_close(
        unit(solver(lengths * jacobian).vector), unit(solver(jacobian).vector)
    )


# NashMTL and FairGrad


@pytest.mark.parametrize("m", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("spread", [0.0, 3.0])
def test_nash_weighs_as_much_as_each_gains(m, spread):
    for seed in range(10):
        apart = torch.logspace(-spread, spread, m, dtype=torch.float64)[:, None]
        jacobian = gaussian(m, m + 3, seed) * apart
        weights = NashMTL(max_norm=None)(jacobian).weights
        gains = (jacobian @ jacobian.mT @ weights) * weights
        torch.testing.assert_close(gains, torch.ones_like(gains), rtol=1e-9, atol=0)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0, 2.0, 5.0, 10.0])
@pytest.mark.parametrize("m", [1, 2, 3, 8])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_fair_weights_are_a_power_of_the_gains(alpha, m, scale):
    for seed in range(5):
        jacobian = gaussian(m, m + 3, seed) * scale
        weights = FairGrad(alpha)(jacobian).weights
        gains = jacobian @ (weights @ jacobian)
        torch.testing.assert_close(
            gains**alpha * weights, torch.ones_like(gains), rtol=1e-8, atol=0
        )


def test_fair_grad_with_alpha_1_is_nash():
    jacobian = gaussian(4, 5)
    torch.testing.assert_close(
        FairGrad(1.0)(jacobian).weights, NashMTL(max_norm=None)(jacobian).weights
    )


def test_fair_grad_with_a_small_alpha_is_the_sum():
    jacobian = torch.rand(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        FairGrad(1e-6)(jacobian).vector, jacobian.sum(0), rtol=1e-4, atol=1e-4
    )


def test_fair_grad_keeps_its_vector_where_weights_leave_float32():
    jacobian = gaussian(3, 6).float()
    plain = FairGrad()(jacobian).vector
    for scale in (1e-30, 1e30):
        found = FairGrad()(jacobian * scale).vector
        torch.testing.assert_close(found * scale ** (1 / 3), plain, rtol=1e-4, atol=1e-6)


def test_nash_is_as_long_as_asked():
    jacobian = gaussian(5, 9)
    assert NashMTL(max_norm=None)(jacobian).vector.norm() == pytest.approx(math.sqrt(5))
    assert NashMTL()(jacobian).vector.norm() == pytest.approx(1.0)
    assert NashMTL(max_norm=9.0)(jacobian).vector.norm() == pytest.approx(math.sqrt(5))


def test_nash_of_two_follows_the_bisector():
    found = NashMTL(max_norm=None)(torch.tensor([[1.0, 0.0], [-30.0, 40.0]]))
    # cosine -0.6: both weigh 1 / sqrt(0.4) of their unit vector
    expected = torch.tensor([0.4, 0.8]) / math.sqrt(0.4)
    torch.testing.assert_close(found.vector, expected)
    torch.testing.assert_close(found.weights, torch.tensor([1.0, 0.02]) / math.sqrt(0.4))


@pytest.mark.parametrize("solver", [NashMTL(), FairGrad(), FairGrad(0.5)], ids=str)
@pytest.mark.parametrize("m", [2, 3, 5])
def test_a_hull_with_0_is_noticed_and_a_hull_without_is_not(solver, m):
    for seed in range(10):
        jacobian = gaussian(m, m + 1, seed)
        share = torch.rand(m - 1, 1, dtype=torch.float64, generator=torch.Generator())
        jacobian[-1] = -(share * jacobian[:-1]).sum(0)  # 0 is a convex combination of all rows
        still = solver(jacobian)
        assert still.certificate.branch == "stationary"
        assert torch.equal(still.vector, torch.zeros(m + 1, dtype=torch.float64))
        away = torch.cat([jacobian, torch.full((m, 1), 1e-5, dtype=torch.float64)], 1)
        moving = solver(away)
        assert moving.certificate.branch == "exact"
        assert cosines(away, moving.vector).min() > 1e-7


# CAGrad


def _dual(jacobian, w, c):
    """The objective over the simplex: an upper bound on the smallest improvement, for any w."""
    mean, mixed = jacobian.mean(0), w @ jacobian
    return mixed @ mean + c * np.linalg.norm(mean) * np.linalg.norm(mixed)


def _by_slsqp(jacobian, c):
    m = len(jacobian)
    found = minimize(
        lambda w: _dual(jacobian, w, c),
        np.full(m, 1 / m),
        method="SLSQP",
        bounds=[(0, 1)] * m,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )
    vertices = [_dual(jacobian, vertex, c) for vertex in np.eye(m)]
    w = np.maximum(found.x, 0)
    return min(*vertices, _dual(jacobian, w / w.sum(), c))


@pytest.mark.parametrize("c", [0.1, 0.4, 0.9, 1.0, 4.0])
@pytest.mark.parametrize(("m", "n"), [(1, 2), (2, 1), (2, 4), (3, 2), (3, 5), (5, 3), (7, 9)])
def test_cagrad_gains_no_less_than_a_general_solver_within_the_radius(c, m, n):
    for seed in range(4):
        jacobian = gaussian(m, n, seed).numpy()
        direction = CAGrad(c)(torch.from_numpy(jacobian))
        vector, mean = direction.vector.numpy(), jacobian.mean(0)
        gain, oracle = (jacobian @ vector).min(), _by_slsqp(jacobian, c)
        size = np.linalg.norm(mean)
        # Any w bounds the gain from above, so a gain as high as the bound is the optimum.
        assert gain >= oracle - 1e-6 * (1 + abs(oracle))
        assert np.linalg.norm(vector - mean) <= c * size * (1 + 1e-9)
        if direction.certificate.branch == "exact":
            w = np.maximum(direction.weights.numpy() - 1 / m, 0)
            assert _dual(jacobian, w / w.sum(), c) == pytest.approx(gain, rel=1e-8, abs=1e-10)


def test_cagrad_without_radius_is_the_mean():
    jacobian = gaussian(4, 6)
    torch.testing.assert_close(CAGrad(0.0)(jacobian).vector, jacobian.mean(0))


def test_cagrad_where_the_mixed_gradient_is_0_but_the_mean_is_not():
    opposite = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])
    # The gain is that of the second row: with d = 0.5 - c / 2 along the axis it is c / 2 - 0.5.
    torch.testing.assert_close(CAGrad(0.4)(opposite).vector, torch.tensor([0.3, 0.0]))
    assert torch.equal(CAGrad(2.0)(opposite).vector, torch.zeros(2))
    between = torch.tensor([[2.0, 0.0], [-1.0, 0.0], [0.0, 3.0]])
    torch.testing.assert_close(CAGrad(2.0)(between).vector, torch.tensor([0.0, 1.0]))


def test_cagrad_at_rows_1e6_apart():
    jacobian = gaussian(3, 5) * torch.tensor([[1e-6], [1.0], [1e6]], dtype=torch.float64)
    direction = CAGrad(1.0)(jacobian)
    assert direction.certificate.kkt_residual <= 1e-12
    assert cosines(jacobian, direction.vector).min() >= -1e-9


# IMTLG, ConFIG and AlignedMTL


@pytest.mark.parametrize("solver", [IMTLG(), ConFIG()], ids=str)
@pytest.mark.parametrize("m", [2, 3, 8, 20])
def test_independent_gradients_are_met_at_one_acute_angle(solver, m):
    for seed in range(20):
        direction = solver(gaussian(m, m + 2, seed))
        found = cosines(gaussian(m, m + 2, seed), direction.vector)
        assert found.min() > 0
        torch.testing.assert_close(found, found.mean().expand(m), rtol=1e-9, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(jacobian=nasty())
def test_impartial_direction_is_never_uphill_for_all(jacobian):
    found = cosines(jacobian, IMTLG()(jacobian).vector)
    assert found.sum() >= -1e-6


@settings(max_examples=40, deadline=None)
@given(jacobian=nasty())
def test_config_never_raises_the_sum(jacobian):
    direction = ConFIG()(jacobian)
    assert cosines(jacobian.sum(0, keepdim=True), direction.vector) >= -1e-6


def test_imtl_g_is_the_paper_but_where_that_goes_uphill():
    uphill = 0
    for seed in range(60):
        given = gaussian(3, 3, seed)
        products = given @ given.mT
        paper = torch.linalg.solve(products, given.norm(dim=-1))
        found = IMTLG()(given)
        torch.testing.assert_close(found.weights, paper / paper.abs().sum())
        assert cosines(given, found.vector).min() > 0
        uphill += int(cosines(given, paper / paper.sum() @ given).max() < 0)
    assert uphill > 0


def test_imtl_g_stops_only_where_unit_gradients_sum_to_0():
    star = torch.tensor([[1.0, 0.0], [-1.0, 3**0.5], [-1.0, -(3**0.5)]], dtype=torch.float64)
    assert torch.equal(IMTLG()(star).vector, torch.zeros(2, dtype=torch.float64))


def test_config_is_as_long_as_the_gradients_along_it():
    jacobian = gaussian(3, 5)
    vector = ConFIG()(jacobian).vector
    assert vector.norm() == pytest.approx(float((jacobian @ unit(vector)).sum()))


def test_config_meets_cosines_in_the_proportions_of_the_preference():
    jacobian, preference = gaussian(3, 5), torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    found = cosines(jacobian, ConFIG(preference)(jacobian).vector)
    torch.testing.assert_close(found / found.sum(), preference)


@pytest.mark.parametrize("m", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 3.0, 5.0])
def test_aligned_gradients_are_orthogonal_and_equally_long(m, spread):
    jacobian = gaussian(m, m + 3) * torch.logspace(-spread, spread, m, dtype=torch.float64)[:, None]
    eye = 0.9 * torch.eye(m, dtype=torch.float64) + 0.1 / m  # each aligned gradient, nearly alone
    mixed = torch.stack([AlignedMTL("min", preference)(jacobian).vector for preference in eye])
    aligned = torch.linalg.solve(eye, mixed)
    smallest = torch.linalg.svdvals(jacobian)[-1]
    torch.testing.assert_close(
        aligned @ aligned.mT / smallest**2, torch.eye(m, dtype=torch.float64), rtol=0, atol=1e-5
    )


def test_aligned_mtl_keeps_a_short_gradient():
    jacobian = torch.eye(3) * torch.tensor([[1e-6], [1.0], [1e6]])
    torch.testing.assert_close(AlignedMTL()(jacobian).vector, torch.full((3,), 1e-6 / 3))
    assert AlignedMTL()(jacobian).certificate.branch == "rank 3"


def test_aligned_mtl_scales():
    jacobian = torch.diag(torch.tensor([1.0, 2.0, 4.0]))
    for scale, length in (("min", 1.0), ("median", 2.0), ("rmse", 7**0.5)):
        torch.testing.assert_close(AlignedMTL(scale)(jacobian).vector, torch.full((3,), length / 3))


# PCGrad and GradVac


def _corrected_by_hand(*, rows, orders, targets=None, beta=0.0):
    """The published loops, in the space of gradients, for one order per gradient."""
    total = np.zeros(rows.shape[1])
    targets = np.zeros((len(rows), len(rows))) if targets is None else targets.copy()
    for i, order in enumerate(orders):
        moved = rows[i].copy()
        for j in order:
            a, b = np.linalg.norm(moved), np.linalg.norm(rows[j])
            cosine, target = moved @ rows[j] / (a * b), targets[i, j]
            if cosine < target:
                sine = math.sqrt(1 - cosine**2)
                across = math.sqrt(1 - target**2)
                moved += a * (target * sine - cosine * across) / (b * across) * rows[j]
            targets[i, j] += beta * (cosine - target)
        total += moved
    return total, targets


def _all_orders(m):
    others = [[j for j in range(m) if j != i] for i in range(m)]
    return product(*(list(permutations(o)) for o in others))


@pytest.mark.parametrize("m", [2, 3])
def test_pcgrad_averages_over_all_orders(m):
    for seed in range(10):
        rows = gaussian(m, 4, seed).numpy()
        every = [_corrected_by_hand(rows=rows, orders=orders)[0] for orders in _all_orders(m)]
        assert np.allclose(PCGrad()(torch.from_numpy(rows)).vector, np.mean(every, axis=0))


def test_pcgrad_with_a_generator_is_one_of_the_orders():
    rows = gaussian(3, 3, seed=5).numpy()
    rows -= 0.9 * rows.mean(0)  # every pair in conflict
    possible = [_corrected_by_hand(rows=rows, orders=orders)[0] for orders in _all_orders(3)]
    solver, seen = PCGrad(torch.Generator().manual_seed(0)), set()
    for _ in range(20):
        found = solver(torch.from_numpy(rows)).vector.numpy()
        gaps = [np.abs(found - p).max() for p in possible]
        assert min(gaps) < 1e-12
        seen.add(int(np.argmin(gaps)))
    assert len(seen) > 1


@pytest.mark.parametrize("m", [6, 9])
def test_pcgrad_of_many_meets_the_worst_conflict_first(m):
    rows = gaussian(m, 7).numpy()
    angles = cosines(torch.from_numpy(rows), torch.eye(7, dtype=torch.float64))
    angles = (angles @ angles.mT).numpy()
    orders = [[j for j in np.argsort(angles[i]) if j != i] for i in range(m)]
    expected, _ = _corrected_by_hand(rows=rows, orders=orders)
    found = PCGrad()(torch.from_numpy(rows))
    assert np.allclose(found.vector, expected)
    assert found.certificate.branch == "most conflicting first"


@settings(max_examples=25, deadline=None)
@given(jacobian=nasty())
def test_pcgrad_of_two_is_twice_upgrad(jacobian):
    pair = jacobian[:1].repeat(2, 1) if len(jacobian) == 1 else jacobian[:2]
    found, expected = PCGrad()(pair).vector, 2 * UPGrad()(pair).vector
    assert (found - expected).norm() <= 1e-7 * pair.norm()


@settings(max_examples=25, deadline=None)
@given(jacobian=nasty())
def test_corrections_only_add(jacobian):
    targets = torch.full((len(jacobian),) * 2, 0.3, dtype=torch.float64)
    assert PCGrad()(jacobian).weights.min() >= 1
    assert GradVac()(jacobian, state=targets).weights.min() >= 1 - 1e-9


@pytest.mark.parametrize("m", [2, 3, 6])
def test_grad_vac_is_the_published_loop(m):
    orders = [[j for j in range(m) if j != i] for i in range(m)]
    solver, state, targets = GradVac(beta=0.3), None, None
    for seed in range(6):
        rows = gaussian(m, m + 2, seed).numpy()
        direction = solver(torch.from_numpy(rows), state=state)
        expected, targets = _corrected_by_hand(rows=rows, orders=orders, targets=targets, beta=0.3)
        state = direction.state
        assert np.allclose(direction.vector, expected)
        assert np.allclose(state, targets)


def test_grad_vac_starts_as_pcgrad_of_two():
    jacobian = torch.tensor([[1.0, 0.0], [-1.0, 1.0]])
    torch.testing.assert_close(GradVac()(jacobian).vector, PCGrad()(jacobian).vector)


def test_grad_vac_moves_its_targets_where_nothing_is_corrected():
    state = GradVac(beta=0.5)(torch.tensor([[1.0, 0.0], [1.0, 1.0]])).state
    assert state[0, 1] == state[1, 0] == pytest.approx(0.5 * 0.5**0.5)


def test_grad_vac_closes_the_cosine_of_1():
    same, apart = torch.ones(2, 3), torch.eye(2, 3)
    state = GradVac(beta=1.0)(same).state
    assert state[0, 1] == pytest.approx(1.0)
    assert GradVac(beta=1.0)(apart, state=state).vector.isfinite().all()


def test_grad_vac_draws_orders():
    jacobian, state = gaussian(4, 6), torch.full((4, 4), 0.5, dtype=torch.float64)
    first, again, other = (
        GradVac(generator=torch.Generator().manual_seed(seed))(jacobian, state=state).vector
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# TorchJD, where it is right


def test_agreement_with_torchjd():
    reference = pytest.importorskip("torchjd.aggregation")
    for m, n in ((2, 5), (3, 6), (8, 20)):
        for seed in range(5):
            jacobian = gaussian(m, n, seed)
            for scale in ("min", "median", "rmse"):
                torch.testing.assert_close(
                    AlignedMTL(scale)(jacobian).vector,
                    reference.AlignedMTL(scale_mode=scale)(jacobian),
                )
            torch.testing.assert_close(ConFIG()(jacobian).vector, reference.ConFIG()(jacobian))
            impartial = cosines(reference.IMTLG()(jacobian)[None], IMTLG()(jacobian).vector)
            assert abs(impartial) == pytest.approx(1.0)
            fair = reference.FairGrad(alpha=2.0)(jacobian)
            torch.testing.assert_close(FairGrad()(jacobian).vector, fair, rtol=1e-3, atol=1e-3)


# What is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FairGrad(0.0), r"alpha must be positive and finite .* got 0.0"),
        (lambda: FairGrad(math.nan), "alpha must be positive and finite"),
        (lambda: CAGrad(-0.1), "c must be non-negative and finite, got -0.1"),
        (lambda: CAGrad(math.nan), "c must be non-negative and finite, got nan"),
        (lambda: NashMTL(0.0), "max_norm must be positive or None, got 0.0"),
        (lambda: GradVac(beta=0.0), r"beta must be in \(0, 1\], got 0.0"),
        (lambda: AlignedMTL("mean"), "scale must be one of .* got 'mean'"),
        (lambda: ConFIG(torch.tensor([0.5, 0.6])), "preference must sum to 1"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_targets_are_refused():
    with pytest.raises(TypeError, match="state must be a torch.Tensor, got dict"):
        GradVac()(torch.eye(2), state={})
    with pytest.raises(ValueError, match=r"it must have shape \(m, m\) = \(2, 2\), got \(3, 3\)"):
        GradVac()(torch.eye(2), state=torch.zeros(3, 3))
    with pytest.raises(ValueError, match="state must hold cosines"):
        GradVac()(torch.eye(2), state=torch.full((2, 2), torch.nan))
