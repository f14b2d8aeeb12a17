"""Samplers of Optuna as samplers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState, create_trial

from paretonas._threads import threads
from paretonas.point import Outcome, Point
from paretonas.problem import Problem
from paretonas.space import Architecture


class Optuna:
    """Let any sampler of Optuna search: one trial after the other in a study kept in memory.

    A choice is a categorical parameter. A failure is told as a failed trial. What was evaluated
    without being asked for enters the study as a trial too. Each limit of the problem is a
    constraint of its trial: what is exceeded, as a part of the limit.

    Args:
        problem: what to search.
        sampler: with a seed of its own; it is copied, not changed.

    Raises:
        TypeError: no sampler of Optuna.
        ModuleNotFoundError: there is a limit, and this version of Optuna has none on trials.

    References:
        Akiba et al., "Optuna: a next-generation hyperparameter optimization framework" (2019),
        arXiv 1907.10902.
    """

    def __init__(self, problem: Problem, sampler: BaseSampler) -> None:
        if not isinstance(sampler, BaseSampler):
            raise TypeError(f"needs a sampler of Optuna, got {type(sampler).__name__}")
        if problem.constraint and not hasattr(Trial, "set_constraint"):
            raise ModuleNotFoundError(
                f"limits need a newer Optuna than {optuna.__version__}: pip install 'optuna>=5'"
            )
        self._problem = problem
        self._options: dict[str, BaseDistribution] = {
            choice.name: CategoricalDistribution(choice.options) for choice in problem.choices
        }
        self._trials: dict[Architecture, Trial] = {}
        with quiet():
            self._study = optuna.create_study(
                storage=optuna.storages.InMemoryStorage(),
                directions=["minimize"] * len(problem.columns),
                sampler=copy.deepcopy(sampler),
            )

    def __repr__(self) -> str:
        return f"Optuna({self._problem}, {type(self._study.sampler).__name__})"

    def ask(self) -> list[Architecture]:
        """One architecture, which may be one that was evaluated before."""
        with quiet():
            trial = self._study.ask(self._options)
        architecture = Architecture({name: trial.params[name] for name in self._options})
        self._trials[architecture] = trial
        return [architecture]

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """Its costs, or that there are none."""
        for outcome in outcomes:
            values, excess = None, {}
            if isinstance(outcome, Point):
                values = self._problem.costs([outcome.objectives])[0].tolist()
                excess = self._problem.excess(outcome)
            state = TrialState.FAIL if values is None else TrialState.COMPLETE
            trial = self._trials.pop(outcome.architecture, None)
            with quiet():
                if trial is not None:
                    for name, part in excess.items():
                        trial.set_constraint(name, part)
                    self._study.tell(trial, values, state=state)
                else:
                    unasked = create_trial(
                        state=state,
                        values=values,
                        params=dict(outcome.architecture),
                        distributions=self._options,
                    )
                    for name, part in excess.items():
                        unasked.set_constraint(name, part)
                    self._study.add_trial(unasked)


def tpe(problem: Problem, *, seed: int = 0) -> Optuna:
    """TPE: draw where the good architectures are denser than the rest, all picks together.

    References:
        Bergstra et al., "Algorithms for hyper-parameter optimization" (2011); Watanabe,
        "Tree-structured Parzen estimator" (2023), arXiv 2304.11127.
    """
    with quiet():
        return Optuna(problem, TPESampler(multivariate=True, seed=seed))


def optuna_nsga2(problem: Problem, *, seed: int = 0, population: int = 20) -> Optuna:
    """NSGA-II as Optuna has it, with uniform crossover.

    References:
        Deb et al., "A fast and elitist multiobjective genetic algorithm: NSGA-II" (2002).
    """
    with quiet():
        return Optuna(problem, NSGAIISampler(population_size=population, seed=seed))


def gp(problem: Problem, *, seed: int = 0) -> Optuna:
    """Gaussian processes and the expected improvement of the hypervolume.

    It thinks longer with every evaluation: made for budgets up to about 150.

    References:
        Ament et al., "Unexpected improvements to expected improvement for Bayesian optimization"
        (2023), arXiv 2310.20708.
    """
    with quiet():
        return Optuna(problem, GPSampler(seed=seed))


@contextmanager
def quiet() -> Iterator[None]:
    """No log, no notice of what is experimental; one thread: its matrices are small."""
    verbosity = optuna.logging.get_verbosity()
    try:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with threads(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
