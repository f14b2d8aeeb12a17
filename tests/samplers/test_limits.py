"""Limits on objectives: who counts as feasible, and what every sampler makes of it."""

import numpy as np
import pandas as pd
import pytest
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.problem import Problem as PymooProblem

from paretonas.front import Front
from paretonas.point import Failure, Point
from paretonas.problem import Problem
from paretonas.samplers.base import evaluate, sample
from paretonas.samplers.methods import make
from paretonas.samplers.pymoo import Pymoo, operators
from paretonas.space import encode, every, size
from paretonas.table import Table

METHODS = ("surgery", "ridge", "local", "nsga2", "nsga3", "smsemoa", "tpe", "optuna-nsga2")


def error(picks):
    return 30.0 - 3 * picks[0] - 2 * picks[1] - 4 * picks[2] + (picks[0] * picks[1]) % 3


def time(picks):
    return 1.0 + picks[0] * (1 + picks[1]) + 0.5 * picks[2] ** 2


def size_of(picks):
    return 10.0 + 7 * picks[1] + 3 * picks[2]


@pytest.fixture
def limited(problem_of, grid):
    def build(constraint, **more):
        return problem_of(
            grid(4, 3, 4), constraint=constraint, error=error, latency_ms=time, kib=size_of, **more
        )

    return build


def brute_front(problem, architectures, limits):
    """The feasible architectures that no feasible one dominates, by definition."""
    found = []
    for architecture in architectures:
        picks = encode(problem.choices, architecture)
        costs = [error(picks), time(picks), size_of(picks)]
        if costs[1] <= limits[0] and costs[2] <= limits[1]:
            found.append((architecture, costs))
    return {
        a
        for a, mine in found
        if not any(np.less_equal(o, mine).all() and o != mine for _, o in found)
    }


def run(problem, name, budget, seed=0):
    front = Front(problem.columns, problem.maximize)
    return list(sample(problem, make(name, problem, seed), front, budget=budget)), front


@pytest.mark.parametrize("name", ["random", "local", "ridge", "surgery"])
def test_who_sees_every_architecture_finds_the_front_of_the_feasible(limited, name):
    problem = limited("latency<=4ms,kib<=25")
    count = size(problem.choices)
    outcomes, front = run(problem, name, count)
    assert len(outcomes) == count
    wanted = brute_front(problem, every(problem.choices), (4, 25))
    objectives = {tuple(point.objectives.values()) for point in front}
    assert objectives == {
        tuple(f(encode(problem.choices, a)) for f in (error, time, size_of)) for a in wanted
    }


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_limits_changes_nothing(limited, name):
    texts = "latency<=4ms,kib<=25,error<=20", "error<=20,kib<=25,latency<=4ms,latency<=9ms"
    one, other = (run(limited(text), name, 26)[0] for text in texts)
    assert [o.architecture for o in one] == [o.architecture for o in other]


@pytest.mark.parametrize("name", ["ridge", "local", "nsga2", "nsga3", "smsemoa"])
def test_limits_that_all_meet_change_nothing(limited, name):
    plain = run(limited(None), name, 26)[0]
    loose = run(limited("latency<=1000ms"), name, 26)[0]
    assert [o.architecture for o in plain] == [o.architecture for o in loose]


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_learns_looks_more_at_the_feasible_than_chance_does(problem_of, grid, name):
    problem = problem_of(grid(5, 5, 5, 5), up=sum, down=lambda p: 20.0 - sum(p), constraint="up<=5")
    architectures = [*every(problem.choices)]
    chance = np.mean([sum(encode(problem.choices, a)) <= 5 for a in architectures])
    outcomes, _ = run(problem, name, 100)
    later = [o.objectives["up"] <= 5 for o in outcomes[50:]]
    assert np.mean(later) > 1.5 * chance


@pytest.mark.parametrize("name", ["random", "local", "ridge", "surgery"])
def test_a_limit_on_a_free_objective_is_tested_and_not_learned(limited, name):
    problem = limited("latency<=2ms", free=("latency_ms",))
    feasible = sum(time(encode(problem.choices, a)) <= 2 for a in every(problem.choices))
    outcomes, _ = run(problem, name, feasible)
    met = [o.objectives["latency_ms"] <= 2 for o in outcomes]
    assert all(met)


def test_nothing_feasible_leaves_those_with_the_least_violation(limited):
    problem = limited("latency<=0.5ms,kib<=5")
    for name in METHODS:
        outcomes, front = run(problem, name, 20)
        assert len(outcomes) == 20 and not len(front)
        best = problem.best(outcomes)
        violations = [
            (o.objectives["latency_ms"] - 0.5) / 0.5 + (o.objectives["kib"] - 5) / 5
            for o in outcomes
        ]
        assert {p.architecture for p in best} == {
            o.architecture
            for o, v in zip(outcomes, violations, strict=True)
            if v == pytest.approx(min(violations), abs=1e-12)
        }


