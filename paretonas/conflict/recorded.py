"""A solver that is watched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.conflict.recorder import Recorder
from paretonas.gradients.rows import Jacobian
from paretonas.solvers import Direction, Solver
from paretonas.solvers.base import Out, Values


@dataclass(frozen=True, eq=False)
class Recorded:
    """Let a recorder look at what a solver is given, and at the weights that it returns.

    The direction is the inner solver's, untouched. Where wrappers scale the gradients, put it
    outermost to see them as they are.

    Attributes:
        inner: the solver that answers.
        recorder: takes notes.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> recorder = Recorder()
    >>> solver = Recorded(MGDA(), recorder)
    >>> solver(torch.tensor([[1.0, 0.0], [0.0, 2.0]])).vector
    tensor([0.8000, 0.4000])
    >>> recorder.task_frame()[["task", "norm", "weight", "contribution"]]
      task  norm  weight  contribution
    0    0   1.0     0.8           0.8
    1    1   2.0     0.2           0.2
    """

    needs_gradients: ClassVar[bool] = True
    """The recorder needs them, whatever the solver."""
    inner: Solver
    recorder: Recorder

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Solve, and take notes; see ``Solver``."""
        memory = {} if out is None else {"out": out}
        direction = self.inner(jacobian, values, state, **memory)
        self.recorder.record(jacobian, weights=direction.weights)
        return direction
