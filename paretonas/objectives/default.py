"""The objectives of a space of networks, where no others are given."""

from __future__ import annotations

from ..nn import NetworkSpace
from .base import Objective
from .error import TrainedError
from .latency import Latency
from .memory import Memory


def default_objectives(space: NetworkSpace) -> tuple[Objective, ...]:
    """The validation error after training by the space's recipe, latency by table, and memory.

    The table of latencies is measured here, once, so that all methods see the same one. It is found
    again when a comparison goes on.
    """
    supernet, example = space.supernet(), space.data().example
    return TrainedError(space), Latency.profile(supernet, example), Memory.of(supernet, example)
