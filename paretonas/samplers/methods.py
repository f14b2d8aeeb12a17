"""The methods by name; the sampler of each is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name

from paretonas.problem import Problem
from paretonas.samplers.base import Sampler
from paretonas.space import nearest

_WHERE = {
    "surgery": "samplers:Surgery",
    "ridge": "samplers:Ridge",
    "nsga2": "samplers:nsga2",
    "nsga2-steady": "samplers:nsga2_steady",
    "nsga3": "samplers:nsga3",
    "agemoea2": "samplers:agemoea2",
    "smsemoa": "samplers:smsemoa",
    "tpe": "samplers:tpe",
    "optuna-nsga2": "samplers:optuna_nsga2",
    "gp": "samplers:gp",
    "local": "samplers:LocalSearch",
    "search": "gradient_search.sampler:OneShotSearch",
    "random": "samplers:Random",
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
    sampler: Callable[..., Sampler] = resolve_name(f"paretonas.{_WHERE[name]}")
    return sampler(problem, seed=seed)
