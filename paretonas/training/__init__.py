"""Training and evaluating a plain network, and running any network without side effects."""

from .loop import epochs, evaluate, score, train
from .recipe import Recipe
from .teacher import Teacher
from .updates import Updates
from .warmup import warmup_cosine, warmup_cosine_factor

__all__ = [
    "Recipe",
    "Teacher",
    "Updates",
    "epochs",
    "evaluate",
    "score",
    "train",
    "warmup_cosine",
    "warmup_cosine_factor",
]