def test_pymoo_runs_as_it_does_with_the_same_constraints(limited):
    """pymoo's own loop over its own evaluations, objectives F and constraints G, is the oracle."""
    problem = limited("latency<=3ms,kib<=20")
    choices = problem.choices

    class Same(PymooProblem):
        def __init__(self):
            xu = np.array([len(choice.options) - 1 for choice in choices])
            super().__init__(n_var=3, n_obj=3, n_ieq_constr=2, xl=0 * xu, xu=xu, vtype=int)
            self.seen = []

        def _evaluate(self, X, out, *args, **kwargs):  # noqa: N803
            rows = [tuple(map(int, x)) for x in X]
            self.seen += rows
            out["F"] = np.array([[error(p), time(p), size_of(p)] for p in rows])
            out["G"] = np.array([[(size_of(p) - 20) / 20, (time(p) - 3) / 3] for p in rows])

    theirs, same = NSGA2(pop_size=8, **operators()), Same()
    theirs.setup(same, seed=5, termination=("n_gen", 6))
    theirs.run()
    ours, seen = Pymoo(problem, NSGA2(pop_size=8, **operators()), seed=5), []
    for _ in range(6):
        outcomes = [evaluate(architecture, problem.objectives) for architecture in ours.ask()]
        seen += [encode(choices, o.architecture) for o in outcomes]
        ours.tell(outcomes)
    assert seen == same.seen


def test_a_failure_is_worse_than_any_violation(problem_of, grid):
    def broken(picks):
        if picks[0] == 0:
            raise ValueError("broken")
        return 100.0 + sum(picks)

    problem = problem_of(grid(3, 4, 4, 4), a=broken, b=sum, constraint="a<=1e-3")
    sampler = make("nsga2", problem, 1)
    outcomes = list(sample(problem, sampler, Front(problem.columns), budget=100))
    failed = {o.architecture for o in outcomes if isinstance(o, Failure)}
    assert failed
    alive = {sampler._decoded(individual)[0] for individual in sampler._algorithm.pop}
    assert not failed & alive


def test_optuna_is_told_what_is_exceeded(limited):
    problem = limited("latency<=4ms,kib<=20")
    sampler = make("tpe", problem)
    outcomes = []
    for _ in range(12):
        asked = sampler.ask()
        outcomes += [evaluate(a, problem.objectives) for a in asked]
        sampler.tell(outcomes[-1:])
    unasked = evaluate(next(iter(every(problem.choices))), problem.objectives)
    sampler.tell([unasked])
    told = [trial.constraints for trial in sampler._study.trials]
    values = [o.objectives for o in [*outcomes, unasked]]
    assert told == [
        {"kib": (v["kib"] - 20) / 20, "latency_ms": (v["latency_ms"] - 4) / 4} for v in values
    ]


@pytest.fixture
def table():
    rows = [
        {"a": a, "b": b, "ms": a + b, "error": (3 - a) * (4 - b), "params": 10 * a + b, "gain": a}
        for a in range(4)
        for b in range(4)
    ]
    return Table.from_pandas(pd.DataFrame(rows), ["a", "b"], ["error", "ms", "params"], ["gain"])


def test_a_limit_may_be_on_what_is_no_objective(table):
    error_, ms = table.objectives[:2]
    problem = Problem(table, (error_, ms), constraint="params<=21,gain>=1")
    assert [objective.column for objective in problem.limited] == ["params", "gain"]
    for name in ("random", "surgery", "ridge", "local", "nsga2", "tpe"):
        outcomes, front = run(problem, name, 12)
        for point in outcomes:
            assert {*point.objectives} == {"error", "ms"}
            a, b = (int(pick) for pick in point.architecture.values())
            assert (point.reported["params"], point.reported["gain"]) == (10 * a + b, a)
        assert all(p.reported["params"] <= 21 and p.reported["gain"] >= 1 for p in front)
    outcomes, front = run(problem, "random", 16)
    assert min(p.objectives["error"] for p in front) == (3 - 1) * (4 - 3)


def test_violations_are_parts_of_the_limits(table):
    problem = Problem(table, table.objectives, constraint="ms<=2,gain>=2")
    point = evaluate(table.architectures[3], table.objectives)  # a = 0, b = 3
    assert problem.excess(point) == {"gain": 1.0, "ms": 0.5}
    assert problem.violation(point) == 1.5
    assert problem.violation(Point({"a": "2", "b": "0"}, {"ms": 2, "gain": 2, "error": 0})) == 0


def test_limits_that_mean_nothing_are_refused(table):
    for text, message in (
        ("speed<=3", "no objective is called 'speed'; there are error, ms"),
        ("gain<=3", "gain is maximized, so its limit reads gain>=3"),
        ("ms<3", "a constraint reads NAME<=NUMBER"),
    ):
        with pytest.raises(ValueError, match=message):
            Problem(table, table.objectives[:2], constraint=text)
    with pytest.raises(TypeError, match="constraint must be a Constraint or a text"):
        Problem(table, constraint=3)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_free_value_that_is_not_finite_violates_every_limit(problem_of, grid, value):
    problem = problem_of(
        grid(2), constraint="ms<=1", free=("ms",), error=sum, ms=lambda p: value if p[0] else 1.0
    )
    assert [*map(problem.known_violation, every(problem.choices))] == [0.0, np.inf]
