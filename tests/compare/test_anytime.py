"""Scores by evaluation: equal to scoring the first n points from scratch."""

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas.compare.anytime import Curve, Reference


def costs_of(seed: int, objectives: int, count: int) -> np.ndarray:
    """Some equal, some dominated, some on a grid."""
    rng = np.random.default_rng(seed)
    return np.round(rng.random((count, objectives)) * 10 + rng.normal(size=objectives), 1)


@given(st.integers(0, 1000), st.integers(2, 4), st.integers(2, 25))
def test_each_entry_equals_scoring_the_first_points_from_scratch(seed, objectives, count):
    costs = costs_of(seed, objectives, count)
    everything = np.vstack([costs, costs_of(seed + 1, objectives, 30)])
    reference = Reference.of(everything, true=True)
    curve = Curve.of(list(costs), reference, count)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scaled, truth = (costs - low) / (high - low), (everything - low) / (high - low)
    whole = moocore.hypervolume(truth, ref=np.ones(objectives))
    truth = moocore.filter_dominated(truth)
    for n in range(1, count + 1):
        volume = moocore.hypervolume(scaled[:n], ref=np.ones(objectives))
        assert curve.hypervolume[n - 1] == pytest.approx(volume, abs=1e-12)
        assert curve.fraction[n - 1] == pytest.approx(volume / whole, abs=1e-12)
        far = moocore.igd_plus(scaled[:n], ref=truth)
        assert curve.igd_plus[n - 1] == pytest.approx(far, abs=1e-12)


@given(st.integers(0, 1000), st.integers(2, 4))
def test_the_front_at_the_end_is_that_of_all_points(seed, objectives):
    costs = costs_of(seed, objectives, 30)
    reference = Reference.of(costs, true=True)
    front = Curve.of(list(costs), reference, 30).front
    assert {row.tobytes() for row in front} == {row.tobytes() for row in reference.front}


def test_the_truth_has_no_regret_and_no_distance():
    costs = costs_of(3, 3, 40)
    reference = Reference.of(costs, true=True)
    curve = Curve.of(list(costs), reference, 40)
    assert curve.fraction[-1] == pytest.approx(1.0, abs=1e-12)
    assert curve.igd_plus[-1] == 0.0
    assert (np.diff(curve.hypervolume) >= 0).all()
    assert (np.diff(curve.igd_plus) <= 0).all()


def test_failures_count_and_an_early_end_stays_flat():
    costs = [None, np.array([1.0, 3.0]), None, np.array([3.0, 1.0])]
    reference = Reference.of(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), true=True)
    curve = Curve.of(costs, reference, 7)
    # Scaled: (0, 1), (.5, .5), (1, 0). The corner (1, 1) stands for having found nothing.
    assert curve.hypervolume.tolist() == [0, 0, 0, 0, 0, 0, 0]
    nothing = (1 + np.sqrt(0.5) + 1) / 3
    one, two = (0 + 0.5 + 1) / 3, (0 + 0.5 + 0) / 3
    assert curve.igd_plus == pytest.approx([nothing, one, one, two, two, two, two])


def test_scaling_maps_the_costs_on_0_to_1():
    costs = costs_of(5, 3, 50)
    scaled = Reference.of(costs, true=True).scaled(costs)
    assert (scaled.min(axis=0) == 0).all()
    assert (scaled.max(axis=0) == 1).all()


def test_an_objective_with_one_value_decides_nothing():
    costs = np.column_stack([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [7.0, 7.0, 7.0]])
    reference = Reference.of(costs, true=True)
    assert (reference.scaled(costs)[:, 2] == 0).all()
    assert reference.hypervolume == pytest.approx(0.25)
