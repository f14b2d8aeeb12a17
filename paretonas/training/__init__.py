"""Training and evaluating a plain network, and running any network without side effects."""

from .fine_tuning import FineTuning, recalibrate
from .loop import epochs, evaluate, score, train
from .recipe import Recipe
from .teacher import Teacher
from .updates import Updates
from .warmup import warmup_cosine, warmup_cosine_factor

__all__ = [
    "FineTuning",
    "Recipe",
    "Teacher",
    "Updates",
    "epochs",
    "evaluate",
    "recalibrate",
    "score",
    "train",
    "warmup_cosine",
    "warmup_cosine_factor",
]
