"""Compare methods: the same problem and budget for all, several seeds, one ledger."""

import sys

from .._callable import CallablePackage
from .comparison import Comparison, compare
from .workers import Broken

__all__ = ["Broken", "Comparison", "compare"]

sys.modules[__name__].__class__ = CallablePackage
