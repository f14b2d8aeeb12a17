"""The multi-task training step: `backward` in place of ``loss.backward()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor

from paretonas.multitask.by_values import backward_by_values
from paretonas.multitask.gradients import TaskGradients
from paretonas.multitask.parts import Tensors
from paretonas.multitask.solve import refuse_no_solver
from paretonas.solvers.base import Direction, Solver, WeightingSolver

if TYPE_CHECKING:
    from torch.amp import GradScaler
    from torch.distributed import ProcessGroup


def backward(
    losses: Sequence[Float[Tensor, ""]],
    shared: Tensors,
    *,
    solver: Solver,
    heads: Sequence[Tensors] | None = None,
    state: object = None,
    retain_graph: bool = False,
    vectorize: bool | None = None,
    scaler: GradScaler | None = None,
    group: ProcessGroup | None = None,
) -> Direction:
    """Replace ``loss.backward()`` where several losses share parameters.

    Adds the solver's direction to ``.grad`` of the shared parameters, and each loss's own gradient
    to ``.grad`` of its head. As with ``loss.backward()``, call ``optimizer.zero_grad()`` between
    steps; without it directions add up. Clip afterwards, with ``torch.nn.utils.clip_grad_norm_``.

    Frozen parameters are left alone, and so are those that no loss reaches. A loss that does not
    reach some shared parameter has zeros there; one that reaches none of them is a row of zeros.
    Where an error is raised, every ``.grad`` is as it was.

    An input that requires grad (of a physics-informed loss, a gradient penalty, an adversarial
    example) is no one's head and has no part in the conflict: where several losses reach a tensor
    that is no ``nn.Parameter`` and not in ``shared``, its ``.grad`` gets the gradient of the losses
    in the weights that the solver gave them, as ``loss.backward()`` would with their sum. With
    ``heads`` given it is left alone. Where tensors in ``shared`` are no parameters themselves, it
    cannot be told from one that was forgotten, and is refused.

    Where a solver weighs the losses without their gradients (``needs_gradients`` is false, or
    ``EveryKSteps`` is between two of its steps), the step costs one backward pass instead of m,
    and its certificate has no numbers about gradients.

    Args:
        losses: m scalars, each with a graph; under a scaler too, as they are.
        shared: the parameters over which the losses compete; or a module, for all of its own.
        solver: turns their gradients into one direction; it is also given the values.
        heads: m collections of parameters or modules, one per loss, ``[]`` for one without; None
            finds for each loss what it alone reaches, by a walk through the graph. What is neither
            in here nor in ``shared`` is left alone. Needed where the walk cannot tell: for losses
            that are entries of one tensor (a stack, or weights times a stack), or that come out of
            one compiled graph.
        state: ``state`` of the direction that the previous call returned.
        retain_graph: whether to keep the graph for another pass.
        vectorize: all backward passes at once by ``torch.vmap``, in m times the memory, with a
            warning where vmap cannot; the graph then lasts as long as the losses do. None chooses:
            one after the other on a CPU, which is faster there; at once on a GPU up to a million
            shared parameters, where launches cost more than kernels.
        scaler: as in mixed precision training: ``.grad`` is then scaled, as if by
            ``scaler.scale(loss).backward()``, while the solver sees gradients without the scale.
            Where they overflow, the direction is NaN, the state stays, and ``scaler.step`` skips.
        group: average losses and gradients over these processes before the solver sees them.
            Hooks of ``DistributedDataParallel`` do not run: call the model under ``no_sync()``.

    Raises:
        TypeError: a loss or a parameter is not a tensor, losses are one scalar, or the solver is a
            class or a name.
        ValueError: losses or parameters that do not fit (no loss, no shared parameter, one in two
            places, a loss that is no scalar or has no graph, no loss that reaches a shared
            parameter, one beneath a reentrant checkpoint, which hides it, and, without ``heads``, a
            parameter outside of ``shared`` that several losses reach), or what the solver refuses,
            such as gradients that are not finite.

    >>> import torch
    >>> from paretonas.solvers import MGDA
    >>> w = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    >>> direction = backward([w[0] ** 2, w[1] ** 2], [w], solver=MGDA())
    >>> w.grad
    tensor([1., 1.])
    """
    refuse_no_solver(solver)
    if isinstance(solver, WeightingSolver) and not solver.due(state):
        return backward_by_values(
            losses,
            shared,
            solver,
            heads=heads,
            state=state,
            retain_graph=retain_graph,
            scaler=scaler,
            group=group,
        )
    gradients = TaskGradients(shared, heads=heads, vectorize=vectorize, scaler=scaler, group=group)
    gradients.add(losses, retain_graph=retain_graph)
    return gradients.resolve(solver, state)
