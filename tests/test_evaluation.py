"""The one road from an architecture to a point or a failure, whoever searches."""

import math
from dataclasses import dataclass, field

import pytest
import torch

from paretonas import journal
from paretonas.evaluation import Evaluation, Ledger, ScoredObjective, TrainedObjective, predicted
from paretonas.metric import Metric
from paretonas.objectives import DifferentiableObjective, MeasuredObjective, TrainedMetric
from paretonas.point import EvaluationError, Failure, Point
from paretonas.space import Architecture
from search_spaces import toy

A, B, C = (Architecture({"op": name}) for name in "abc")


@dataclass
class Cost:
    """An objective that is looked up; what is an exception is raised."""

    column: str
    values: dict

    def exact(self, architecture):
        value = self.values[architecture["op"]]
        if isinstance(value, BaseException):
            raise value
        return value


@dataclass(frozen=True)
class Trained:
    """Stands for a finalist."""

    architecture: Architecture
    network: object = "network"


@dataclass
class Error:
    """Trains, and fails for what is in `fails`."""

    fails: tuple = ()
    batches: list = field(default_factory=list)
    column = "error_percent"

    def exact(self, architecture):
        raise AssertionError("a network is trained with the others, not alone")

    def train_networks(self, architectures):
        self.batches.append(list(architectures))
        return [
            Failure(a, "no kernel") if a["op"] in self.fails else Trained(a) for a in architectures
        ]

    def example(self):
        return "example"

    def score_finalist(self, finalist):
        return 7.0, {"test_error_percent": 8.0, "latency_ms": 1.0}


class Metered(Cost):
    """Measured on the trained network where there is one."""

    def measure(self, network, example):
        return self.values[network, example]


@dataclass
class Timed(DifferentiableObjective):
    """Predicts 1 for every architecture; each measurement finds more."""

    found: list
    name = "latency"
    unit = "ms"
    noisy = True

    def relaxed(self, probabilities):
        raise AssertionError("nobody asked for a gradient")

    def exact(self, architecture):
        return 1.0

    def measure(self, network, example):
        return {"latency_ms": self.found.pop(0), "latency_spread_ms": 0.5}


@dataclass
class Notes:
    """A journal in memory, which names points."""

    written: list = field(default_factory=list)

    def add(self, outcome, seconds, network):
        if isinstance(outcome, Point):
            outcome = Point(outcome.architecture, outcome.objectives, outcome.reported, "p1")
        self.written.append((outcome, network))
        assert seconds >= 0
        return outcome


def test_each_objective_gives_its_cost():
    costs = [Cost("x", {"a": 1, "b": 2}), Cost("y", {"a": 3.5, "b": 4})]
    assert list(Evaluation(costs)([B, A])) == [
        Point(B, {"x": 2.0, "y": 4.0}),
        Point(A, {"x": 1.0, "y": 3.5}),
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (RuntimeError("no\nkernel"), "RuntimeError: no kernel"),
        (EvaluationError("no kernel"), "no kernel"),
        (SystemExit(3), "SystemExit: 3"),
        (math.nan, "x is nan"),
        (-math.inf, "x is -inf"),
        ("much", "ValueError: could not convert string to float: 'much'"),
    ],
)
def test_whatever_goes_wrong_is_a_failure_of_that_architecture(value, reason):
    evaluation = Evaluation([Cost("x", {"a": value, "b": 1.0})])
    assert list(evaluation([A, B])) == [Failure(A, reason), Point(B, {"x": 1.0})]
    assert (evaluation.ledger.evaluations, evaluation.ledger.failures) == (2, 1)


def test_an_interruption_is_no_failure():
    with pytest.raises(KeyboardInterrupt):
        list(Evaluation([Cost("x", {"a": KeyboardInterrupt()})])([A]))


