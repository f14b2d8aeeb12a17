"""The gradient search: the whole front from one run and one supernet."""

from .halving import SuccessiveHalving
from .paths import Paths
from .plan import Budget, Plan
from .step import Step
from .target import Target

__all__ = ["Budget", "Paths", "Plan", "Step", "SuccessiveHalving", "Target"]
