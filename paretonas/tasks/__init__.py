"""Tasks: what networks are trained for."""

from .task import SplitName, Task

__all__ = ["SplitName", "Task"]
