"""Tasks: what networks are trained for."""

from ..arguments import Arguments
from .classification import Classification
from .supervised import Supervised
from .task import Guess, SplitName, Task

__all__ = ["Arguments", "Classification", "Guess", "SplitName", "Supervised", "Task"]
