"""Training and evaluating a plain network, and running any network without side effects."""

from .loop import (
    Recipe,
    epochs,
    evaluate,
    score,
    train,
    warmup_cosine,
    warmup_cosine_factor,
)

__all__ = [
    "Recipe",
    "epochs",
    "evaluate",
    "score",
    "train",
    "warmup_cosine",
    "warmup_cosine_factor",
]
