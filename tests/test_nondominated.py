"""What stays of cost vectors that arrive one at a time: as if all had been compared at once."""

import math
from itertools import pairwise

import moocore
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas import _nondominated
from paretonas._nondominated import Scan, Staircase, nondominated

coarse = st.integers(0, 6).map(float)  # few values, so that ties are common
any_float = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """A few vectors fill a block, and the first room."""
    monkeypatch.setattr(_nondominated, "_BLOCK", 2)
    monkeypatch.setattr(_nondominated, "_ROOM", 2)


def dominates(a, b) -> bool:
    """The definition, as a plain oracle."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and a != b


def vectors_of(values):
    return st.integers(1, 4).flatmap(
        lambda m: st.lists(st.tuples(*[values] * m), min_size=1, max_size=40)
    )


@given(st.one_of(vectors_of(coarse), vectors_of(any_float)), st.randoms())
def test_each_update_is_as_the_definition_says(vectors, rng):
    kept, held = nondominated(len(vectors[0])), []
    for vector in vectors:
        beaten = kept.enter(vector)
        if any(other == vector or dominates(other, vector) for other in held):
            assert beaten is None
        else:
            gone = [other for other in held if dominates(vector, other)]
            assert sorted(beaten) == sorted(gone)
            held = [other for other in held if other not in gone] + [vector]
        if held and rng.random() < 0.2:
            kept.remove(held.pop(rng.randrange(len(held))))


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("trend", ["random", "better", "worse"])
def test_many_vectors_are_those_that_moocore_keeps(m, trend):
    vectors = np.random.default_rng(0).random((600, m))
    vectors[:, 0] += {"random": 0.0, "better": -1.0, "worse": 1.0}[trend] * np.linspace(0, 3, 600)
    kept, held = nondominated(m), set()
    for vector in map(tuple, vectors.tolist()):
        beaten = kept.enter(vector)
        if beaten is not None:
            held = held - set(beaten) | {vector}
    assert held == set(map(tuple, moocore.filter_dominated(vectors).tolist()))


def test_one_vector_takes_the_place_of_all():
    for kept in (Staircase(), Scan(2)):
        stairs = [(float(n), float(-n)) for n in range(50)]
        for vector in stairs:
            assert kept.enter(vector) == []
        assert sorted(kept.enter((0.0, -99.0))) == stairs
        assert kept.enter((0.0, -99.0)) is None
        kept.remove((0.0, -99.0))
        assert kept.enter((5.0, 5.0)) == []


class Counted(float):
    """A number that counts how often it is compared."""

    times = 0

    def __eq__(self, other):
        Counted.times += 1
        return float(self) == float(other)

    def __lt__(self, other):
        Counted.times += 1
        return float(self) < float(other)

    def __le__(self, other):
        Counted.times += 1
        return float(self) <= float(other)

    def __ge__(self, other):
        Counted.times += 1
        return float(self) >= float(other)

    __hash__ = float.__hash__


def test_two_costs_are_compared_as_often_as_halving_does():
    """Counted, not timed: a few comparisons for each halving, however many vectors there are."""
    kept = Staircase()
    for n in range(2**13):
        kept.enter((float(n), float(-n)))
    for costs, enters in (((4000.5, -4000.5), True), ((4000.5, -3999.0), False)):
        Counted.times = 0
        assert (kept.enter(tuple(map(Counted, costs))) is not None) == enters
        assert 0 < Counted.times < 4 * math.log2(2**13)


def test_blocks_stay_short_and_in_order():
    kept, rng = Staircase(), np.random.default_rng(1)
    for n in rng.permutation(1000).tolist():
        kept.enter((float(n), float(-n)))
    assert all(0 < len(block) <= 2 * _nondominated._BLOCK for block in kept._blocks)
    everything = [vector for block in kept._blocks for vector in block]
    assert all(one < other for one, other in pairwise(everything))
    assert len(everything) == 1001  # and the one that stands before all others
