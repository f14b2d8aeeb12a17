"""What every space of networks promises, as a check that other people's spaces can run too."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from .._promises import demand, naming
from ..data import Data
from ..forward import evaluating, handed, seeded
from ..space import Architecture
from .supernet import NetworkSpace

__all__ = ["check_space"]

EXAMPLES = 16


def check_space(space: NetworkSpace) -> None:
    """Check that a space keeps its promises: each option is taken once, run and trained for a step.

    The data loads, and a supernet is the same for the same seed, without a look at the global
    random generator of torch. Each network gives a finite score for each class, in batches of any
    size, and has a loss with finite gradients.

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
    with naming("the data"):
        data = space.data()
    _is_built_alike(space)
    supernet = space.supernet()
    first = {choice.name: choice.options[0] for choice in space.choices}
    for architecture in dict.fromkeys(
        Architecture({**first, choice.name: option})
        for choice in space.choices
        for option in choice.options
    ):
        with naming(str(architecture)):
            network = supernet.fresh(architecture, seed=0)
        _learns(network, data, str(architecture))
        _takes_any_batch(network, data, str(architecture))


def _is_built_alike(space: NetworkSpace) -> None:
    before = torch.random.get_rng_state()
    with naming("the network"):
        one, two = space.supernet(3).state_dict(), space.supernet(3).state_dict()
    kept = torch.equal(before, torch.random.get_rng_state())
    demand(kept, "building the network moves the global random generator of torch on")
    same = one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    demand(same, "two supernets of one seed differ: draw weights by torch's own generator")


def _learns(network: nn.Module, data: Data, label: str) -> None:
    split = data.train
    inputs, labels = split.inputs[:EXAMPLES], split.labels[:EXAMPLES]
    with naming(f"{label}, in training"), seeded(0, network):
        scores = network.train()(handed(network, inputs))
    fits = scores.ndim == 2 and len(scores) == len(inputs) and scores.shape[1] >= data.classes
    expected = f"({len(inputs)}, {data.classes})"
    demand(fits, f"{label}: scores must have shape {expected}, got {tuple(scores.shape)}")
    demand(bool(scores.isfinite().all()), f"{label}: scores are not finite")
    with naming(f"{label}, backward"):
        functional.cross_entropy(scores, labels).backward()
    for name, parameter in network.named_parameters():
        finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
        demand(finite, f"{label}: the gradient of {name} is not finite")


def _takes_any_batch(network: nn.Module, data: Data, label: str) -> None:
    for size in (1, 2, 7):
        inputs = data.valid.inputs[:size]
        with (
            naming(f"{label}, a batch of {size}"),
            evaluating(network),
            seeded(0, network),
            torch.no_grad(),
        ):
            scores = network(handed(network, inputs))
        fits = len(scores) == len(inputs)
        demand(fits, f"{label}: a batch of {len(inputs)} gives {len(scores)} rows")
