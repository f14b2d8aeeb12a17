"""Compare methods: the same task and budget for all, several seeds, one bill, and what it means."""

from .comparison import Comparison, compare
from .workers import Broken

__all__ = ["Broken", "Comparison", "compare"]
