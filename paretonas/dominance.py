"""How sure it is that one measured point is better than another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from paretonas.constraint import Constraint, split_unit
from paretonas.direction import turned
from paretonas.point import Point

__all__ = ["at_limit", "probability_less", "probability_of_dominance"]

COVERED = 0.9
SURE = 0.95

# A spread is the half width of an interval that holds a second measurement in 9 of 10 cases. So it
# is as many standard deviations of the difference of two measurements.
_DEVIATIONS = NormalDist().inv_cdf((1 + COVERED) / 2)


def spread_column(objective: str) -> str:
    """The column of an objective's spread.

    >>> spread_column("latency_ms"), spread_column("miou")
    ('latency_spread_ms', 'miou_spread')
    """
    stem, unit = split_unit(objective)
    return f"{stem}_spread_{unit}" if unit else f"{stem}_spread"


def probability_less(one: Point, other: Point, objective: str) -> float:
    """The probability that the true value of one point is less than that of another.

    Points report the spread of a measured objective, as ``latency_spread_ms``: in 9 of 10 cases a
    second measurement is so close. Errors are taken as normal and independent. Without a spread a
    value is exact; equal values give one half.

    >>> a = Point({"op": "x"}, {"latency_ms": 1.00}, {"latency_spread_ms": 0.05})
    >>> b = Point({"op": "y"}, {"latency_ms": 1.02}, {"latency_spread_ms": 0.05})
    >>> round(probability_less(a, b, "latency_ms"), 2), probability_less(a, a, "latency_ms")
    (0.74, 0.5)
    """
    column = spread_column(objective)
    spreads = [float(point.reported.get(column, 0.0)) for point in (one, other)]
    # A spread is that of a difference of two measurements; here each point has one.
    deviation = math.hypot(*spreads) / (math.sqrt(2) * _DEVIATIONS)
    apart = other.objectives[objective] - one.objectives[objective]
    if deviation > 0:
        return NormalDist().cdf(apart / deviation)
    return 0.5 if apart == 0 else float(apart > 0)


def at_limit(point: Point, constraint: Constraint) -> bool:
    """Whether measurements cannot tell if a point meets a constraint: a tie with a limit.

    A limit is within the spread of its value, and no other limit is clearly exceeded. So in 1 of 10
    cases or more a second measurement may be on the other side.

    >>> limit = Constraint({"latency_ms": 2.0})
    >>> points = [Point({"op": "x"}, {"latency_ms": t}, {"latency_spread_ms": 0.1})
    ...           for t in (1.85, 1.95, 2.05, 2.15)]
    >>> [at_limit(point, limit) for point in points]
    [False, True, True, False]
    """
    close = False
    for name, limit in constraint.limits.items():
        over = turned(point.objectives[name] - limit, name in constraint.at_least)
        spread = float(point.reported.get(spread_column(name), 0.0))
        if over > spread:
            return False
        close = close or abs(over) <= spread > 0
    return close


def probability_of_dominance(
    one: Point, other: Point, objectives: Sequence[str], maximize: Sequence[str] = ()
) -> float:
    """The probability that one point is better than another in all objectives.

    Where both have equal values without a spread, the objective does not count; it is 0 if no
    objective is left.

    Args:
        one: a point.
        other: another one.
        objectives: the names of the objectives.
        maximize: those of which larger values are better.
    """
    probability, counted = 1.0, False
    for name in objectives:
        spread = spread_column(name)
        noisy = any(float(point.reported.get(spread, 0.0)) > 0 for point in (one, other))
        if not noisy and one.objectives[name] == other.objectives[name]:
            continue
        less = probability_less(one, other, name)
        probability *= 1 - less if name in maximize else less
        counted = True
    return probability if counted else 0.0
