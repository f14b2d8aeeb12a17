"""Samplers: search by proposing whole architectures, for costs that have no gradient.

A sampler is loaded when it is first used, and with it pymoo or Optuna, where it is one of theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from paretonas._lazy import lazily
from paretonas.evaluation import Ledger as Ledger
from paretonas.point import Failure as Failure
from paretonas.point import Outcome as Outcome

from .base import Sampler as Sampler
from .base import sample as sample

if TYPE_CHECKING:
    from .local import LocalSearch as LocalSearch
    from .optuna import Optuna as Optuna
    from .optuna import gp as gp
    from .optuna import optuna_nsga2 as optuna_nsga2
    from .optuna import tpe as tpe
    from .pymoo import Pymoo as Pymoo
    from .pymoo import agemoea2 as agemoea2
    from .pymoo import nsga2 as nsga2
    from .pymoo import nsga2_steady as nsga2_steady
    from .pymoo import nsga3 as nsga3
    from .pymoo import smsemoa as smsemoa
    from .random import Random as Random
    from .ridge import Ridge as Ridge
    from .surgery import Surgery as Surgery

_HOMES = {
    "LocalSearch": "local",
    "Optuna": "optuna",
    "Pymoo": "pymoo",
    "Random": "random",
    "Ridge": "ridge",
    "Surgery": "surgery",
    "agemoea2": "pymoo",
    "gp": "optuna",
    "nsga2": "pymoo",
    "nsga2_steady": "pymoo",
    "nsga3": "pymoo",
    "optuna_nsga2": "optuna",
    "smsemoa": "pymoo",
    "tpe": "optuna",
}

__all__ = ["Failure", "Ledger", "Outcome", "Sampler", "sample", *_HOMES]
__getattr__ = lazily(__name__, _HOMES)


def __dir__() -> list[str]:
    return sorted(__all__)
