"""Multi-objective neural architecture search: the whole Pareto front from one gradient search.

The names below are imported at their first use, so that ``import paretonas`` is fast.

>>> import paretonas
>>> paretonas.Choice("op", ("conv3", "skip"))
Choice(name='op', options=('conv3', 'skip'))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretonas._lazy import lazily

if TYPE_CHECKING:
    from paretonas import conflict as conflict
    from paretonas import multitask as multitask
    from paretonas import nn as nn
    from paretonas import objectives as objectives
    from paretonas import samplers as samplers
    from paretonas import schedules as schedules
    from paretonas import solvers as solvers
    from paretonas import tasks as tasks
    from paretonas.compare import compare as compare
    from paretonas.constraint import Constraint as Constraint
    from paretonas.data import Data as Data
    from paretonas.data import Split as Split
    from paretonas.export import export as export
    from paretonas.front import Front as Front
    from paretonas.gradient_search.plan import Budget as Budget
    from paretonas.gradient_search.search import search as search
    from paretonas.metric import Metric as Metric
    from paretonas.multitask import backward as backward
    from paretonas.nn import NetworkSpace as NetworkSpace
    from paretonas.point import Point as Point
    from paretonas.problem import Problem as Problem
    from paretonas.runs import Run as Run
    from paretonas.samplers.base import sample as sample
    from paretonas.space import Architecture as Architecture
    from paretonas.space import Choice as Choice
    from paretonas.table import Table as Table
    from paretonas.training import Recipe as Recipe

_HOMES = {
    "Architecture": "space",
    "Budget": "gradient_search.plan",
    "Choice": "space",
    "Constraint": "constraint",
    "Data": "data",
    "Front": "front",
    "Metric": "metric",
    "NetworkSpace": "nn",
    "Point": "point",
    "Problem": "problem",
    "Recipe": "training",
    "Run": "runs",
    "Split": "data",
    "Table": "table",
    "backward": "multitask",
    "sample": "samplers.base",
    "search": "gradient_search.search",
}
_ROOMS = ("conflict", "multitask", "nn", "objectives", "samplers", "schedules", "solvers", "tasks")
_CALLED = ("compare", "export")  # packages that can be called like their function of this name

__all__ = [*_HOMES, *_ROOMS, *_CALLED]
__getattr__ = lazily(__name__, _HOMES, (*_ROOMS, *_CALLED))


def __dir__() -> list[str]:
    return sorted(__all__)