def test_networks_are_trained_together_and_measured_one_by_one():
    error, latency = Error(fails=("b",)), Timed([2.0, 6.0])
    assert isinstance(error, TrainedObjective) and isinstance(error, ScoredObjective)
    assert isinstance(latency, MeasuredObjective) and not isinstance(latency, ScoredObjective)
    notes = Notes()
    found = list(Evaluation([error, latency], journal=notes, origin="search")([A, B, C]))
    assert error.batches == [[A, B, C]]
    # What is an objective is not reported a second time.
    reported = {
        "test_error_percent": 8.0,
        "latency_table_ms": 1.0,
        "latency_spread_ms": 0.5,
        "origin": "search",
    }
    assert found == [
        Point(A, {"error_percent": 7.0, "latency_ms": 2.0}, reported, "p1"),
        Failure(B, "no kernel"),
        Point(C, {"error_percent": 7.0, "latency_ms": 6.0}, reported, "p1"),
    ]
    assert notes.written == [(found[0], "network"), (found[1], None), (found[2], "network")]


@pytest.mark.parametrize(
    ("found", "value", "reported"),
    [
        (3.5, 3.5, {}),
        (torch.tensor(3.5), 3.5, {}),
        ({"energy_mj": 2}, 2.0, {}),
        ({"energy_idle_mj": 1.0, "energy_mj": 2.0}, 2.0, {"energy_idle_mj": 1.0}),
    ],
)
def test_a_measurement_is_a_number_or_names_it_beside_others(found, value, reported):
    energy = Metered("energy_mj", {("network", "example"): found})
    (point,) = Evaluation([Error(), energy])([A])
    assert point.objectives["energy_mj"] == value
    assert point.reported == {"test_error_percent": 8.0, "latency_ms": 1.0, **reported}


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (math.inf, "energy_mj is inf"),
        ({"energy": 1.0}, "ValueError: measure must return energy_mj, got energy"),
        ({}, "ValueError: measure must return energy_mj, got nothing"),
        ({"energy_mj": 1.0, "energy_idle_mj": math.nan}, "energy_idle_mj"),
        (None, "TypeError: "),
        ([1.0], "TypeError: "),
    ],
)
def test_a_measurement_that_is_none_is_a_failure(found, reason):
    notes, energy = Notes(), Metered("energy_mj", {("network", "example"): found})
    (failure,) = Evaluation([Error(), energy], journal=notes)([A])
    assert isinstance(failure, Failure) and reason in failure.reason
    assert len(notes.written) == 1


def test_what_is_measured_is_the_value_that_the_user_sees():
    class Frames(Metered):
        maximize = True

    frames = Frames("frames", {"a": -1.0, ("network", "example"): 30.0})
    assert next(Evaluation([Error(), frames])([A])).objectives["frames"] == 30.0
    assert next(Evaluation([frames])([A])).objectives["frames"] == 1.0


def test_without_a_training_the_prediction_is_the_value():
    assert list(Evaluation([Timed([])])([A])) == [Point(A, {"latency_ms": 1.0})]


def test_a_prediction_that_was_right_is_not_told_twice():
    (point,) = Evaluation([Error(), Timed([1.0])])([A])
    assert "latency_table_ms" not in point.reported


def test_who_is_trained_again_keeps_what_is_noisy_and_predicted():
    """Other weights have another error; their latency is the same, and a clock only adds noise."""
    energy = Metered("energy_mj", {("network", "example"): 5.0})
    told = {"latency_spread_ms": 0.25, "latency_table_ms": 0.125, "epochs": 1}
    before = Point(A, {"error_percent": 9.0, "latency_ms": 4.0, "energy_mj": 3.0}, told)
    evaluation = Evaluation([Error(), Timed([8.0]), energy], known={A: before})
    again, other = evaluation([A, B])
    assert again.objectives == {"error_percent": 7.0, "latency_ms": 4.0, "energy_mj": 5.0}
    assert again.reported == {
        "test_error_percent": 8.0,
        "latency_spread_ms": 0.25,
        "latency_table_ms": 0.125,
    }
    assert other.objectives["latency_ms"] == 8.0


