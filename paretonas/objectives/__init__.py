"""Objectives, which a search minimizes: exact, and relaxed (differentiable) if possible."""

from .base import DifferentiableObjective, Objective
from .cost_table import CostTable, Slot
from .default import default_objectives
from .error import TrainedError
from .latency import Latency, TimedLatency
from .measured import measured
from .memory import Memory
from .parameters import Parameters
from .profile import profile

__all__ = [
    "CostTable",
    "DifferentiableObjective",
    "Latency",
    "Memory",
    "Objective",
    "Parameters",
    "Slot",
    "TimedLatency",
    "TrainedError",
    "default_objectives",
    "measured",
    "profile",
]
