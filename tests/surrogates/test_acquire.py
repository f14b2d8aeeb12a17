"""The choice of what to evaluate next, against hypervolumes computed from scratch."""

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paretonas.surrogates.acquire import acquire, gain


def volume(points, reference) -> float:
    inside = [p for p in points if (np.asarray(p) < reference).all()]
    return float(moocore.hypervolume(np.array(inside), ref=reference)) if inside else 0.0


def naive(draws, costs, reference, count, known) -> tuple[list[int], list[float]]:
    """The greedy choice with every hypervolume computed anew; and what each chosen one adds."""
    chosen, gains = list(range(known)), []
    while len(chosen) - known < min(count, len(costs) - known):

        def mean_volume(chosen):
            return np.mean([volume([[d[i], *costs[i]] for i in chosen], reference) for d in draws])

        rest = [i for i in range(len(costs)) if i not in chosen]
        after = {i: mean_volume([*chosen, i]) for i in rest}
        best = max(after, key=after.__getitem__)
        gains.append(after[best] - mean_volume(chosen))
        chosen.append(best)
    return chosen[known:], gains


def problem(seed: int, k: int, costs: int, coarse: bool):
    rng = np.random.default_rng(seed)
    draws, table = rng.random((5, k)), rng.random((k, costs))
    if coarse:  # many ties and duplicates
        draws, table = np.round(4 * draws) / 4, np.round(4 * table) / 4
    return draws, table, np.full(1 + costs, 0.9)  # some are beyond the reference


@given(st.integers(0, 999), st.integers(0, 8), st.integers(1, 3), st.booleans())
def test_a_gain_is_the_difference_of_two_hypervolumes(seed, size, costs, coarse):
    draws, table, reference = problem(seed, size + 1, costs, coarse)
    points = np.column_stack([draws[0], table])
    point, front = points[0], points[1:]
    inside = front[(front < reference).all(axis=1)]
    expected = volume([point, *inside], reference) - volume(inside, reference)
    assert gain(point, inside, reference) == pytest.approx(expected, abs=1e-12)


def test_a_gain_in_numbers():
    reference = np.array([4.0, 4.0])
    front = np.array([[1.0, 3.0], [3.0, 1.0]])
    assert gain(np.array([2.0, 2.0]), front, reference) == pytest.approx(1.0)
    assert gain(np.array([3.0, 3.0]), front, reference) == 0.0  # dominated
    assert gain(np.array([1.0, 3.0]), front, reference) == 0.0  # there already
    assert gain(np.array([0.0, 4.0]), front, reference) == 0.0  # at the reference
    assert gain(np.array([2.0, 2.0]), front[:0], reference) == 4.0


@given(st.integers(0, 999), st.integers(0, 4), st.integers(1, 2))
@settings(max_examples=40)
def test_picks_are_those_of_the_naive_greedy(seed, known, costs):
    draws, table, reference = problem(seed, 9, costs, coarse=False)
    expected, gains = naive(draws, table, reference, 4, known)
    found = acquire(draws, table, reference, 4, known)
    worth = sum(g > 1e-12 for g in gains)  # of those that add nothing, any will do
    assert found[:worth] == expected[:worth]
    assert len(found) == 4


@given(st.integers(0, 999), st.integers(0, 3))
@settings(max_examples=25)
def test_ties_cost_no_hypervolume(seed, known):
    """Of equals either may go first, but every pick adds as much as any could at its turn."""
    draws, table, reference = problem(seed, 8, 1, coarse=True)
    so_far = list(range(known))
    for pick in acquire(draws, table, reference, 5, known):
        rest = [i for i in range(8) if i not in so_far]
        adds = {
            i: np.mean(
                [volume([[d[j], *table[j]] for j in [*so_far, i]], reference) for d in draws]
            )
            for i in rest
        }
        assert adds[pick] == pytest.approx(max(adds.values()), abs=1e-12)
        so_far.append(pick)


@given(st.integers(0, 999), st.integers(0, 6), st.integers(0, 9), st.booleans())
def test_nothing_known_is_chosen_and_nothing_twice(seed, known, count, coarse):
    draws, table, reference = problem(seed, 6, 2, coarse)
    found = acquire(draws, table, reference, count, known)
    assert len(found) == len(set(found)) == min(count, 6 - known)
    assert all(index >= known for index in found)


def test_candidates_beyond_the_reference_come_last():
    draws = np.array([[2.0, 0.5, 3.0, 0.1]])
    costs = np.array([[0.1], [0.5], [0.1], [0.9]])
    assert acquire(draws, costs, np.array([1.0, 1.0]), 4)[:2] == [1, 3]


def test_chance_counts_by_its_mean():
    """Certain to add 0.3, or 1 with chance 1/2: the gamble is worth more, and goes first."""
    costs = np.zeros((2, 1))
    draws = np.array([[0.7, 0.0], [0.7, 1.0]])
    assert acquire(draws, costs, np.array([1.0, 1.0]), 1) == [1]
    timid = np.array([[0.7, 0.5], [0.7, 1.0]])
    assert acquire(timid, costs, np.array([1.0, 1.0]), 1) == [0]


def test_inputs_stay_as_they_were():
    draws, table, reference = problem(0, 9, 2, coarse=False)
    copies = [array.copy() for array in (draws, table, reference)]
    for array in (draws, table, reference):
        array.setflags(write=False)
    acquire(draws, table, reference, 3, known=2)
    for array, copy in zip((draws, table, reference), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
