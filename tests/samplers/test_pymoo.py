"""Any algorithm of pymoo can search, with failures, and learns what it is told."""

import copy
import importlib.util
import warnings
from collections import Counter

import numpy as np
import pytest
from pymoo.algorithms.moo.moead import MOEAD, ParallelMOEAD
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.algorithms.moo.rvea import RVEA
from pymoo.algorithms.moo.sms import SMSEMOA
from pymoo.algorithms.moo.spea2 import SPEA2
from pymoo.core.problem import Problem as PymooProblem
from pymoo.operators.sampling.rnd import FloatRandomSampling

from paretonas.front import Front
from paretonas.samplers.base import Failure, evaluate, sample
from paretonas.samplers.conformance import check_sampler
from paretonas.samplers.methods import make
from paretonas.samplers.pymoo import Pymoo, Replace, operators, reference_directions
from paretonas.space import every, size

LINES = reference_directions(2, 10)
PARTS = {name: operators()[name] for name in ("sampling", "crossover", "mutation")}
ALGORITHMS = {
    "real numbers, rounded": lambda: NSGA2(pop_size=10),
    "one child at a time": lambda: NSGA2(pop_size=10, n_offsprings=1, **operators()),
    "reference vectors": lambda: RVEA(LINES, termination=("n_gen", 4), **operators()),
    "one individual, no constraints": lambda: MOEAD(LINES, n_neighbors=4, **PARTS),
    "all or nothing, no constraints": lambda: ParallelMOEAD(
        LINES, n_neighbors=4, n_offsprings=10, **PARTS
    ),
    "strength": lambda: SPEA2(pop_size=10, **operators()),
    "differential evolution": lambda: differential_evolution().GDE3(pop_size=10),
}


def differential_evolution():
    return pytest.importorskip("pymoo.algorithms.moo.gde3", reason="new in pymoo 0.6.2")


