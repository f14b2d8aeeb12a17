"""Samplers: search by proposing whole architectures, for costs that have no gradient."""

from paretonas.point import Failure

from .base import Ledger, Outcome, Sampler, Task, sample

__all__ = ["Failure", "Ledger", "Outcome", "Sampler", "Task", "sample"]
