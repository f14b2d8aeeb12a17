"""One call of a user's function finds all objectives of an architecture."""

import math

import numpy as np
import pytest

from paretonas.front import Front
from paretonas.objectives import Objective, measured
from paretonas.problem import Problem
from paretonas.samplers.base import Failure, evaluate, sample
from paretonas.space import Architecture, Choice, every

COLUMNS = ("error_percent", "latency_ms")


class Tiny:
    name = "tiny"
    choices = (Choice("op", ("a", "b", "c")), Choice("width", ("1", "2")))


ARCHITECTURES = tuple(every(Tiny.choices))


class Counted:
    """A function that remembers what it was called with."""

    def __init__(self, answer):
        self.answer = answer
        self.calls = []

    def __call__(self, architecture):
        self.calls.append(architecture)
        return self.answer(architecture)


def costs(architecture):
    width = int(architecture["width"])
    return {"latency_ms": float(width), "error_percent": ord(architecture["op"]) / width}


@pytest.mark.parametrize(
    "answer",
    [
        costs,
        lambda a: {**costs(a), "note": "more than was asked for"},
        lambda a: [costs(a)[column] for column in COLUMNS],
        lambda a: np.array([costs(a)[column] for column in COLUMNS]),
        lambda a: tuple(np.float32(costs(a)[column]) for column in COLUMNS),
    ],
)
def test_one_call_per_architecture_finds_all_columns(answer):
    function = Counted(answer)
    objectives = measured(function, COLUMNS)
    assert all(isinstance(objective, Objective) for objective in objectives)
    assert tuple(objective.column for objective in objectives) == COLUMNS
    for architecture in ARCHITECTURES:
        point = evaluate(architecture, objectives)
        assert point.objectives == pytest.approx(costs(architecture))
    assert tuple(function.calls) == ARCHITECTURES
    assert all(isinstance(call, Architecture) for call in function.calls)


def test_only_the_last_architecture_is_remembered():
    function = Counted(costs)
    error, latency = measured(function, COLUMNS)
    one, other = ARCHITECTURES[:2]
    error.exact(dict(one)), latency.exact(one), error.exact(one)
    assert len(function.calls) == 1
    error.exact(other), error.exact(one)
    assert function.calls == [one, other, one]


def test_two_measurements_share_nothing():
    first, second = Counted(costs), Counted(costs)
    (one, _), (other, _) = measured(first, COLUMNS), measured(second, COLUMNS)
    one.exact(ARCHITECTURES[0]), other.exact(ARCHITECTURES[0])
    assert len(first.calls) == len(second.calls) == 1


def test_what_the_function_raises_goes_through_and_becomes_a_failure():
    def crash(architecture):
        if architecture["op"] == "b":
            raise RuntimeError("the device does not answer")
        return [float("nan"), 1.0] if architecture["op"] == "c" else [1.0, 2.0]

    function = Counted(crash)
    objectives = measured(function, COLUMNS)
    with pytest.raises(RuntimeError, match="does not answer"):
        objectives[0].exact({"op": "b", "width": "1"})

    class InOrder:
        def ask(self):
            return ARCHITECTURES

        def tell(self, outcomes):
            pass

    front = Front(COLUMNS)
    function.calls.clear()
    outcomes = list(sample(Problem(Tiny, objectives), InOrder(), front, budget=len(ARCHITECTURES)))
    assert len(function.calls) == len(ARCHITECTURES)
    reasons = [o.reason for o in outcomes if isinstance(o, Failure)]
    assert (
        reasons == ["RuntimeError: the device does not answer"] * 2 + ["error_percent is nan"] * 2
    )
    assert len(front) == 1


def test_after_an_error_the_last_good_answer_is_not_given_for_another():
    def crash(architecture):
        if architecture["op"] == "b":
            raise RuntimeError("no")
        return costs(architecture)

    error, _ = measured(crash, COLUMNS)
    good = ARCHITECTURES[0]
    before = error.exact(good)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            error.exact({"op": "b", "width": "1"})
    assert error.exact(good) == before


@pytest.mark.parametrize(
    ("answer", "kind", "message"),
    [
        (
            {"latency_ms": 1.0, "error": 2.0},
            ValueError,
            "no 'error_percent'; there are latency_ms, error",
        ),
        ([1.0], ValueError, "one value each for error_percent, latency_ms, got 1"),
        ([1.0, 2.0, 3.0], ValueError, "got 3"),
        (None, TypeError, "by name or in this order, got None"),
        (1.5, TypeError, "by name or in this order, got 1.5"),
        ("12", TypeError, "by name or in this order, got '12'"),
        (["fast", 1.0], ValueError, "could not convert"),
    ],
)
def test_answers_that_do_not_fit(answer, kind, message):
    error, _ = measured(lambda architecture: answer, COLUMNS)
    with pytest.raises(kind, match=message):
        error.exact(ARCHITECTURES[0])


def test_what_is_maximized_is_a_negative_cost_and_the_value_in_a_point():
    error, latency = measured(costs, COLUMNS, maximize=["error_percent"])
    assert (error.maximize, latency.maximize) == (True, False)
    for architecture in ARCHITECTURES:
        found = costs(architecture)
        assert error.exact(architecture) == -found["error_percent"]
        assert latency.exact(architecture) == found["latency_ms"]
        assert evaluate(architecture, (error, latency)).objectives == found
    failed = evaluate(ARCHITECTURES[0], measured(lambda a: [math.inf], ["gain"], ["gain"]))
    assert failed.reason == "gain is inf"
    with pytest.raises(ValueError, match="maximize names 'gain', and the objectives are error_p"):
        measured(costs, COLUMNS, maximize=["gain"])
    with pytest.raises(TypeError, match="maximize must be a sequence of names, got 'error_p"):
        measured(costs, COLUMNS, maximize="error_percent")


@pytest.mark.parametrize(
    ("function", "columns", "kind", "message"),
    [
        (costs, [], ValueError, "at least one column, each once"),
        (costs, ["ms", "ms"], ValueError, "each once, got"),
        (costs, "ms", TypeError, "a sequence of names, got 'ms'"),
        ({"ms": 1}, ["ms"], TypeError, "must be a function"),
    ],
)
def test_arguments_that_do_not_fit(function, columns, kind, message):
    with pytest.raises(kind, match=message):
        measured(function, columns)
