"""The choice of what to evaluate next, against hypervolumes computed from scratch."""

import moocore
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas.surrogates.acquisition import (
    expected_hypervolume_improvement,
    sampled_hypervolume_improvement,
    select_batch,
)
from paretonas.surrogates.uncovered import Boxes, Directions
from paretonas.surrogates.warp import Warp


def volume(points, reference) -> float:
    inside = [p for p in points if (np.asarray(p) < reference).all()]
    return float(moocore.hypervolume(np.array(inside), ref=reference)) if inside else 0.0


def gains(points, front, reference):
    """What points that are certain add to a front."""
    return Boxes.of(front, reference).gains(points)


def naive(draws, costs, reference, count, known) -> tuple[list[int], list[float]]:
    """The greedy choice with every hypervolume computed anew; and what each chosen one adds."""
    chosen, adds = list(range(known)), []
    while len(chosen) - known < min(count, len(costs) - known):

        def mean_volume(chosen):
            return np.mean([volume([[*d[i], *costs[i]] for i in chosen], reference) for d in draws])

        rest = [i for i in range(len(costs)) if i not in chosen]
        after = {i: mean_volume([*chosen, i]) for i in rest}
        best = max(after, key=after.__getitem__)
        adds.append(after[best] - mean_volume(chosen))
        chosen.append(best)
    return chosen[known:], adds


def problem(seed: int, k: int, costs: int, coarse: bool, uncertain: int = 1):
    rng = np.random.default_rng(seed)
    draws, table = rng.random((5, k, uncertain)), rng.random((k, costs))
    if coarse:  # many ties and duplicates
        draws, table = np.round(4 * draws) / 4, np.round(4 * table) / 4
    return draws, table, np.full(uncertain + costs, 0.9)  # some are beyond the reference


@given(st.integers(0, 999), st.integers(0, 8), st.integers(1, 3), st.booleans())
def test_a_gain_is_the_difference_of_two_hypervolumes(seed, size, costs, coarse):
    draws, table, reference = problem(seed, size + 1, costs, coarse)
    points = np.column_stack([draws[0], table])
    point, front = points[0], points[1:]
    inside = front[(front < reference).all(axis=1)]
    expected = volume([point, *inside], reference) - volume(inside, reference)
    found = gains(points[:1], front, reference)
    assert found == pytest.approx([expected], abs=1e-12)


def test_a_gain_in_numbers():
    reference = np.array([4.0, 4.0])
    front = np.array([[1.0, 3.0], [3.0, 1.0]])
    # The second is dominated, the third is there already, the last is at the reference.
    points = np.array([[2.0, 2.0], [3.0, 3.0], [1.0, 3.0], [0.0, 4.0]])
    assert gains(points, front, reference).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert gains(points, front[:0], reference).tolist() == [4.0, 1.0, 3.0, 0.0]


@given(
    st.integers(0, 999),
    st.integers(0, 4),
    st.sampled_from([(1, 1), (1, 2), (2, 0), (2, 1), (3, 0)]),
)
@settings(max_examples=50)
def test_picks_are_those_of_the_naive_greedy(seed, known, sizes):
    uncertain, costs = sizes
    draws, table, reference = problem(seed, 9, costs, coarse=False, uncertain=uncertain)
    expected, adds = naive(draws, table, reference, 4, known)
    found = select_batch(draws, table, reference, 4, known)
    worth = sum(g > 1e-12 for g in adds)  # of those that add nothing, any will do
    assert found[:worth] == expected[:worth]
    assert len(found) == 4


@given(st.integers(0, 999), st.integers(0, 3))
@settings(max_examples=25)
def test_ties_cost_no_hypervolume(seed, known):
    """Of equals either may go first, but every pick adds as much as any could at its turn."""
    draws, table, reference = problem(seed, 8, 1, coarse=True)
    so_far = list(range(known))
    for pick in select_batch(draws, table, reference, 5, known):
        rest = [i for i in range(8) if i not in so_far]
        adds = {
            i: np.mean(
                [volume([[*d[j], *table[j]] for j in [*so_far, i]], reference) for d in draws]
            )
            for i in rest
        }
        assert adds[pick] == pytest.approx(max(adds.values()), abs=1e-12)
        so_far.append(pick)


@given(st.integers(0, 999), st.integers(0, 6), st.integers(0, 9), st.booleans())
def test_nothing_known_is_chosen_and_nothing_twice(seed, known, count, coarse):
    draws, table, reference = problem(seed, 6, 2, coarse)
    found = select_batch(draws, table, reference, count, known)
    assert len(found) == len(set(found)) == min(count, 6 - known)
    assert all(index >= known for index in found)


def test_candidates_beyond_the_reference_come_last():
    draws = np.array([[[2.0], [0.5], [3.0], [0.1]]])
    costs = np.array([[0.1], [0.5], [0.1], [0.9]])
    assert select_batch(draws, costs, np.array([1.0, 1.0]), 4)[:2] == [1, 3]


