"""The gradient search: the whole front from one run and one supernet."""

from .halving import SuccessiveHalving
from .paths import Paths
from .plan import Budget, Plan
from .step import Step

__all__ = ["Budget", "Paths", "Plan", "Step", "SuccessiveHalving"]
