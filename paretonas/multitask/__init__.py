"""Train one network on several losses: `backward` replaces ``loss.backward()``."""

from paretonas.multitask.gradients import TaskGradients
from paretonas.multitask.representation import backward_through
from paretonas.multitask.step import backward

__all__ = ["TaskGradients", "backward", "backward_through"]
