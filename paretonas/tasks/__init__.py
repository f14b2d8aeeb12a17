"""Tasks: what networks are trained for. A task is loaded when it is first used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazily
from ..arguments import Arguments as Arguments
from ..metric import Metric as Metric
from .task import Guess as Guess
from .task import SplitName as SplitName
from .task import Task as Task

if TYPE_CHECKING:
    from . import files as files
    from . import metrics as metrics
    from .classification import Classification as Classification
    from .language_model import LanguageModel as LanguageModel
    from .multi_label import MultiLabel as MultiLabel
    from .multi_task import Head as Head
    from .multi_task import MultiTask as MultiTask
    from .regression import Regression as Regression
    from .segmentation import Segmentation as Segmentation
    from .supervised import Supervised as Supervised

_HOMES = {
    "Classification": "classification",
    "Head": "multi_task",
    "LanguageModel": "language_model",
    "MultiLabel": "multi_label",
    "MultiTask": "multi_task",
    "Regression": "regression",
    "Segmentation": "segmentation",
    "Supervised": "supervised",
}
_ROOMS = ("files", "metrics")

__all__ = ["Arguments", "Guess", "Metric", "SplitName", "Task", *_HOMES, *_ROOMS]
__getattr__ = lazily(__name__, _HOMES, _ROOMS)


def __dir__() -> list[str]:
    return sorted(__all__)