RUNS = {
    "nsga2": lambda: NSGA2(pop_size=10, **operators()),
    "nsga3": lambda: NSGA3(LINES, **operators()),
    "smsemoa": lambda: SMSEMOA(pop_size=10, **operators()),
    **ALGORITHMS,
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_any_algorithm_keeps_the_promises(name):
    algorithm = ALGORITHMS[name]()
    check_sampler(
        lambda problem, seed: Pymoo(problem, algorithm, seed=seed), budget=24, objectives=(2,)
    )


def broken(picks):
    if picks[0] < 2:
        raise ValueError("broken")
    return float(sum(picks))


@pytest.mark.parametrize("name", RUNS)
def test_no_failure_survives_where_there_are_successes(problem_of, grid, name):
    problem = problem_of(
        grid(5, 4, 4, 4), a=broken, b=lambda picks: 20.0 - sum(picks) + picks[1] % 3
    )
    sampler = Pymoo(problem, RUNS[name](), seed=1)
    outcomes = list(sample(problem, sampler, Front(problem.columns), budget=120))
    failed = {o.architecture for o in outcomes if isinstance(o, Failure)}
    assert failed
    algorithm = sampler._algorithm
    alive = [sampler._decoded(individual)[0] for individual in algorithm.pop]
    assert not failed & {*alive}
    assert np.isfinite(algorithm.pop.get("F")).all()
    # and it learns to avoid them: of all architectures 40 % fail
    assert np.mean([isinstance(o, Failure) for o in outcomes[60:]]) < 0.4


def test_it_runs_as_pymoo_itself_does(problem_of, grid):
    """pymoo's own loop over its own evaluations is the oracle."""
    choices = grid(3, 4, 5, 3)
    problem = problem_of(
        choices, a=lambda p: (p[0] - 1) ** 2 + p[1] * p[2], b=lambda p: 9.0 - sum(p)
    )

    class Same(PymooProblem):
        def __init__(self):
            xu = np.array([len(choice.options) - 1 for choice in choices])
            super().__init__(n_var=4, n_obj=2, xl=0 * xu, xu=xu, vtype=int)
            self.seen = []

        def _evaluate(self, X, out, *args, **kwargs):  # noqa: N803
            self.seen += [tuple(map(int, x)) for x in X]
            costs = [[o.function(tuple(map(int, x))) for o in problem.objectives] for x in X]
            out["F"] = np.array(costs, dtype=float)

    theirs = NSGA2(pop_size=8, **operators())
    same = Same()
    theirs.setup(same, seed=5, termination=("n_gen", 6))
    theirs.run()
    ours, seen = Pymoo(problem, NSGA2(pop_size=8, **operators()), seed=5), []
    for _ in range(6):
        outcomes = [evaluate(architecture, problem.objectives) for architecture in ours.ask()]
        seen += [tuple(int(pick[1:]) for pick in o.architecture.values()) for o in outcomes]
        ours.tell(outcomes)
    assert seen == same.seen


def test_a_generation_is_told_once_all_of_it_is_known(problem_of, grid):
    problem = problem_of(grid(4, 4, 4))
    whole, parts = (make("nsga2", problem, 3) for _ in range(2))
    for _ in range(4):
        asked = whole.ask()
        assert parts.ask() == asked
        outcomes = [evaluate(architecture, problem.objectives) for architecture in asked]
        whole.tell(outcomes)
        parts.tell(outcomes[5:])
        assert parts.ask() == asked[:5]
        parts.tell(outcomes[4::-1])


def test_a_first_generation_without_a_success_is_drawn_anew(problem_of, grid):
    problem = problem_of(grid(4, 4, 4, 4))
    sampler = make("nsga2", problem)
    first = sampler.ask()
    sampler.tell([Failure(architecture, "broken") for architecture in first])
    second = sampler.ask()
    assert len(second) > 10 and second != first
    sampler.tell([evaluate(architecture, problem.objectives) for architecture in second])
    assert len({*sampler.ask()}) == 20


def test_a_small_space_is_exhausted_and_ends(problem_of, grid):
    problem = problem_of(grid(2, 3, 3))
    for name in ("nsga2", "nsga3", "smsemoa"):
        front = Front(problem.columns)
        outcomes = list(sample(problem, make(name, problem), front, budget=size(problem.choices)))
        assert {o.architecture for o in outcomes} == {*every(problem.choices)}
        sampler = make(name, problem)
        rounds = 0
        while asked := sampler.ask():
            sampler.tell([evaluate(a, problem.objectives) for a in asked])
            rounds += 1
            assert rounds < 30
        assert sampler.ask() == []


def test_the_algorithm_is_copied_and_its_operators_are_kept(problem_of, grid):
    problem = problem_of(grid(4, 4, 4))

    class Corner(FloatRandomSampling):
        def _do(self, problem, n_samples, *args, **kwargs):
            return np.tile(problem.xu.astype(float) - 0.4, (n_samples, 1))

    algorithm = NSGA2(pop_size=6, sampling=Corner(), eliminate_duplicates=False)
    before = copy.deepcopy(algorithm.__dict__)
    asked = Pymoo(problem, algorithm).ask()
    assert [tuple(a.values()) for a in asked] == [("o3", "o3", "o3")] * 6
    assert algorithm.__dict__.keys() == before.keys()
    assert algorithm.problem is None and algorithm.pop is None


def test_warning_filters_are_left_as_they_were(problem_of, grid):
    """NSGA-III of pymoo switches all warnings off for good."""
    problem = problem_of(grid(4, 4, 4))
    before = list(warnings.filters)
    list(sample(problem, make("nsga3", problem), Front(problem.columns), budget=60))
    assert warnings.filters == before


def test_logarithms_are_told(problem_of, grid):
    tasks = [
        problem_of(grid(4, 4, 4), a=lambda p: np.exp(sum(p)), b=lambda p: 9.0 - sum(p), log=("a",)),
        problem_of(grid(4, 4, 4), a=lambda p: float(sum(p)), b=lambda p: 9.0 - sum(p)),
    ]
    runs = [
        [o.architecture for o in sample(t, make("smsemoa", t, 4), Front(t.columns), budget=50)]
        for t in tasks
    ]
    assert runs[0] == runs[1]


def test_replace_draws_each_other_option_equally_often():
    picks = np.tile([0, 1, 2], (60_000, 1))
    problem = PymooProblem(n_var=3, xl=np.zeros(3, int), xu=np.array([1, 2, 3]), vtype=int)
    changed = Replace()._do(problem, picks, random_state=np.random.default_rng(0))
    for column, options in enumerate((2, 3, 4)):
        counts = Counter(changed[:, column].tolist())
        assert counts.keys() == {*range(options)}
        assert counts[column] == pytest.approx(40_000, rel=0.02)  # each stays in two of three
        others = [count for option, count in counts.items() if option != column]
        assert others == pytest.approx([20_000 / (options - 1)] * (options - 1), rel=0.05)


@pytest.mark.parametrize(
    ("objectives", "count"), [(1, 1), (2, 20), (3, 15), (4, 20), (9, 9), (25, 25)]
)
def test_directions_are_as_many_as_fit_on_the_simplex(objectives, count):
    directions = reference_directions(objectives, 20)
    assert directions.shape == (count, objectives)
    assert directions.sum(axis=1) == pytest.approx(1.0)
    assert (directions >= 0).all()


def test_something_else_is_refused(problem_of, grid):
    with pytest.raises(TypeError, match="needs an algorithm of pymoo, got type"):
        Pymoo(problem_of(grid(2, 2)), NSGA2)


def test_age_moea_says_what_it_needs(problem_of, grid, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("paretonas.samplers.pymoo.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="AGE-MOEA-II needs numba: pip install numba"):
        make("agemoea2", problem_of(grid(2, 2)))


def test_age_moea_is_compiled_before_it_thinks(problem_of, grid, monkeypatch):
    numba = pytest.importorskip("numba")
    from pymoo.algorithms.moo.age2 import AGEMOEA2Survival

    called = []

    def distances(front, p):  # the real one is compiled for each pair of types, for seconds
        called.append((numba.typeof(front), numba.typeof(p)))
        return np.linalg.norm(front[:, None] - front, axis=-1)

    monkeypatch.setattr(AGEMOEA2Survival, "pairwise_distances", staticmethod(distances))
    problem = problem_of(
        grid(5, 4, 4, 4), a=lambda p: float(sum(p)), b=lambda p: 9.0 - sum(p) + p[0] % 2
    )
    sampler = make("agemoea2", problem)
    assert len(called) == 1
    list(sample(problem, sampler, Front(problem.columns), budget=60))
    assert len(called) > 1
    assert len(set(called)) == 1


def test_a_steady_state_has_one_child_at_a_time(problem_of, grid):
    problem = problem_of(grid(5, 4, 4, 4))
    sampler = make("nsga2-steady", problem, 3)
    first = sampler.ask()
    assert first == make("nsga2", problem, 3).ask()
    for _ in range(15):
        sampler.tell([evaluate(architecture, problem.objectives) for architecture in sampler.ask()])
        assert len(sampler.ask()) == 1
