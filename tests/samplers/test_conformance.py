"""Every sampler that has a name keeps the promises, and the check catches one that does not."""

import random
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from paretonas.samplers.conformance import LARGE, _Check, _half_fails, check_sampler
from paretonas.samplers.methods import make, methods
from paretonas.samplers.random import Random
from paretonas.space import Architecture, draw

SLOW = {
    "gp": 12,
    "surgery": 18,
    "ridge": 20,
    "tpe": 22,
    "optuna-nsga2": 25,
}  # budgets; thinking takes longer


COMPILED = "agemoea2"  # before it begins; like the other algorithms of pymoo in all else


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.deep if name == COMPILED else [])
        for name in methods
        if name not in ("gp", "search")  # that one needs networks: see gradient_search
    ],
)
def test_named_samplers_keep_the_promises(name):
    if name == "agemoea2" and find_spec("numba") is None:
        pytest.skip("numba is not installed")
    counts = (2,) if name in SLOW else (2, 3)
    check_sampler(
        lambda problem, seed: make(name, problem, seed),
        budget=SLOW.get(name, 33),
        objectives=counts,
    )


def test_gaussian_processes_keep_those_that_their_slowness_lets_us_check():
    check = _Check(lambda problem, seed: make("gp", problem, seed), budget=11, objectives=2)
    check.is_repeatable()
    check.run(_half_fails)


@pytest.mark.parametrize("name", ["random", "local", "nsga2", "nsga3", "optuna-nsga2", "tpe"])
def test_these_take_a_single_objective(name):
    check_sampler(lambda problem, seed: make(name, problem, seed), budget=22, objectives=(1,))


# --- samplers that break one promise each -------------------------------------------------------


@dataclass
class Broken:
    problem: object
    seed: int

    def __post_init__(self):
        self.random = Random(self.problem, seed=self.seed)

    def ask(self):
        return self.random.ask()

    def tell(self, outcomes):
        pass


class Unseeded(Broken):
    def ask(self):
        return [draw(self.problem.choices, random.SystemRandom())]


class Stranger(Broken):
    def ask(self):
        return [Architecture({choice.name: "z" for choice in self.problem.choices})]


class Lazy(Broken):
    asked = 0

    def ask(self):
        self.asked += 1
        return self.random.ask() if self.asked < 5 else []


class GlobalRandom(Broken):
    def __post_init__(self):
        random.seed(self.seed)

    def ask(self):
        return [draw(self.problem.choices, random)]


class GlobalNumpy(Broken):
    def ask(self):
        np.random.random()
        return self.random.ask()


class GlobalTorch(Broken):
    def ask(self):
        torch.rand(())
        return self.random.ask()


class Fragile(Broken):
    def tell(self, outcomes):
        self.problem.costs([outcome.objectives for outcome in outcomes])


class Extent(Broken):
    def tell(self, outcomes):
        points = [outcome for outcome in outcomes if hasattr(outcome, "objectives")]
        costs = self.problem.costs([point.objectives for point in points])
        if len(costs):
            self.costs = np.vstack([getattr(self, "costs", costs), costs])
            if len(self.costs) > 8 and not (self.costs.max(0) - self.costs.min(0)).all():
                raise ZeroDivisionError("the extent of an objective is 0")


class Keyed(Broken):
    def __post_init__(self):
        super().__post_init__()
        self.asked = set()

    def ask(self):
        asked = self.random.ask()
        self.asked |= {*asked}
        return asked

    def tell(self, outcomes):
        for outcome in outcomes:
            self.asked.remove(outcome.architecture)


class Greedy(Broken):
    """Takes the values of a point for its costs, and steps from the lowest one."""

    best = None

    def tell(self, outcomes):
        for outcome in outcomes:
            if hasattr(outcome, "objectives"):
                found = min(outcome.objectives.values()), outcome.architecture
                self.best = (
                    found if self.best is None else min(self.best, found, key=lambda b: b[0])
                )

    def ask(self):
        fresh = self.random.ask()
        if self.best is None or not fresh:
            return fresh
        changed = self.random._rng.choice(sorted(fresh[0]))
        return [Architecture({**self.best[1], changed: fresh[0][changed]})]


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Greedy, "proposes others if an objective is maximized; learn from problem.costs"),
        (Unseeded, "two runs of one seed differ"),
        (Stranger, "has no option 'z'"),
        (Lazy, "ends after 4 of 33 evaluations"),
        (GlobalRandom, "uses a global random generator"),
        (GlobalNumpy, "uses a global random generator"),
        (GlobalTorch, "uses a global random generator"),
        (Fragile, "AttributeError"),
        (Extent, "constant, 576 architectures: ZeroDivisionError"),
        (Keyed, "told of what it never asked for"),
    ],
)
def test_a_broken_promise_is_found(sampler, message):
    with pytest.raises(AssertionError, match=message):
        check_sampler(sampler)


def test_the_check_itself_leaves_global_generators_alone():
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    check_sampler(Broken)
    left = random.random(), np.random.random(), torch.rand(())
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    assert left == (random.random(), np.random.random(), torch.rand(()))


# --- names --------------------------------------------------------------------------------------


def test_an_unknown_name_is_refused_with_the_nearest(problem_of):
    with pytest.raises(ValueError, match="no method is called 'sms-emoa'; did you mean 'smsemoa'"):
        make("sms-emoa", problem_of(LARGE))
    with pytest.raises(ValueError, match=f"there are {', '.join(methods)}"):
        make("annealing?!", problem_of(LARGE))


def test_another_seed_is_another_run(problem_of):
    for name in ("random", "local", "nsga2", "nsga3", "smsemoa", "tpe", "optuna-nsga2"):
        firsts = {str(make(name, problem_of(LARGE), seed).ask()) for seed in range(3)}
        assert len(firsts) == 3, name
