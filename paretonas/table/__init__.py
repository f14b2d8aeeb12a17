"""Tables of architectures whose objectives are known."""

from .table import Column, Table

__all__ = ["Column", "Table"]
