"""Tasks: what networks are trained for."""

from ..arguments import Arguments
from ..metric import Metric
from . import files, metrics
from .classification import Classification
from .language_model import LanguageModel
from .multi_label import MultiLabel
from .multi_task import Head, MultiTask
from .regression import Regression
from .segmentation import Segmentation
from .supervised import Supervised
from .task import Guess, SplitName, Task

__all__ = [
    "Arguments",
    "Classification",
    "Guess",
    "Head",
    "LanguageModel",
    "Metric",
    "MultiLabel",
    "MultiTask",
    "Regression",
    "Segmentation",
    "SplitName",
    "Supervised",
    "Task",
    "files",
    "metrics",
]