def test_chance_counts_by_its_mean():
    """Certain to add 0.3, or 1 with chance 1/2: the gamble is worth more, and goes first."""
    costs = np.zeros((2, 1))
    draws = np.array([[0.7, 0.0], [0.7, 1.0]])[:, :, None]
    assert select_batch(draws, costs, np.array([1.0, 1.0]), 1) == [1]
    timid = np.array([[0.7, 0.5], [0.7, 1.0]])[:, :, None]
    assert select_batch(timid, costs, np.array([1.0, 1.0]), 1) == [0]


def test_inputs_stay_as_they_were():
    draws, table, reference = problem(0, 9, 2, coarse=False)
    copies = [array.copy() for array in (draws, table, reference)]
    for array in (draws, table, reference):
        array.setflags(write=False)
    select_batch(draws, table, reference, 3, known=2)
    for array, copy in zip((draws, table, reference), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("m, count", [(1, 3), (2, 0), (2, 12), (3, 15), (4, 10)])
def test_uncovered_boxes_are_disjoint_and_hold_what_no_point_dominates(m, count):
    rng = np.random.default_rng(m)
    front, reference = rng.random((count, m)) * 1.2, np.ones(m)
    boxes = Boxes.of(front, reference)
    lower, upper = boxes.lower, boxes.upper
    spots = rng.random((4000, m)) * 1.3 - 0.3
    within = ((spots[:, None] > lower) & (spots[:, None] < upper)).all(2).sum(1)
    dominated = (front[None] <= spots[:, None]).all(2).any(1) if count else np.zeros(4000, bool)
    expected = ~dominated & (spots < 1).all(1)
    assert (within == expected).all()


@pytest.mark.parametrize("m, count", [(2, 20), (3, 0), (5, 30), (8, 30)])
def test_the_volume_by_directions_is_nearly_the_hypervolume(m, count):
    """In units of any size; and the point that adds most is among those that add much."""
    rng = np.random.default_rng(m)
    size = 10.0 ** rng.integers(-3, 4, m)
    front, points = (rng.random((k, m)) ** 0.5 * size for k in (count, 30))
    before = volume(front, size)
    adds = np.array([volume([*front, point], size) - before for point in points])
    left = Directions.of(front[:5], size, 0 * size)
    for point in front[5:]:
        left = left.without(point)
    found = left.gains(points)
    assert found.sum() == pytest.approx(adds.sum(), rel=0.1)
    assert adds[found.argmax()] > 0.8 * adds.max()
    assert (found[adds == 0] == 0).all()


def test_sampled_improvement_is_nearly_the_expected_one():
    rng = np.random.default_rng(0)
    front, reference = rng.random((6, 3)), np.ones(3)
    mean, deviation = rng.random((10, 3)), rng.random((10, 3)) * 0.2
    warps = [Warp(None, 0.0, 1.0)] * 3
    expected = expected_hypervolume_improvement(
        front,
        reference,
        [
            lambda t, j=j: warps[j].expected_improvement(mean[:, j], deviation[:, j], t)
            for j in range(3)
        ],
    )
    got = sampled_hypervolume_improvement(
        lambda normal: mean + deviation * normal.numpy()[:, None],
        Directions.of(front, reference, np.zeros(3)),
    )
    assert np.abs(got - expected).max() < 0.15 * expected.max()
    assert got.argmax() == expected.argmax()


def test_many_points_in_eight_objectives_are_compared_in_little_time_and_memory():
    rng = np.random.default_rng(0)
    draws, costs = rng.random((3, 200, 1)), rng.random((200, 7))
    chosen = select_batch(draws, costs, np.ones(8), 5, known=150)
    assert len(set(chosen)) == 5 and min(chosen) >= 150


@pytest.mark.parametrize("m", [2, 3])
def test_what_is_certain_is_expected_to_add_what_it_adds(m):
    rng = np.random.default_rng(m)
    front, points, reference = rng.random((8, m)), rng.random((20, m)) * 1.1, np.ones(m)
    certain = [lambda t, c=points[:, [j]]: np.maximum(t - c, 0.0) for j in range(m)]
    before = moocore.hypervolume(front, ref=reference)
    adds = [moocore.hypervolume(np.vstack([front, p]), ref=reference) - before for p in points]
    np.testing.assert_allclose(
        expected_hypervolume_improvement(front, reference, certain), adds, atol=1e-12
    )


def test_expected_improvement_is_the_mean_over_draws():
    rng = np.random.default_rng(0)
    front, reference = np.array([[0.2, 0.7], [0.5, 0.4]]), np.ones(2)
    warps = [Warp(None, 0.0, 1.0), Warp(-0.1, -1.0, 0.5)]
    mean, deviation = np.array([[0.3, 0.2], [0.6, 0.5]]), np.array([[0.2, 0.3], [0.1, 0.4]])
    got = expected_hypervolume_improvement(
        front,
        reference,
        [
            lambda t, j=j: warps[j].expected_improvement(mean[:, j], deviation[:, j], t)
            for j in range(2)
        ],
    )
    before = moocore.hypervolume(front, ref=reference)
    for k in range(2):
        z = mean[k] + deviation[k] * rng.standard_normal((20_000, 2))
        draws = np.column_stack([warps[j].undo(torch.from_numpy(z[:, j])) for j in range(2)])
        gains = [moocore.hypervolume(np.vstack([front, d]), ref=reference) - before for d in draws]
        assert got[k] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / 141)
