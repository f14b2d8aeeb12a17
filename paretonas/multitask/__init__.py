"""Training one network on several losses: `backward` in place of ``loss.backward()``."""

from paretonas.multitask.gradients import TaskGradients
from paretonas.multitask.representation import backward_through
from paretonas.multitask.step import backward

__all__ = ["TaskGradients", "backward", "backward_through"]
