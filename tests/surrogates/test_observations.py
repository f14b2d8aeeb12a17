"""What a sampler has been told: nothing is proposed again."""

import itertools

import numpy as np
import pytest

from paretonas.cell import EdgeCell
from paretonas.point import Failure, Point
from paretonas.problem import Problem
from paretonas.space import Choice, decode, every
from paretonas.surrogates.observations import Observations
from paretonas.table import Table

CELL = tuple(Choice(f"op_{edge}", ("conv", "none", "skip")) for edge in ("0_1", "0_2", "1_2"))
DIRECT = (1, 0, 1), (1, 0, 2), (0, 0, 1)  # a convolution from input to output, nothing else


def observations() -> Observations:
    costs = np.array([[float(sum(p)), 1.0] for p in itertools.product(range(3), repeat=3)])
    names = tuple(every(CELL))
    structure = EdgeCell.infer(CELL)
    allowed = np.ones(27, bool)
    return Observations(Problem(Table("t", CELL, ("a", "b"), names, costs, allowed, structure)))


def test_what_is_new_leaves_out_what_is_known():
    known = observations()
    assert known.new([(0,) * 3, (0,) * 3]) == [(0,) * 3]
    known.add(Failure(decode(CELL, (0,) * 3), "broken"))
    assert known.new([(0,) * 3]) == [] and len(known) == 1


def test_equal_functions_are_new_until_a_pair_of_them_has_equal_costs():
    known = observations()
    first, second, third = DIRECT
    known.add(Point(decode(CELL, first), {"a": 1.0, "b": 2.0}))
    assert known.new([second, third]) == [second, third]
    known.add(Point(decode(CELL, second), {"a": 1.0, "b": 2.5}))  # they differ on this device
    assert known.new([third]) == [third]
    other = observations()
    for picks in (first, second):
        other.add(Point(decode(CELL, picks), {"a": 1.0, "b": 2.0}))
    assert other.new([third]) == []


def test_a_violation_is_a_part_of_the_limit_and_on_a_log_scale_a_logarithm():
    costs = np.array([[3.0, 3.0], [1.0, 2.0], [4.0, 1.0]])
    names = tuple(every(CELL[:1]))
    table = Table("t", CELL[:1], ("a", "b"), names, costs, np.ones(3, bool))
    known = Observations(Problem(table, log=("b",), constraint="a<=2,b<=2"))
    for picks, values in zip(names, costs, strict=True):
        known.add(Point(picks, dict(zip("ab", values, strict=True))))
    assert known.violation(known.costs).tolist() == pytest.approx([0.5 + np.log(1.5), 0.0, 1.0])
