"""Tasks: what networks are trained for."""

from ..arguments import Arguments
from .task import SplitName, Task

__all__ = ["Arguments", "SplitName", "Task"]
