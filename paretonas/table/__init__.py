"""Tables of architectures with known objectives, such as tabular benchmarks."""

from .table import Column, Table

__all__ = ["Column", "Table"]
