"""A solver whose inputs and weights are recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from paretonas.conflict.recorder import Recorder
from paretonas.gradients.rows import Jacobian
from paretonas.solvers import Direction, Solver
from paretonas.solvers.base import Out, Values


@dataclass(frozen=True, eq=False)
class Recorded:
    """Record the gradients that a solver gets, and the weights that it returns.

    The direction of the inner solver does not change. If other wrappers scale the gradients, make
    this one the outermost, so that it records the original gradients.

    Attributes:
        inner: the inner solver.
        recorder: the recorder.

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
    """True: the recorder needs gradients, even if the solver does not."""
    inner: Solver
    recorder: Recorder

    def __call__(
        self, jacobian: Jacobian, values: Values = None, state: object = None, *, out: Out = None
    ) -> Direction:
        """Solve and record; see ``Solver``."""
        memory = {} if out is None else {"out": out}
        direction = self.inner(jacobian, values, state, **memory)
        self.recorder.record(jacobian, weights=direction.weights)
        return direction
