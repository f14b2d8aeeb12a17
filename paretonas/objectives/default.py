"""The default objectives of a space of networks."""

from __future__ import annotations

from ..nn import NetworkSpace
from .base import Objective
from .error import TrainedError
from .latency import Latency
from .memory import Memory


def default_objectives(space: NetworkSpace) -> tuple[Objective, ...]:
    """The validation error after training with the space's recipe, latency by table, and memory.

    The latency table is measured here, once, so that all methods use the same table. It is cached,
    so a resumed comparison uses it again.
    """
    supernet, example = space.supernet(), space.data().example
    return TrainedError(space), Latency.profile(supernet, example), Memory.of(supernet, example)
