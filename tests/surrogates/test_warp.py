"""Costs of any size: what surrogates make of them does not depend on the unit."""

import itertools

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from paretonas.surrogates.acquisition import expected_hypervolume_improvement
from paretonas.surrogates.warp import SHIFTS, ExponentialWarp, Warp, unit

POWERS = [2.0**768, 2.0**-768]  # 1e231 and 1e-231: exact, so nothing may differ in any digit
SIZES = {
    "1e200": np.random.default_rng(0).lognormal(size=30) * 1e200,
    "1e-200": np.random.default_rng(0).lognormal(size=30) * 1e-200,
    "1e14": 1 + np.random.default_rng(0).lognormal(size=30) * 1e14,
    "both signs": np.random.default_rng(0).normal(size=30) * 1e160,
    "negative": -np.random.default_rng(0).lognormal(size=30) * 1e-160,
    "all that is told apart": np.linspace(-1e303, 1e303, 30),
}
ODD = {
    "six hundred orders": 10.0 ** np.linspace(-300, 300, 30),
    "subnormal": np.linspace(1, 30, 30) * 5e-324,
    "zeros": np.zeros(30),
    "one huge value": np.full(30, 1e200),
    "one negative value": np.full(30, -1e200),
    "one beyond whole numbers": np.full(30, 1e17),
    "equal but for rounding": 1e10 + 2e-6 * np.arange(30),
}


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", SIZES)
def test_costs_of_any_size_are_standardized_and_undone(name, shift):
    costs = SIZES[name]
    warp = Warp.of(costs, shift)
    warped = warp(costs)
    assert warped.mean() == pytest.approx(0, abs=1e-9)
    assert warped.std() == pytest.approx(1)
    back = warp.undo(torch.from_numpy(warped)).numpy()
    np.testing.assert_allclose(back, costs, rtol=1e-9, atol=1e-12 * np.abs(costs).max())
    assert np.isfinite(warp.log_jacobian(costs))


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("name", [*SIZES, *ODD])
def test_what_is_expected_of_costs_of_any_size_is_finite(name, shift):
    costs = {**SIZES, **ODD}[name]
    warp = Warp.of(costs, shift)
    assert np.isfinite(warp(costs)).all()
    assert np.isfinite(warp.log_jacobian(costs))
    mean, deviation = np.array([-2.0, 0.0, 3.0]), np.array([1e-4, 0.5, 2.0])
    thresholds = np.sort(costs)[[0, 14, 29]]
    gains = warp.expected_improvement(mean, deviation, thresholds)
    assert np.isfinite(gains).all() and (gains >= 0).all()
    z = torch.tensor([-5.0, 0.0, 5.0, 1e6], dtype=torch.float64, requires_grad=True)
    undone = warp.undo(z)
    (slope,) = torch.autograd.grad(undone[:3].sum(), z)
    assert slope.isfinite().all()
    if name != "all that is told apart":
        assert undone.isfinite().all()


@pytest.mark.parametrize("shift", SHIFTS)
@pytest.mark.parametrize("power", POWERS)
def test_a_unit_changes_no_digit(power, shift):
    costs = np.random.default_rng(1).lognormal(size=20)
    ours, other = Warp.of(costs, shift), Warp.of(power * costs, shift)
    assert (ours(costs) == other(power * costs)).all()
    assert ours.log_jacobian(costs) == other.log_jacobian(power * costs)
    mean, deviation = np.array([-0.5, 1.0]), np.array([0.7, 0.1])
    gains = ours.expected_improvement(mean, deviation, costs)
    assert (power * gains == other.expected_improvement(mean, deviation, power * costs)).all()


def test_units_are_powers_of_two_and_1_for_ordinary_costs():
    for value in (0.0, 1e-38, -1.0, 3e38):
        assert unit(np.array([0.0, value])) == 1.0
    for value in (1e-300, 1e-45, 1e50, 1.7e308):
        scale = unit(np.array([-value, 0.0]))
        assert np.frexp(scale)[0] == 0.5
        assert 1e-160 < value / scale < 1e160
    assert unit(np.array([])) == 1.0


@pytest.mark.parametrize("power", POWERS)
def test_improvements_are_compared_in_any_unit(power):
    rng = np.random.default_rng(0)
    front, points, reference = rng.random((6, 3)), rng.random((20, 3)), np.ones(3)

    def gains(scale):
        certain = [lambda t, c=scale * points[:, [j]]: np.maximum(t - c, 0.0) for j in range(3)]
        return expected_hypervolume_improvement(scale * front, scale * reference, certain)

    assert gains(1.0).max() > 0
    assert (gains(power) == gains(1.0)).all()


@pytest.mark.parametrize("shift", SHIFTS)
def test_warps_standardize_and_are_undone(shift):
    costs = np.random.default_rng(0).lognormal(size=30) - 1
    warp = Warp.of(costs, shift)
    warped = warp(costs)
    assert warped.mean() == pytest.approx(0, abs=1e-9) and warped.std() == pytest.approx(1)
    np.testing.assert_allclose(warp.undo(torch.from_numpy(warped)).numpy(), costs)
    slope = (warp(costs + 1e-7) - warp(costs - 1e-7)) / 2e-7
    assert warp.log_jacobian(costs) == pytest.approx(np.log(slope).sum(), rel=1e-4)


@pytest.mark.parametrize("shift", SHIFTS)
def test_shortfalls_are_integrals(shift):
    warp = Warp.of(np.random.default_rng(0).lognormal(size=30), shift)
    mean, deviation = np.array([-0.5, 1.0]), np.array([0.7, 0.05])
    thresholds = np.array([-1.0, 0.3, 1.0, 4.0])
    got = warp.expected_improvement(mean, deviation, thresholds)
    for k, b in itertools.product(range(2), range(4)):

        def integrand(z, k=k, b=b):
            cost = float(warp.undo(torch.tensor(mean[k] + deviation[k] * z)))
            return max(0.0, thresholds[b] - cost) * stats.norm.pdf(z)

        expected = integrate.quad(integrand, -8, 8, limit=400)[0]
        assert got[k, b] == pytest.approx(expected, abs=1e-5)


def test_logarithms_that_are_undone_are_standardized_and_come_back():
    costs = np.log(np.random.default_rng(0).uniform(1, 9, 30))
    warp = ExponentialWarp.of(costs)
    warped = warp(costs)
    assert warped.mean() == pytest.approx(0, abs=1e-9) and warped.std() == pytest.approx(1)
    np.testing.assert_allclose(warp.undo(torch.from_numpy(warped)).numpy(), costs)
    slope = (warp(costs + 1e-7) - warp(costs - 1e-7)) / 2e-7
    assert warp.log_jacobian(costs) == pytest.approx(np.log(slope).sum(), rel=1e-4)


def test_shortfalls_of_undone_logarithms_are_nearly_integrals():
    warp = ExponentialWarp.of(np.log(np.linspace(1.0, 9.0, 30)))
    mean, deviation = np.array([-1.0, 1.0]), np.array([0.15, 0.3])
    thresholds = np.log([1.5, 2.6, 5.0, 8.0])
    got = warp.expected_improvement(mean, deviation, thresholds)
    for k, b in itertools.product(range(2), range(4)):

        def integrand(z, k=k, b=b):
            cost = float(warp.undo(torch.tensor(mean[k] + deviation[k] * z)))
            return max(0.0, thresholds[b] - cost) * stats.norm.pdf(z)

        assert got[k, b] == pytest.approx(integrate.quad(integrand, -8, 8)[0], abs=3e-3)
