"""What every space of networks promises, as a check that other people's spaces can run too."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .._promises import demand, naming
from ..arguments import call, count, mapped, moved, tensors
from ..forward import device_of, evaluating, handed, seeded
from ..space import Architecture
from ..tasks.passes import few
from ..tasks.task import Task
from .supernet import NetworkSpace, Supernet

__all__ = ["check_space"]

EXAMPLES = 16


def check_space(space: NetworkSpace) -> None:
    """Check that a space keeps its promises: each option is taken once, run and trained for a step.

    The task loads, and a supernet is the same for the same seed, without a look at the global
    random generator of torch. Each network has a finite loss with finite gradients, and takes
    batches of any size.

    Args:
        space: an object, such as ``NetworkSpace("mine", Network, load_data)``.

    Raises:
        AssertionError: a promise is broken; the message says which, and of which architecture.

    >>> from search_spaces import toy
    >>> check_space(toy.space)
    """
    if not isinstance(space, NetworkSpace):
        raise AssertionError(f"must be a NetworkSpace, got {space!r}")
    demand(bool(space.name), "the space must have a name")
    with naming("the task"):
        task = space.load_task()
        batch = few(task, "train", EXAMPLES)
    _is_built_alike(space)
    supernet = space.supernet()
    every = _each_option(supernet)
    with naming(str(every[0])):
        supernet.fresh(every[0], seed=0)  # once: it builds the whole network again
    for architecture in every:
        with naming(str(architecture)):
            network = supernet.extract(architecture)
        _learns(network, task, batch, str(architecture))
        _takes_any_batch(network, task, str(architecture))


def _each_option(supernet: Supernet) -> list[Architecture]:
    """Architectures that take each option once, also those inside other options."""
    choices = supernet.choices
    first = [0] * len(choices)
    found: dict[Architecture, None] = {}
    for index, choice in enumerate(choices):
        for pick in range(len(choice.options)):
            picks = zip(choices, supernet.reaching(index, pick, first), strict=True)
            found[supernet.canonical({c.name: c.options[i] for c, i in picks})] = None
    return list(found)


def _is_built_alike(space: NetworkSpace) -> None:
    before = torch.random.get_rng_state()
    with naming("the network"):
        one, two = space.supernet(3).state_dict(), space.supernet(3).state_dict()
    kept = torch.equal(before, torch.random.get_rng_state())
    demand(kept, "building the network moves the global random generator of torch on")
    same = one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    demand(same, "two supernets of one seed differ: draw weights by torch's own generator")


def _learns(network: nn.Module, task: Task, batch: Any, label: str) -> None:
    with naming(f"{label}, in training"), seeded(0, network):
        loss = task.loss(network.train(), moved(batch, device_of(network), copies=True))
    demand(loss.numel() == 1, f"{label}: the loss has shape {tuple(loss.shape)}, not one number")
    demand(bool(loss.isfinite()), f"{label}: the loss is {float(loss.detach())}")
    with naming(f"{label}, backward"):
        loss.backward()
    for name, parameter in network.named_parameters():
        finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
        demand(finite, f"{label}: the gradient of {name} is not finite")


def _takes_any_batch(network: nn.Module, task: Task, label: str) -> None:
    inputs = task.example()
    for size in (1, 2, 7):
        several = mapped(partial(_repeated, rows=count(inputs), times=size), inputs)
        with (
            naming(f"{label}, a batch of {size}"),
            evaluating(network),
            seeded(0, network),
            torch.no_grad(),
        ):
            output = call(network, handed(network, several))
        for tensor in tensors(output)[:1]:
            fits = tensor.ndim > 0 and len(tensor) == size
            rows = len(tensor) if tensor.ndim else "no"
            demand(fits, f"{label}: a batch of {size} gives {rows} rows")


def _repeated(tensor: Tensor, rows: int, times: int) -> Tensor:
    counts = tensor.ndim > 0 and len(tensor) == rows  # not a table that all examples share
    return tensor.repeat(times, *[1] * (tensor.ndim - 1)) if counts else tensor
