"""Training one network on several losses: `backward` in place of ``loss.backward()``."""

from paretonas.multitask.gradients import TaskGradients as TaskGradients
from paretonas.multitask.representation import backward_through as backward_through
from paretonas.multitask.step import backward as backward
