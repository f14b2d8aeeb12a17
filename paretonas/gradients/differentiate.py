"""The gradient of each loss, by one backward pass per loss or by all passes at once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["differentiate"]

Row = list[Tensor | None]
"""One gradient per tensor; None if the loss does not depend on the tensor."""


def differentiate(
    losses: list[Tensor],
    shared: list[Tensor],
    heads: Sequence[list[Tensor]] = (),
    *,
    scale: Tensor | None = None,
    retain_graph: bool = False,
    vectorize: bool | None = None,
) -> tuple[list[Row], list[Row]]:
    """Return for each loss its gradient over the shared tensors, and over its own head.

    The gradients over the shared tensors are a jacobian in a form that every solver takes;
    `flatten` converts one row to n numbers. If rays do not interact, pass the sum over the rays:
    its gradient contains the gradient of each ray. No ``.grad`` is written.

    Args:
        losses: m scalars.
        shared: the tensors that the losses share.
        heads: the parameters that belong to one loss only; none by default.
        scale: a factor of each loss, shape (); None is 1.
        retain_graph: whether another pass will follow.
        vectorize: all passes at once by ``torch.vmap``; None chooses.

    >>> import torch
    >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> rows, _ = differentiate([w.sum(), (w * w).sum()], [w])
    >>> rows
    [[tensor([1., 1.])], [tensor([2., 4.])]]
    """
    heads = heads or [[] for _ in losses]
    if vectorize is None:
        vectorize = _pays(shared)
    if vectorize and len(losses) > 1:
        try:
            return _at_once(losses, shared, heads, scale)
        except (RuntimeError, NotImplementedError) as error:
            warnings.warn(
                "vmap cannot differentiate this network, the losses are differentiated one after "
                f"the other (vectorize=False does so from the start): {error}",
                stacklevel=4,
            )
    rows, own_rows = [], []
    for i, (loss, own) in enumerate(zip(losses, heads, strict=True)):
        gradients = torch.autograd.grad(
            loss,
            [*shared, *own],
            grad_outputs=None if scale is None else scale.to(loss),
            retain_graph=retain_graph or i < len(losses) - 1,
            allow_unused=True,
        )
        filled = [dense(g) for g in gradients]
        rows.append(filled[: len(shared)])
        own_rows.append(filled[len(shared) :])
    return rows, own_rows


def dense(gradient: Tensor | None) -> Tensor | None:
    """Convert a sparse gradient, such as that of an embedding, to a dense tensor."""
    return gradient.to_dense() if gradient is not None and gradient.is_sparse else gradient


def _pays(shared: list[Tensor]) -> bool:
    # On a CPU, vmap took 1.1 to 1.5 times as long for a small convnet and an MLP at m = 2 to 40.
    # Only an MLP of width 16 took 0.8 times as long, for m >= 8. On a GPU (not measured) vmap
    # should pay if launches cost more than the kernels; otherwise it only needs more memory.
    return shared[0].is_cuda and sum(p.numel() for p in shared) <= 1_000_000


def _at_once(
    losses: list[Tensor], shared: list[Tensor], heads: Sequence[list[Tensor]], scale: Tensor | None
) -> tuple[list[Row], list[Row]]:
    m = len(losses)
    unit = torch.eye(m, device=losses[0].device)
    if scale is not None:
        unit = unit * scale
    blocks = torch.autograd.grad(
        losses,
        [*shared, *(p for own in heads for p in own)],
        grad_outputs=[unit[i].to(loss) for i, loss in enumerate(losses)],
        retain_graph=True,  # if this fails, the losses are differentiated one by one
        allow_unused=True,
        is_grads_batched=True,
    )
    rows: list[Row] = [
        [None if b is None else b[i] for b in blocks[: len(shared)]] for i in range(m)
    ]
    rest = iter(blocks[len(shared) :])
    own_rows: list[Row] = []
    for i, own in enumerate(heads):
        taken = [next(rest) for _ in own]
        own_rows.append([None if b is None else b[i] for b in taken])
    return rows, own_rows
