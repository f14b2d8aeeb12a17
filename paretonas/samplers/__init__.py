"""Samplers: search by proposing whole architectures, for costs that have no gradient."""

from .base import Failure, Ledger, Outcome, Sampler, Task, sample

__all__ = ["Failure", "Ledger", "Outcome", "Sampler", "Task", "sample"]