def test_what_is_only_measured_needs_a_training():
    class Only:
        column = "energy_mj"

        def measure(self, network, example):
            return 3.0

    assert next(Evaluation([Error(), Only()])([A])).objectives["energy_mj"] == 3.0
    with pytest.raises(ValueError, match="energy_mj is measured on trained networks, and no obj"):
        Evaluation([Cost("x", {}), Only()])


def test_a_comparison_takes_predictions_in_the_place_of_noise():
    energy = Metered("energy_mj", {("network", "example"): 5.0})
    objectives = [predicted(one) for one in (Error(), Timed([8.0]), energy)]
    (point,) = Evaluation(objectives)([A])
    assert point.objectives == {"error_percent": 7.0, "latency_ms": 1.0, "energy_mj": 5.0}


def test_a_measure_of_another_kind_is_refused_before_anything_is_trained():
    class Own(Cost):
        def measure(self, network):
            return 1.0

    with pytest.raises(ValueError, match="measure of x must take a network and an example"):
        Evaluation([Error(), Own("x", {})])


def test_an_outcome_is_written_down_before_anybody_sees_it():
    notes = Notes()
    outcomes = Evaluation([Cost("x", {"a": 1.0, "b": 2.0})], journal=notes)([A, B])
    next(outcomes)
    assert len(notes.written) == 1


def test_the_ledger_goes_on_where_it_was():
    ledger = Ledger(evaluations=3, failures=1)
    list(Evaluation([Cost("x", {"a": math.nan})], ledger=ledger)([A]))
    assert (ledger.evaluations, ledger.failures) == (4, 2)
    assert ledger.evaluation_seconds > 0


def test_methods_of_ones_own_are_nobody_elses():
    """An objective may well train and measure what it likes, in methods of these names."""

    class Own(Cost):
        def train(self, architecture):
            return architecture["op"]

        def measure(self, network):
            return self.values[network]

        def exact(self, architecture):
            return self.measure(self.train(architecture))

    objectives = [Own("x", {"a": 1.0, "b": 2.0}), Own("y", {"a": 3.0, "b": 4.0})]
    assert list(Evaluation(objectives)([A])) == [Point(A, {"x": 1.0, "y": 3.0})]


def test_two_objectives_that_train_are_refused():
    with pytest.raises(ValueError, match="one objective can train networks, got error_percent and"):
        Evaluation([Error(), Error()])


@pytest.mark.parametrize(
    "outcome",
    [
        Point(A, {"x": 1.0}),
        Point(A, {"x": 1e-300, "y": -0.0}, {"test": 1, "origin": "search"}, "a01"),
        Failure(B, 'says "no"\u2028'),
    ],
)
@pytest.mark.parametrize("seconds", [None, 0.25])
def test_a_line_of_a_journal_is_read_as_it_was_written(outcome, seconds, tmp_path):
    from paretonas import _lines

    _lines.append(tmp_path / "lines", journal.encode(outcome, seconds))
    found, damaged = _lines.read(tmp_path / "lines", journal.decode)
    assert (found, damaged) == ([(outcome, seconds or 0.0)], [])


def test_a_journal_refuses_what_is_not_finite():
    with pytest.raises(ValueError, match="not finite"):
        journal.encode(Point(A, {"x": math.nan}))
    with pytest.raises(ValueError, match="objectives must be finite"):
        journal.decode({"architecture": {"op": "a"}, "objectives": {"x": math.inf}})


class Untouched:
    """A task that nobody may ask for an example yet."""

    metric = Metric("error", unit="percent")

    def example(self):
        raise AssertionError("its examples are not needed yet")


def test_what_an_objective_is_takes_no_example():
    assert isinstance(TrainedMetric(toy.space, task=Untouched()), TrainedObjective)
