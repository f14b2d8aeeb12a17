"""Any sampler of Optuna can search; its study holds what was found."""

import logging
import warnings

import optuna
import pytest
import torch
from optuna.samplers import NSGAIISampler, QMCSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from paretonas.front import Front
from paretonas.point import Point
from paretonas.samplers.base import Failure, evaluate, sample
from paretonas.samplers.conformance import check_sampler
from paretonas.samplers.methods import make
from paretonas.samplers.optuna import Optuna, quiet, tpe
from paretonas.space import every

SAMPLERS = {
    "random": lambda seed: RandomSampler(seed=seed),
    "plain tpe": lambda seed: TPESampler(seed=seed, n_startup_trials=5),
    "nsga2": lambda seed: NSGAIISampler(seed=seed, population_size=6),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_any_sampler_keeps_the_promises(name):
    check_sampler(
        lambda problem, seed: Optuna(problem, SAMPLERS[name](seed)), budget=14, objectives=(2,)
    )


def test_a_sampler_that_knows_no_categories_falls_back_on_its_own(problem_of, grid):
    problem = problem_of(grid(3, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says so itself
        sampler = Optuna(problem, QMCSampler(seed=0, warn_independent_sampling=False))
        assert len(sampler.ask()) == 1


def test_it_runs_as_optuna_itself_does(problem_of, grid):
    """Optuna's own loop over the same function is the oracle."""
    choices = grid(3, 4, 2)
    problem = problem_of(choices, a=lambda p: float(p[0] + p[1]), b=lambda p: p[2] - p[1] ** 2)

    def objective(trial):
        picks = tuple(
            int(trial.suggest_categorical(choice.name, choice.options)[1:]) for choice in choices
        )
        return [cost.function(picks) for cost in problem.objectives]

    with quiet():
        theirs = optuna.create_study(
            directions=["minimize"] * 2, sampler=TPESampler(seed=3, multivariate=True)
        )
        theirs.optimize(objective, n_trials=30)
    ours, seen = tpe(problem, seed=3), []
    for _ in range(30):
        outcomes = [evaluate(architecture, problem.objectives) for architecture in ours.ask()]
        seen += [dict(outcome.architecture) for outcome in outcomes]
        ours.tell(outcomes)
    assert seen == [trial.params for trial in theirs.trials]


def test_the_study_holds_costs_failures_and_what_nobody_asked_for(problem_of, grid):
    problem = problem_of(grid(3, 3), a=lambda p: 2.0, b=lambda p: 8.0, log=("b",))
    sampler = Optuna(problem, RandomSampler(seed=0))
    (first,) = sampler.ask()
    sampler.tell([Point(first, {"b": 8.0, "a": 2.0})])
    (second,) = sampler.ask()
    sampler.tell([Failure(second, "broken")])
    other, worse = [a for a in every(problem.choices) if a not in (first, second)][:2]
    sampler.tell([Point(other, {"a": 1.0, "b": 1.0}), Failure(worse, "broken")])
    trials = sampler._study.trials
    assert [trial.params for trial in trials] == [dict(a) for a in (first, second, other, worse)]
    complete, fail = TrialState.COMPLETE, TrialState.FAIL
    assert [trial.state for trial in trials] == [complete, fail, complete, fail]
    assert trials[0].values == pytest.approx([2.0, 2.0794415])
    assert trials[2].values == [1.0, 0.0]


def test_the_sampler_is_copied(problem_of, grid):
    problem = problem_of(grid(3, 3, 3))
    theirs = RandomSampler(seed=1)
    runs = []
    for _ in range(2):
        sampler, asked = Optuna(problem, theirs), []
        for _ in range(6):
            asked += sampler.ask()
            sampler.tell([evaluate(asked[-1], problem.objectives)])
        runs.append(asked)
    assert runs[0] == runs[1]


def test_what_optuna_says_and_how_many_threads_there_are_is_left_as_it_was(
    problem_of, grid, caplog
):
    problem = problem_of(grid(3, 3, 3))
    verbosity, threads = optuna.logging.get_verbosity(), torch.get_num_threads()
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        torch.set_num_threads(2)
        optuna.logging.enable_propagation()
        with caplog.at_level(logging.DEBUG):
            for name in ("tpe", "optuna-nsga2"):
                list(sample(problem, make(name, problem), Front(problem.columns), budget=15))
        assert not caplog.records
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
        assert torch.get_num_threads() == 2
    finally:
        optuna.logging.disable_propagation()
        optuna.logging.set_verbosity(verbosity)
        torch.set_num_threads(threads)


def test_something_else_is_refused(problem_of, grid):
    with pytest.raises(TypeError, match="needs a sampler of Optuna, got str"):
        Optuna(problem_of(grid(2, 2)), "tpe")
