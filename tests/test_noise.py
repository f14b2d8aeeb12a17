"""The probability of being on the front, against plain simulation and closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from paretonas.front import Front, Point
from paretonas.noise import Measurements

NAMES = ("error_percent", "latency_ms")
DRAWS = 2500
CLOSE = 4 * 0.5 / math.sqrt(DRAWS)


def point(name: str, *values: float, **more) -> Point:
    return Point({"op": name}, dict(zip(NAMES, values, strict=True)), **more)


def taken(measured, spread=None) -> Measurements:
    measurements = Measurements(NAMES, spread)
    for name, *values in measured:
        measurements.add(point(name, *values))
    return measurements


def probabilities(measurements: Measurements, **more) -> dict[str, float]:
    return {
        p.architecture["op"]: p.reported["probability_on_front"]
        for p in measurements.points(draws=DRAWS, **more)
    }


# --- probabilities -------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [-1.0, 0.0, 0.5, 2.0])
@pytest.mark.parametrize("repeats", [1, 3])
def test_two_points_have_a_closed_form(behind, repeats):
    """The one with the larger error is on the front if and only if it is truly faster."""
    spread = {"latency_ms": lambda p: 0.5 if p.architecture["op"] == "a" else 1.2}
    measured = [("a", 1.0, 7.0)] * repeats + [("b", 2.0, 7.0 + behind)]
    found = probabilities(taken(measured, spread))
    apart = math.sqrt(0.5**2 / repeats + 1.2**2)
    assert found["a"] == 1.0
    assert found["b"] == pytest.approx(norm.cdf(-behind / apart), abs=CLOSE)


def test_noise_in_both_objectives_has_a_closed_form():
    """The one is dominated if the other is better in both, and the two are independent."""
    found = probabilities(
        taken([("a", 1.0, 1.0), ("b", 1.5, 1.2)], {"error_percent": 0.6, "latency_ms": 0.3})
    )
    worse = norm.cdf(0.5 / (0.6 * math.sqrt(2))) * norm.cdf(0.2 / (0.3 * math.sqrt(2)))
    assert found["b"] == pytest.approx(1 - worse, abs=CLOSE)
    better = norm.cdf(-0.5 / (0.6 * math.sqrt(2))) * norm.cdf(-0.2 / (0.3 * math.sqrt(2)))
    assert found["a"] == pytest.approx(1 - better, abs=CLOSE)


@pytest.mark.parametrize("seed", range(3))
def test_many_points_agree_with_plain_simulation(seed):
    rng = np.random.default_rng(seed)
    means, deviations = rng.uniform(1, 4, (20, 2)), rng.uniform(0, 0.4, (20, 2))
    deviations[:5, 1] = 0  # (some exact)
    spread = {
        name: lambda p, index=index: float(deviations[int(p.architecture["op"]), index])
        for index, name in enumerate(NAMES)
    }
    found = probabilities(taken([(str(k), *row) for k, row in enumerate(means)], spread))
    hits = [0] * 20
    plain = np.random.default_rng(100 + seed)
    for _ in range(DRAWS):
        true = plain.normal(means, deviations).tolist()
        for one, (error, latency) in enumerate(true):
            hits[one] += not any(
                other[0] <= error and other[1] <= latency and other != [error, latency]
                for other in true
            )
    for one in range(20):
        assert found[str(one)] == pytest.approx(hits[one] / DRAWS, abs=1.5 * CLOSE)
    assert len({p for p in found.values() if 0 < p < 1}) > 2


def test_without_noise_the_front_is_certain_and_twins_are_both_on_it():
    measured = [("a", 1.0, 3.0), ("b", 2.0, 2.0), ("twin", 2.0, 2.0), ("c", 2.0, 4.0)]
    assert probabilities(taken(measured)) == {"a": 1, "b": 1, "twin": 1, "c": 0}
    assert [p.architecture["op"] for p in taken(measured).front()] == ["a", "b"]


def test_repeats_that_agree_are_exact():
    measured = [("a", 0.1, 3.0)] * 3 + [("b", 0.1, 3.0)]
    found = taken(measured).points()
    assert [p.reported["probability_on_front"] for p in found] == [1, 1]
    assert [list(p.reported) for p in found] == [["repeats", "probability_on_front"]] * 2


def test_the_same_seed_finds_the_same_and_order_does_not_matter_to_the_means():
    measured = [("a", 1.0, 3.0), ("b", 2.0, 2.9), ("b", 2.0, 3.2), ("a", 1.0, 3.3)]
    one, again = taken(measured), taken(measured)
    assert probabilities(one, seed=3) == probabilities(again, seed=3)
    other = probabilities(taken(measured[::-1]))
    assert other == pytest.approx(probabilities(one), abs=2 * CLOSE)
    state = np.random.get_state()[1].tolist()
    one.points()
    assert np.random.get_state()[1].tolist() == state


def test_units_do_not_matter():
    measured = [("a", 1.0, 3.0), ("b", 2.0, 2.9), ("b", 2.0, 3.2), ("a", 1.0, 3.3)]
    seconds = [(name, error, latency / 1024) for name, error, latency in measured]
    assert probabilities(taken(seconds)) == probabilities(taken(measured))


def test_repeats_make_sure():
    """The more often two close points are measured, the surer their order."""
    rng = np.random.default_rng(0)
    found = []
    for repeats in (2, 8, 32, 128):
        noise = rng.normal(0, 0.2, repeats)
        noise = (noise - noise.mean()) / noise.std() * 0.2  # the same spread and mean each time
        fast = [("fast", 2.0, 3.0 + e) for e in noise]
        slow = [("slow", 1.0, 3.05 + e) for e in noise]
        found.append(probabilities(taken(fast + slow))["fast"])
    assert all(less < more for less, more in pairwise(found)) and found[-1] > 0.95


# --- how far measurements lie apart --------------------------------------------------------------


def errors(measurements: Measurements, name="latency_ms") -> list[float]:
    return [p.reported.get(f"{name}_standard_error") for p in measurements.points(draws=1)]


def test_architectures_without_repeats_borrow_the_spread_of_those_with():
    measured = [("a", 1.0, 10.0), ("b", 2.0, 3.0), ("b", 2.0, 5.0)]
    (a, b) = errors(taken(measured))
    relative = 2 / 4**2  # the sum of squares of the one pair, relative to its mean; one degree
    assert b == pytest.approx(4 * math.sqrt(relative / 2))
    assert a == pytest.approx(10 * math.sqrt(relative))
    assert [e is None for e in errors(taken(measured), "error_percent")] == [True, True]


def test_where_a_value_is_not_positive_the_spread_is_absolute():
    measured = [("a", 1.0, -10.0), ("b", 2.0, -3.0), ("b", 2.0, -5.0)]
    assert errors(taken(measured)) == pytest.approx([math.sqrt(2), 1.0])


def test_many_repeats_speak_for_themselves():
    rng = np.random.default_rng(0)
    quiet = [("quiet", 1.0, v) for v in rng.normal(10, 0.1, 200)]
    loud = [("loud", 2.0, v) for v in rng.normal(10, 2.0, 200)]
    found = errors(taken([*quiet, *loud]))
    plain = [np.std([v for *_, v in each], ddof=1) / math.sqrt(200) for each in (quiet, loud)]
    assert found[1] == pytest.approx(plain[1], rel=0.05)
    assert plain[0] < found[0] < 0.15 * plain[1] * math.sqrt(200)  # (still heard of the loud one)


def test_the_estimate_is_right_on_average():
    """Over many pairs of one spread, the standard error is that of the mean of two."""
    rng = np.random.default_rng(1)
    measured = [
        (str(k), 1.0, mean * (1 + 0.05 * rng.standard_normal()))
        for k, mean in enumerate(rng.uniform(1, 50, 300))
        for _ in range(2)
    ]
    found = taken(measured).points(draws=1)
    relative = [p.reported["latency_ms_standard_error"] / p.objectives["latency_ms"] for p in found]
    assert np.sqrt(np.mean(np.square(relative))) == pytest.approx(0.05 / math.sqrt(2), rel=0.1)


def test_a_known_spread_is_taken_as_it_is():
    spread = {"latency_ms": lambda p: p.reported["latency_spread_ms"]}
    measurements = Measurements(NAMES, spread)
    for latency, width in [(1.0, 0.3), (5.0, 0.4)]:
        measurements.add(point("a", 1.0, latency, reported={"latency_spread_ms": width}))
    assert errors(measurements) == [pytest.approx(math.sqrt((0.09 + 0.16) / 2 / 2))]


# --- points and fronts ---------------------------------------------------------------------------


def test_points_are_means_and_keep_what_they_report(tmp_path):
    measurements = Measurements(NAMES)
    measurements.add(point("a", 1.0, 3.0, id="first", reported={"origin": "search"}))
    measurements.add(point("b", 5.0, 1.0))
    measurements.add(point("a", 2.0, 5.0, id="last", reported={"origin": "rack"}))
    a, b = measurements.points()
    assert len(measurements) == 2
    assert (a.id, dict(a.objectives)) == ("last", {"error_percent": 1.5, "latency_ms": 4.0})
    assert list(a.reported) == [
        "origin",
        "repeats",
        "error_percent_standard_error",
        "latency_ms_standard_error",
        "probability_on_front",
    ]
    assert (a.reported["origin"], a.reported["repeats"], b.reported["repeats"]) == ("rack", 2, 1)
    front = measurements.front()
    assert {"repeats", "probability_on_front"} <= set(front.to_pandas().columns)
    front.write(tmp_path / "front.csv")
    again = Front.read(tmp_path / "front.csv")
    assert [dict(p.reported) for p in again] == [dict(p.reported) for p in front]


def test_a_lucky_measurement_leaves_the_front():
    once = [("a", 1.0, 3.0), ("b", 2.0, 2.9)]
    more = [("b", 2.0, 3.4), ("a", 1.0, 3.05)]
    assert len(taken(once).front()) == 2
    assert [p.architecture["op"] for p in taken(once + more).front()] == ["a"]


def test_nothing_measured_is_an_empty_front():
    assert Measurements(NAMES).points() == () and len(Measurements(NAMES).front()) == 0


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Measurements([]), "at least one objective"),
        (lambda: Measurements(["x", "x"]), "each once"),
        (
            lambda: Measurements(NAMES, {"latency": 1}),
            "no objective has this name; did you mean 'l",
        ),
        (lambda: taken([("a", 1, 2)], {"latency_ms": -1}), "must be 0 or more and finite, got -1"),
        (lambda: taken([("a", 1, 2)], {"latency_ms": math.nan}), "must be 0 or more .* got nan"),
        (lambda: taken([("a", 1, math.inf)]), "latency_ms of point .* must be finite, got inf"),
        (
            lambda: Measurements(NAMES).add(Point({"op": "a"}, {"x": 1})),
            "has the objectives x, not error",
        ),
        (lambda: taken([("a", 1, 2)]).add(Point({"b": "a"}, {n: 1 for n in NAMES})), "other choi"),
        (lambda: taken([("a", 1, 2)]).points(draws=0), "draws must be positive, got 0"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(ValueError, match=message):
        act()
