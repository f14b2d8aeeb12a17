"""Compare methods: the same task and budget for all, several seeds, one bill, and what it means."""

import sys

from .._callable import CallablePackage
from .comparison import Comparison, compare
from .workers import Broken

__all__ = ["Broken", "Comparison", "compare"]

sys.modules[__name__].__class__ = CallablePackage
