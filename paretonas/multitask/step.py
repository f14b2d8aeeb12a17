"""The multi-task training step: `backward` replaces ``loss.backward()``."""

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
    """Replace ``loss.backward()`` when several losses share parameters.

    It adds the solver's direction to ``.grad`` of the shared parameters, and the gradient of each
    loss to ``.grad`` of its head. As with ``loss.backward()``, call ``optimizer.zero_grad()``
    between steps; otherwise directions accumulate. Clip afterwards, with
    ``torch.nn.utils.clip_grad_norm_``.

    Frozen parameters do not change, nor do those on which no loss depends. If a loss does not
    depend on a shared parameter, its gradient there is zero. If an error is raised, no ``.grad``
    changes.

    An input may require grad (in a physics-informed loss, a gradient penalty, or an adversarial
    example). It belongs to no head and has no part in the conflict. If several losses depend on a
    tensor that is no ``nn.Parameter`` and not in ``shared``, its ``.grad`` gets the gradient of the
    losses, weighted as the solver weighs them, like ``loss.backward()`` on their sum. If ``heads``
    are given, it does not change. If tensors in ``shared`` are not parameters themselves, the input
    could also be a forgotten shared tensor, and it is refused.

    Some solvers weigh the losses without their gradients (``needs_gradients`` is false, or
    ``EveryKSteps`` reuses weights). Then the step costs one backward pass instead of m, and its
    certificate has no numbers about gradients.

    Args:
        losses: m scalars, each with a graph; do not scale them, even with a scaler.
        shared: the parameters that the losses share; or a module, which means all its parameters.
        solver: turns the gradients into one direction; it also gets the values of the losses.
        heads: m collections of parameters or modules, one per loss, ``[]`` for a loss without a
            head. None finds for each loss the parameters that only it depends on, in the autograd
            graph. Parameters that are neither here nor in ``shared`` do not change. Pass heads when
            the graph cannot show them: if losses are entries of one tensor (a stack, or weights
            times a stack), or come from one compiled graph.
        state: the ``state`` of the direction that the previous call returned.
        retain_graph: whether to keep the graph for another pass.
        vectorize: all backward passes at once by ``torch.vmap``, with m times the memory, and with
            a warning if vmap fails; the graph then stays in memory as long as the losses. None
            chooses: one pass after the other on a CPU, which is faster there; all at once on a GPU
            for up to a million shared parameters, where launches cost more than kernels.
        scaler: as in mixed precision training: ``.grad`` is then scaled, as by
            ``scaler.scale(loss).backward()``, but the solver gets gradients without the scale. If
            they overflow, the direction is NaN, the state stays, and ``scaler.step`` skips.
        group: average losses and gradients over these processes before the solver gets them. Hooks
            of ``DistributedDataParallel`` do not run: call the model under ``no_sync()``.

    Raises:
        TypeError: a loss or a parameter is not a tensor, losses are one scalar, or the solver is a
            class or a name.
        ValueError: the losses or parameters do not fit: there is no loss or no shared parameter, a
            parameter is in two places, a loss is not a scalar or has no graph, no loss depends on a
            shared parameter, or a reentrant checkpoint hides a parameter. Without ``heads`` also:
            several losses depend on a parameter that is not in ``shared``. Also if the solver
            refuses the gradients, for example because they are not finite.

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
