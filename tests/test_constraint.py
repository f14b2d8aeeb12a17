"""Limits mean the same in every unit, and what cannot be a limit is refused with the rule."""

import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paretonas.constraint import Constraint, resolve

OBJECTIVES = ["error_percent", "latency_ms", "memory_kib"]


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("latency<=2ms", {"latency_ms": 2.0}),
        ("latency_ms <= 2", {"latency_ms": 2.0}),
        ("latency<=2000us", {"latency_ms": 2.0}),
        ("latency<=2000µs", {"latency_ms": 2.0}),
        ("latency<=.002 S", {"latency_ms": 2.0}),
        ("latency<=2e6ns", {"latency_ms": 2.0}),
        ("memory<=64KiB", {"memory_kib": 64.0}),
        ("memory<=65536B", {"memory_kib": 64.0}),
        ("memory<=65536bytes", {"memory_kib": 64.0}),
        ("memory<=2MiB", {"memory_kib": 2048.0}),
        ("memory<=1.024kB", {"memory_kib": 1.0}),
        ("error<=3%", {"error_percent": 3.0}),
        ("error<=3 percent", {"error_percent": 3.0}),
        ("error<=3", {"error_percent": 3.0}),
        (" latency<=2ms , memory<=64KiB ", {"latency_ms": 2.0, "memory_kib": 64.0}),
        ("latency<=2ms,latency<=1ms", {"latency_ms": 1.0}),
        ("latency<=1ms,latency<=2ms", {"latency_ms": 1.0}),
    ],
)
def test_reads_names_numbers_and_units(text, limits):
    assert Constraint.parse(text, OBJECTIVES).limits == limits


def test_an_objective_without_a_unit_takes_a_bare_number():
    assert Constraint.parse("parameters<=1e4", ["parameters"]).limits == {"parameters": 1e4}
    assert Constraint.parse("score<=-1", ["score"]).limits == {"score": -1.0}


def test_a_unit_of_the_users_own_may_be_left_out_or_named():
    for text in ("angle<=12", "angle_degrees<=12", "angle<=12 degrees", "angle<=12Degrees"):
        assert Constraint.parse(text, ["error_percent", "angle_degrees"]).limits == {
            "angle_degrees": 12.0
        }
    with pytest.raises(ValueError, match="'angle' may be any of angle_degrees, angle_turns"):
        resolve("angle", ["angle_degrees", "angle_turns"])
    with pytest.raises(ValueError, match="unknown unit 'turns'"):
        Constraint.parse("angle<=2turns", ["angle_degrees"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"reads NAME<=NUMBER\[UNIT\], as in latency<=2ms, or NAME>=.*; got ''"),
        ("latency<2ms", "reads NAME<=NUMBER.*got 'latency<2ms'"),
        ("latency>=2ms", "latency_ms is minimized, so its limit reads latency<=2ms"),
        ("latency<=fast", "reads NAME<=NUMBER"),
        ("latency<=2ms,", "got ''"),
        ("latency<=nan", "reads NAME<=NUMBER"),
        ("latency<=1e999", "limit on latency_ms must be finite, got inf"),
        ("energy<=2mJ", "no objective is called 'energy'; there are error_percent, latency_ms"),
        ("latency<=2fortnights", "unknown unit 'fortnights'; there are ns, us"),
        ("latency<=2KiB", "latency_ms is not measured in 'KiB'"),
        ("latency<=-2ms", "latency_ms is never negative, got a limit of -2ms"),
    ],
)
def test_refuses_with_the_rule_and_what_was_found(text, message):
    with pytest.raises(ValueError, match=message):
        Constraint.parse(text, OBJECTIVES)


def test_a_unit_for_an_objective_that_names_none_is_refused():
    with pytest.raises(ValueError, match="parameters is not measured in 'ms'"):
        Constraint.parse("parameters<=2ms", ["parameters"])


def test_a_name_that_fits_two_objectives_is_refused():
    with pytest.raises(ValueError, match="'latency' may be any of latency_ms, latency_us"):
        resolve("latency", ["latency_ms", "latency_us"])


def test_a_unit_of_the_users_own_may_be_left_out_unless_another_objective_fits():
    own = ["rmse_celsius", "rmse", "dice_points", "latency_ms", "latency_gpu_ms"]
    assert [resolve(name, own) for name in ("rmse", "dice", "latency")] == [*own[1:4]]
    assert Constraint.parse("rmse<=4", own[:1]).limits == {"rmse_celsius": 4.0}
    with pytest.raises(ValueError, match="'angle' may be any of angle_degrees, angle_turns"):
        resolve("angle", ["angle_degrees", "angle_turns"])
    with pytest.raises(ValueError, match="no objective is called 'rm'"):
        resolve("rm", own)


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_satisfied_is_at_most_the_limit(limit, value):
    assert Constraint({"latency_ms": limit}).satisfied({"latency_ms": value}) == (value <= limit)


def test_all_limits_count_and_none_is_missing():
    both = Constraint.parse("latency<=2ms,error<=3%", OBJECTIVES)
    assert both.satisfied({"error_percent": 3.0, "latency_ms": 2.0, "memory_kib": 1e9})
    assert not both.satisfied({"error_percent": 3.1, "latency_ms": 2.0})
    assert not both.satisfied({"error_percent": 3.0, "latency_ms": 2.1})
    with pytest.raises(ValueError, match="limits latency_ms, but there are only error_percent"):
        both.satisfied({"error_percent": 3.0})


def test_prints_what_it_reads_and_survives_pickling():
    constraint = Constraint.parse("latency<=1500us,memory<=64KiB", OBJECTIVES)
    assert str(constraint) == "latency_ms<=1.5,memory_kib<=64"
    assert Constraint.parse(str(constraint), OBJECTIVES) == constraint
    assert pickle.loads(pickle.dumps(constraint)) == constraint


def test_limits_are_checked_and_read_only():
    with pytest.raises(ValueError, match="must be finite, got nan"):
        Constraint({"latency_ms": math.nan})
    with pytest.raises(TypeError):
        Constraint({"latency_ms": 1.0}).limits["latency_ms"] = 2.0


VALUE = st.floats(-1e300, 1e300) | st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1.0])


@given(VALUE, VALUE, st.floats(-1e300, 1e300) | st.sampled_from([0.0, 1.0]), st.booleans())
def test_a_violation_of_nothing_is_what_satisfies(a, b, limit, upward):
    constraint = Constraint({"a": limit, "b": 1.0}, frozenset("a") if upward else frozenset())
    values = {"a": a, "b": b}
    violation = constraint.violation(values)
    assert violation >= 0  # also no nan, which is less than nothing
    assert constraint.satisfied(values) == (violation == 0)
    if math.isnan(a):
        assert constraint.excess(values)["a"] == violation == math.inf
