"""The gradient search: the whole front from one run and one supernet."""

from .halving import SuccessiveHalving
from .plan import Budget, Plan
from .step import Step

__all__ = ["Budget", "Plan", "Step", "SuccessiveHalving"]
