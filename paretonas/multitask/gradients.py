"""The separate gradients of several losses, until a solver resolves their conflict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from paretonas.gradients.differentiate import Row, differentiate
from paretonas.multitask.parts import Partition, Tensors, check_losses, check_visible
from paretonas.multitask.processes import average, average_rows
from paretonas.multitask.solve import (
    add_direction,
    add_to_grad,
    refuse_no_solver,
    scale_of,
    solve,
    values_of,
)
from paretonas.solvers.base import Direction, Solver

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.distributed import ProcessGroup


class TaskGradients:
    """The gradients of m losses, summed over micro-batches until a solver resolves them.

    `backward` is one `add` and one `resolve`. Between the two you can inspect the rows and add more
    micro-batches; the solver then gets the gradients of the whole batch. The memory is m + 1 times
    that of the shared parameters.

    Attributes:
        rows: m lists with a gradient for each shared parameter that requires grad; None if the loss
            does not depend on it. With a scaler, multiplied by its scale.
        values: (m,), the losses, summed over micro-batches like the gradients; never scaled.

    Args:
        shared: as in `backward`.
        heads: as in `backward`.
        vectorize: as in `backward`.
        scaler: as in `backward`; update it only after `resolve`.
        group: as in `backward`; nothing is sent before `resolve`.

    Raises:
        TypeError: something is not a tensor.
        ValueError: there is no shared parameter, a parameter is in two places, or there is a group
            without heads.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> gradients = TaskGradients([w])
    >>> for part in (0.25, 0.75):  # of the batch
    ...     gradients.add([part * w[0] ** 2, part * w[1] ** 2])
    >>> gradients.values
    tensor([1., 1.])
    >>> direction = gradients.resolve(MGDA())
    >>> w.grad
    tensor([1., 1.])
    """

    rows: list[Row]
    values: Float[Tensor, " m"]
    _own: dict[Tensor, Tensor | None]
    _inputs: dict[Tensor, Row]  # for each input, a gradient per loss
    _scale: Tensor | None

    def __init__(
        self,
        shared: Tensors,
        *,
        heads: Sequence[Tensors] | None = None,
        vectorize: bool | None = None,
        scaler: GradScaler | None = None,
        group: ProcessGroup | None = None,
    ) -> None:
        """Check the parameters."""
        self._parts = Partition(shared, heads, group)
        self._vectorize, self._scaler, self._group = vectorize, scaler, group
        self._clear()

    def __repr__(self) -> str:
        return f"TaskGradients({sum(p.numel() for p in self._parts.shared)} shared parameters)"

    def add(self, losses: Sequence[Float[Tensor, ""]], *, retain_graph: bool = False) -> None:
        """Differentiate m losses and add their gradients to the rows.

        Args:
            losses: m scalars, each with a graph. They are summed over micro-batches; for means,
                divide by the number of micro-batches.
            retain_graph: whether to keep the graph for another pass.

        Raises:
            TypeError: a loss is not a tensor.
            ValueError: the losses do not fit, or several losses depend on a parameter that is not
                in ``shared``.
        """
        losses = check_losses(losses)
        if self.rows and len(losses) != len(self.rows):
            raise ValueError(
                f"all micro-batches must have the same m losses, got {len(self.rows)} and then "
                f"{len(losses)}"
            )
        heads, inputs = self._parts.heads(losses)
        self._scale = scale_of(self._scaler, losses[0])
        shared = self._parts.shared
        whole, own_rows = differentiate(
            losses,
            [*shared, *inputs],
            heads,
            scale=self._scale,
            retain_graph=retain_graph,
            vectorize=self._vectorize,
        )
        rows = [row[: len(shared)] for row in whole]
        reached = all(any(row[k] is not None for row in rows) for k in range(len(shared)))
        if not reached or any(gradient is None for own_row in own_rows for gradient in own_row):
            check_visible(losses)
        for k, leaf in enumerate(inputs, len(shared)):
            before = self._inputs.get(leaf, [None] * len(whole))
            self._inputs[leaf] = _sums(before, [row[k] for row in whole])
        values = values_of(losses)
        if self.rows:
            rows = [_sums(*pair) for pair in zip(self.rows, rows, strict=True)]
            values = self.values + values
        self.rows, self.values = rows, values
        for own, own_row in zip(heads, own_rows, strict=True):
            before = [self._own.get(p) for p in own]
            self._own.update(zip(own, _sums(before, own_row), strict=True))

    def resolve(self, solver: Solver, state: object = None) -> Direction:
        """Add the direction and the heads' gradients to ``.grad``, then clear the rows.

        Args:
            solver: turns the rows and the values into one direction.
            state: the ``state`` of the previous direction.

        Raises:
            ValueError: nothing was added, no loss depends on a shared parameter, or the solver
                refuses the gradients; ``.grad`` does not change then.
        """
        refuse_no_solver(solver)
        if not self.rows:
            raise ValueError("there are no gradients to resolve: add losses first")
        rows, values, own, scale = self.rows, self.values, self._own, self._scale
        inputs = self._inputs
        shared = self._parts.shared
        self._clear()
        if self._group is not None:
            rows = average_rows(rows, shared, self._group)
            average([values], self._group)
            (row,) = average_rows([list(own.values())], list(own), self._group) if own else ([],)
            own = dict(zip(own, row, strict=True))
        reached = [any(row[k] is not None for row in rows) for k in range(len(shared))]
        if not any(reached):
            raise ValueError(f"none of {len(rows)} losses reaches a shared parameter")
        direction = solve(solver, rows, shared, values, state, scale)
        weighted = _weighted(inputs, direction)
        add_direction(shared, direction.vector, scale, reached)
        for parameter, gradient in [*own.items(), *weighted.items()]:
            if gradient is not None:
                add_to_grad(parameter, gradient)
        return direction

    def _clear(self) -> None:
        self.rows = []
        self._own = {}
        self._inputs = {}
        self._scale = None


def _weighted(inputs: dict[Tensor, Row], direction: Direction) -> dict[Tensor, Tensor | None]:
    # The gradient of an input: that of the losses, weighted as the solver weighs them.
    if inputs and direction.weights is None:
        leaf, column = next(iter(inputs.items()))
        raise ValueError(
            f"several losses reach a tensor that requires grad, of shape {tuple(leaf.shape)}, and "
            "this solver gives no weights for the sum of its gradients: if it is trained, add it "
            f"to shared; if it is an input, pass heads, one list for each of {len(column)} losses"
        )
    summed: dict[Tensor, Tensor | None] = {}
    for leaf, column in inputs.items():
        assert direction.weights is not None
        pairs = zip(direction.weights.tolist(), column, strict=True)
        terms = [weight * gradient for weight, gradient in pairs if gradient is not None]
        summed[leaf] = sum(terms[1:], terms[0]) if terms else None
    return summed


def _sums(old: Row, new: Row) -> Row:
    # Not in place: a tensor from autograd may share its memory with other gradients.
    return [b if a is None else a if b is None else a + b for a, b in zip(old, new, strict=True)]
