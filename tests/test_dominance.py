"""How sure an order is: against draws, and what a front says of points that are alike."""

import numpy as np
import pytest

from paretonas import Front, Point
from paretonas.dominance import probability_less, probability_of_dominance

COLUMNS = ["error_percent", "latency_ms"]


def point(name, error, latency, spread=0.0, **more):
    reported = {"latency_spread_ms": spread} if spread else {}
    values = {"error_percent": error, "latency_ms": latency, **more}
    return Point({"op": name}, values, reported, name)


@pytest.mark.parametrize(
    ("gap", "spreads"), [(0.02, (0.05, 0.03)), (-0.01, (0.0, 0.04)), (0, (1, 1))]
)
def test_the_probability_is_that_of_draws(gap, spreads):
    one, other = point("a", 1.0, 1.0, spreads[0]), point("b", 1.0, 1.0 + gap, spreads[1])
    rng = np.random.default_rng(0)
    # In 9 of 10 cases a second measurement is within the spread of the first.
    sigma = [spread / 1.6449 / np.sqrt(2) for spread in spreads]
    drawn = [m + s * rng.normal(size=10**5) for m, s in zip((1.0, 1.0 + gap), sigma, strict=True)]
    expected = np.mean(drawn[0] < drawn[1])
    assert probability_less(one, other, "latency_ms") == pytest.approx(expected, abs=0.01)
    assert probability_less(other, one, "latency_ms") == pytest.approx(1 - expected, abs=0.01)
    again = [drawn[0], 1.0 + sigma[0] * rng.normal(size=10**5)]
    if sigma[0]:
        assert np.mean(np.abs(again[0] - again[1]) <= spreads[0]) == pytest.approx(0.9, abs=0.01)


def test_without_a_spread_it_is_plain_dominance():
    better, worse = point("a", 1.0, 1.0), point("b", 1.0, 2.0)
    trade = point("c", 0.5, 3.0)
    for one, other, expected in [(better, worse, 1), (worse, better, 0), (better, trade, 0)]:
        assert probability_of_dominance(one, other, COLUMNS) == expected
    assert probability_of_dominance(better, better, COLUMNS) == 0
    high, low = point("a", 1.0, 1.0, miou=0.8), point("b", 1.0, 1.0, miou=0.7)
    assert probability_of_dominance(high, low, [*COLUMNS, "miou"], ["miou"]) == 1


def test_a_front_names_what_cannot_be_told_from_the_fastest():
    front = Front(COLUMNS)
    for args in [("a", 3.0, 1.0, 0.05), ("b", 2.0, 1.02, 0.05), ("c", 1.0, 1.2, 0.05)]:
        front.add(point(*args))
    assert front.pick("fastest").id == "a"
    assert [p.id for p in front.ties("fastest")] == ["b"]
    assert front.ties("knee") == front.ties("latency<=2ms") == []
    assert front.probability_of_dominance(front["b"], front["c"]) == 0
    assert front.probability_of_dominance(front["b"], front["a"]) == pytest.approx(0.26, abs=0.01)
