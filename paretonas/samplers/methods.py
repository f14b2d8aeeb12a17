"""The methods by name; the sampler of each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from paretonas.problem import Problem
from paretonas.samplers.base import Sampler
from paretonas.space import nearest

_WHERE = {
    "surgery": ("samplers.surgery", "Surgery"),
    "ridge": ("samplers.ridge", "Ridge"),
    "nsga2": ("samplers.pymoo", "nsga2"),
    "nsga2-steady": ("samplers.pymoo", "nsga2_steady"),
    "nsga3": ("samplers.pymoo", "nsga3"),
    "agemoea2": ("samplers.pymoo", "agemoea2"),
    "smsemoa": ("samplers.pymoo", "smsemoa"),
    "tpe": ("samplers.optuna", "tpe"),
    "optuna-nsga2": ("samplers.optuna", "optuna_nsga2"),
    "gp": ("samplers.optuna", "gp"),
    "local": ("samplers.local", "LocalSearch"),
    "search": ("gradient_search.sampler", "OneShotSearch"),
    "random": ("samplers.random", "Random"),
}

methods: tuple[str, ...] = tuple(_WHERE)


def make(name: str, problem: Problem, seed: int = 0) -> Sampler:
    """The sampler of this name, with its settings as recommended.

    Raises:
        ValueError: no sampler is called so, or it cannot search such a problem.
        ModuleNotFoundError: it needs a package that is not installed; the message says which.
    """
    if name not in _WHERE:
        raise ValueError(f"no method is called {name!r}{nearest(name, methods)}")
    module, attribute = _WHERE[name]
    sampler: Callable[..., Sampler]
    sampler = getattr(import_module(f"paretonas.{module}"), attribute)
    return sampler(problem, seed=seed)
