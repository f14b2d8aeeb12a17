"""How much channels matter: the least important ones are the first that a smaller width loses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .conversion.groups import Group
from .conversion.units import Axis

__all__ = ["Taylor", "batch_norm_scale", "magnitude"]

Importance = Callable[[nn.Module], Mapping[str, Tensor]]
"""From a network to a score for each element of its parameters, by name; a name may be missing."""


def magnitude(network: nn.Module) -> dict[str, Tensor]:
    """The square of each weight: a channel counts by the L2 norm of all that makes and reads it.

    Biases and the parameters of norms do not count: a channel with a large negative bias is dead
    behind a ReLU, and not important.

    References:
        Li et al. 2017, "Pruning Filters for Efficient ConvNets" (arXiv 1608.08710), for norms of
        filters. Fang et al. 2023, "DepGraph" (arXiv 2301.12900), for norms over coupled layers.
    """
    return {
        name: tensor.detach().abs() ** 2
        for name, tensor in network.named_parameters()
        if tensor.ndim > 1
    }


def batch_norm_scale(network: nn.Module) -> dict[str, Tensor]:
    """The absolute scale of batch norms.

    References:
        Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming"
        (arXiv 1708.06519).
    """
    return {
        f"{path}.weight".lstrip("."): module.weight.detach().abs()
        for path, module in network.named_modules()
        if isinstance(module, _BatchNorm) and module.weight is not None
    }


class Taylor:
    """The square of weight times gradient: what the loss changes by, to first order.

    Args:
        loss: from a network to its loss on data; several batches may be summed.

    References:
        Molchanov et al. 2019, "Importance Estimation for Neural Network Pruning" (arXiv
        1906.10771).
    """

    def __init__(self, loss: Callable[[nn.Module], Tensor]) -> None:
        self.loss = loss

    def __call__(self, network: nn.Module) -> dict[str, Tensor]:
        held = {name: p for name, p in network.named_parameters() if p.requires_grad}
        with torch.enable_grad():
            gradients = torch.autograd.grad(
                self.loss(network), list(held.values()), allow_unused=True
            )
        return {
            name: (tensor * gradient).detach() ** 2
            for (name, tensor), gradient in zip(held.items(), gradients, strict=True)
            if gradient is not None
        }


def order(
    group: Group, scores: Mapping[str, Tensor], held: Mapping[str, Sequence[Axis]]
) -> np.ndarray:
    """The units of a group by their importance, the most important first; ties keep their order.

    Each axis of each tensor counts alike: its scores are divided by their mean.
    """
    rank = {unit: place for place, unit in enumerate(group.units.tolist())}
    total = np.zeros(len(group.units))
    for name in group.tensors:
        score = scores.get(name)
        if score is None:
            continue
        for place, axis in enumerate(held[name]):
            mine = np.isin(axis, group.units)
            if not mine.any():
                continue
            others = [dim for dim in range(score.ndim) if dim != place]
            each = (score.sum(others) if others else score).double().cpu().numpy()[mine]
            if not each.mean() > 0:
                continue
            places = np.array([rank[unit] for unit in axis[mine].tolist()])
            np.add.at(total, places, each / each.mean())
    return np.argsort(-total, kind="stable")
