"""Turn an existing network into one with choices in it, by tracing it; its weights are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy

from ...arguments import tensors
from ...forward import copied
from ..extraction import Extracted
from ..importance import Importance, magnitude
from .plan import ConversionPlan
from .recording import recorded
from .trials import choosers, exact_output, line, output, same


@dataclass(frozen=True)
class Conversion:
    """What became a choice and what stays fixed.

    Attributes:
        choices: the options of each choice, by its name.
        fixed: why a layer stays as it is, by its path.
        elastic: the share of the parameters that some choice removes.
    """

    choices: dict[str, tuple[str, ...]]
    fixed: dict[str, str]
    elastic: float

    def __str__(self) -> str:
        lines = [f"{name}: {', '.join(options)}" for name, options in self.choices.items()]
        lines += [f"{path} stays fixed: {reason}" for path, reason in self.fixed.items()]
        return "\n".join([f"{self.elastic:.0%} of the parameters are elastic", *lines])


def convert(
    model: nn.Module,
    example: Any,
    *,
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    depth: bool = False,
    kernels: Sequence[int] = (),
    keep: Sequence[str | nn.Module] = (),
    importance: Importance = magnitude,
) -> nn.Module:
    """A copy of a network, with choices of width, depth and kernel in it, and with its weights.

    The network runs once on the example. Channels that must agree become one choice; the channels
    of inputs and outputs stay. The channels of each choice are ordered by importance, so that a
    smaller one keeps what matters most. At the largest picks, which it has when it is called as it
    is, it gives what the model gives, to rounding. Each choice is tried at its smallest option, and
    dropped where the network does not run then, such as where its code has a plain number of
    channels.

    >>> from paretonas.nn import convert
    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10))
    >>> network = convert(model, torch.zeros(1, 3, 8, 8))
    >>> print(network.conversion)
    100% of the parameters are elastic
    0: 4, 8, 12, 16
    3 stays fixed: it is an output of the network

    Args:
        model: the network, which is not changed. It is traced in evaluation mode; if parameters are
            not used there, also in training mode.
        example: arguments of one forward pass: a tensor, or a nest of tensors.
        widths: the options of each width, as fractions of the full one.
        depth: whether the later blocks of an `nn.Sequential` of like blocks may be left out.
        kernels: the sizes of smaller kernels of convolutions, such as (3, 5).
        keep: modules, or their paths, which stay as they are.
        importance: the scores of weights that decide the order of channels.

    Returns:
        The network. Its attribute `conversion` says what is a choice and what stays fixed.

    Raises:
        ValueError: the network does not run on the example, there is nothing to choose, or an
            argument is out of its range.
    """
    _check_modules(model, example)
    widths = _checked_widths(widths)
    kernels = _checked_kernels(kernels)
    kept = _paths(model, keep)
    network = copied(model)
    try:
        traced = recorded(_with_weights(copied(model)), example)
        expected = output(copied(model), example)
    except Exception as error:  # of whatever kind: it is the user's code that runs
        raise ValueError(
            f"the network does not run on the example ({type(error).__name__}: {line(error)})"
        ) from error
    _check_finite(expected)
    plan = ConversionPlan(network, example, expected, traced, kept, widths)
    plan.arrange(importance)
    plan.find_kernels(kernels)
    plan.try_all()
    if depth:
        plan.find_blocks()
        plan.try_all()
    plan.find_sums()
    converted = plan.built()
    options = {name: chooser.option_names for name, chooser in choosers(converted).items()}
    if not options:
        why = "; ".join(f"{path}: {reason}" for path, reason in plan.reasons().items())
        raise ValueError(f"there is nothing to choose in the network: {why or 'it has no layers'}")
    if not same(exact_output(converted, example), exact_output(copied(model), example)):
        raise ValueError(
            "the converted network does not give what the model gives: please report it, with the "
            "network"
        )
    vars(converted)["conversion"] = Conversion(options, plan.reasons(), plan.elastic_share())
    return converted


def _check_finite(outputs: Any) -> None:
    for found in tensors(outputs):
        if found.is_floating_point() and not found.isfinite().all():
            kind = "NaN" if found.isnan().any() else "infinite values"
            raise ValueError(
                f"the network gives {kind} on the example, so that a conversion could not be "
                "checked: give an example with usual values"
            )


def _check_modules(model: nn.Module, example: Any) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    for tensor in tensors(example):
        if not tensor.numel():
            raise ValueError(
                f"the example has an empty tensor of shape {tuple(tensor.shape)}: give at least "
                "one example"
            )
    for path, module in model.named_modules():
        where = f"the {type(module).__name__} at {path!r}" if path else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            raise ValueError(
                f"{where} is a ScriptModule, which has no Python to change: give the "
                "network that it was made of"
            )
        if any(is_lazy(parameter) for parameter in module.parameters(recurse=False)):
            raise ValueError(f"{where} has no size yet: run the model once on the example")
        if isinstance(module, Extracted):
            raise ValueError(
                f"{where} is a choice or an elastic layer already: put further ones in "
                "by hand, or convert the plain network"
            )


def _with_weights(network: nn.Module) -> nn.Module:
    """Give norms without a weight one of ones, which says which channels they have."""
    like = next(network.parameters(), torch.ones(1))
    for module in network.modules():
        if getattr(module, "weight", 0) is not None:
            continue
        shape: Any = None
        if isinstance(module, nn.LayerNorm | nn.RMSNorm):
            shape = module.normalized_shape
        elif isinstance(module, nn.GroupNorm):
            shape = (module.num_channels,)
        elif isinstance(module, _NormBase):
            shape = (module.num_features,)
        if shape is not None:
            module.weight = nn.Parameter(torch.ones(shape).to(like))
    return network


def _paths(model: nn.Module, keep: Sequence[str | nn.Module]) -> set[str]:
    modules = dict(model.named_modules())
    names = {module: path for path, module in modules.items()}
    found = set[str]()
    for each in [keep] if isinstance(keep, str | nn.Module) else keep:
        path = names.get(each) if isinstance(each, nn.Module) else each
        if path is None or path not in modules:
            what = f"the {type(each).__name__} in keep" if path is None else repr(path)
            raise ValueError(
                f"keep takes modules of the network or their paths, and {what} is none"
            )
        found.add(path)
    return found


def _checked_widths(widths: Sequence[float]) -> list[float]:
    numbers = isinstance(widths, Iterable) and not isinstance(widths, str)
    found = [*widths] if numbers else []
    if not found or any(not isinstance(w, float | int) or not 0 < w <= 1 for w in found):
        raise ValueError(
            "widths must be fractions in (0, 1] of the full width, at least one, got "
            f"{found or repr(widths)}"
        )
    return [*map(float, found)]


def _checked_kernels(kernels: Sequence[int]) -> list[int]:
    if not isinstance(kernels, Iterable) or any(
        not isinstance(k, int) or k < 1 or k % 2 == 0 for k in kernels
    ):
        raise ValueError(f"kernels must be odd and positive, as (3, 5), got {kernels!r}")
    return sorted({*kernels})
