"""What holds for every solver of this package, beyond what `check_solver` asks of any solver."""

from __future__ import annotations

import math

import pytest
import torch

import paretonas.solvers as room
from paretonas.solvers.claims import CLAIMS

RANDOM = (room.RandomWeights, room.GradDrop)
PARTS = {"Certificate", "Direction", "Solver", "Weighting", "divisor_of"}
IN_ITS_OWN_METRIC = {"Preconditioned"}  # what it promises needs an optimizer: see its own tests
# Quadratic in the gradients where their lengths are alike: the direction turns with the scale.
TURNS_WITH_SCALE = (room.SAMGS,)


def _unit(vector):
    vector = vector.double() / vector.double().abs().max().clamp_min(1e-300)
    return vector / vector.norm().clamp_min(1e-300)


def test_every_solver_of_the_room_is_under_these_laws():
    assert set(room.__all__) - PARTS - IN_ITS_OWN_METRIC == set(CLAIMS)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("m", [1, 2, 3, 4, 6])
def test_batched_equals_one_call_per_ray(build, batch, m):
    torch.manual_seed(m)
    jacobian = torch.randn(batch, m, 7, dtype=torch.float64)
    if m > 2:
        jacobian[0, -1] = -jacobian[0, 0]
    given = torch.rand(batch, m, dtype=torch.float64) + 0.1
    if isinstance(build(m), RANDOM):
        pytest.skip("draws for all rays at once")
    together = build(m)(jacobian, given)
    assert together.vector.shape == (batch, 7)
    assert len(together.certificate.branch) == batch
    for k in range(batch):
        alone = build(m)(jacobian[k], given[k])
        torch.testing.assert_close(together.vector[k], alone.vector, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            together.certificate.stationarity_gap[k],
            alone.certificate.stationarity_gap,
            rtol=1e-9,
            atol=1e-7,
        )
        assert together.certificate.branch[k] == alone.certificate.branch


def test_scaling_the_whole_jacobian_does_not_turn_the_direction(build, values):
    torch.manual_seed(3)
    if isinstance(build(3), TURNS_WITH_SCALE):
        pytest.skip("says so")
    jacobian = torch.randn(3, 9, dtype=torch.float64)
    plain = _unit(build(3)(jacobian, values(3)).vector)
    for power in range(-30, 31, 5):
        scaled = _unit(build(3)(jacobian * 10.0**power, values(3)).vector)
        torch.testing.assert_close(scaled, plain, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_non_finite_rows_are_named(build, bad):
    jacobian = torch.ones(3, 4)
    jacobian[1, 2] = bad
    with pytest.raises(ValueError, match=rf"must be finite, got {bad} in row 1$"):
        build(3)(jacobian, torch.ones(3))
    with pytest.raises(ValueError, match=r"in row 1 of ray 1$"):
        build(3)(torch.stack([torch.ones(3, 4), jacobian]), torch.ones(2, 3))


def test_bad_shapes_and_kinds_are_refused(build):
    solver, values = build(2), torch.ones(2)
    with pytest.raises((ValueError, TypeError), match="jacobian"):
        solver(torch.ones(4), values)
    with pytest.raises((ValueError, TypeError), match="jacobian"):
        solver(torch.ones(0, 4), values)
    with pytest.raises((ValueError, TypeError), match="values"):
        solver(torch.ones(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match="nan for objective 1"):
        solver(torch.ones(2, 4), torch.tensor([1.0, math.nan]))
    with pytest.raises(TypeError, match="floating point"):
        solver(torch.ones(2, 4, dtype=torch.long), values)
    with pytest.raises(TypeError, match="jacobian"):
        solver([[1.0, 2.0], [3.0, 4.0]], values)


def test_no_tensor_is_made_on_another_device(build, values):
    """Under a default device of "meta" a hidden factory call would mix devices and fail."""
    torch.manual_seed(0)
    for m in (1, 2, 3, 6):
        jacobian, given, solver = torch.randn(m, 5), values(m), build(m)
        if isinstance(solver, RANDOM):
            continue  # draws where its generator lives, and moves
        with torch.device("meta"):
            direction = solver(jacobian, given)
            certificate = direction.certificate
            found = [direction.vector, certificate.smallest_cosine, certificate.kkt_residual]
            found += [certificate.stationarity_gap, certificate.rank]
        assert all(tensor.device.type == "cpu" for tensor in found)


def test_seeded_solvers_repeat():
    jacobian = torch.randn(4, 5)
    for kind in (room.PCGrad, room.RandomWeights, room.GradDrop, room.GradVac):
        first, second = (
            kind(generator=torch.Generator().manual_seed(7))(jacobian).vector for _ in range(2)
        )
        assert torch.equal(first, second)
