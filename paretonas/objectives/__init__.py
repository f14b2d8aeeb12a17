"""Objectives, whose costs a search minimizes: exact, and relaxed (differentiable) if possible."""

from .base import DifferentiableObjective, MeasuredObjective, Objective
from .cost_table import CostTable, Slot
from .default import default_objectives
from .energy import Energy
from .file_size import FileSize
from .int8 import Int8FileSize, Int8Latency, Int8Metric
from .latency import Latency
from .macs import Flops, Macs
from .measured import measured
from .memory import Memory
from .parameters import Parameters
from .peak_memory import PeakMemory
from .profile import profile
from .profile_like import profile_like
from .runner import import_times, write_runner
from .table_latency import TableLatency
from .trained_metric import MeasuredMetric, TrainedMetric
from .training_memory import TrainingMemory
from .transfer import transferred

__all__ = [
    "CostTable",
    "DifferentiableObjective",
    "Energy",
    "FileSize",
    "Flops",
    "Int8FileSize",
    "Int8Latency",
    "Int8Metric",
    "Latency",
    "Macs",
    "MeasuredMetric",
    "MeasuredObjective",
    "Memory",
    "Objective",
    "Parameters",
    "PeakMemory",
    "Slot",
    "TableLatency",
    "TrainedMetric",
    "TrainingMemory",
    "default_objectives",
    "import_times",
    "measured",
    "profile",
    "profile_like",
    "transferred",
    "write_runner",
]
