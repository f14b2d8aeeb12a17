"""Conflict between gradients: measure it at one step, or record it over a training.

Functions measure one jacobian; `Recorder` records a training:

>>> import torch
>>> from paretonas.conflict import Recorder, cosine_similarity
>>> recorder = Recorder(("accuracy", "latency"))
>>> recorder.record(torch.tensor([[1.0, 0.0], [-1.0, 1.0]]))
>>> recorder.frame()[["pair", "cosine", "state"]]
                 pair    cosine     state
0  accuracy / latency -0.707107  conflict
"""

from paretonas.conflict.layers import Layers
from paretonas.conflict.measures import (
    contribution,
    cosine_similarity,
    dominance,
    magnitude_similarity,
    mean_magnitude_similarity,
    pair_states,
)
from paretonas.conflict.recorded import Recorded
from paretonas.conflict.recorder import Recorder

__all__ = [
    "Layers",
    "Recorded",
    "Recorder",
    "contribution",
    "cosine_similarity",
    "dominance",
    "magnitude_similarity",
    "mean_magnitude_similarity",
    "pair_states",
]
