"""Weights that a network starts from, in place of its constructor's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from ..space import nearest

WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")  # keys of training checkpoints


@dataclass(frozen=True)
class Started:
    """A constructor of a network that loads weights into what another one builds.

    The weights may belong to a part of the network, such as a pretrained trunk: parameters that are
    not among them keep the values of the constructor.

    Attributes:
        network: builds the network.
        state: tensors by name.
        source: where the weights come from, for messages.

    Raises:
        ValueError: when the network is built: a name or a shape does not fit, or a value is not
            finite. A buffer may be infinite where it is so in the network, such as a mask.
    """

    network: Callable[[], nn.Module]
    state: Mapping[str, Tensor] = field(repr=False)
    source: str = "the weights"

    def __call__(self) -> nn.Module:
        """Build the network, with these weights."""
        network = self.network()
        own = network.state_dict()
        for name, tensor in self.state.items():
            if name not in own:
                raise ValueError(
                    f"{self.source} has weights called {name!r}, and the network has none"
                    f"{nearest(name, list(own))}"
                )
            if own[name].shape != tensor.shape:
                raise ValueError(
                    f"{name} has the shape {tuple(tensor.shape)} in {self.source}, "
                    f"and {tuple(own[name].shape)} in the network, at its largest sizes"
                )
            if _kind(tensor) != _kind(own[name]):
                raise ValueError(
                    f"{name} is of {tensor.dtype} in {self.source}, and of {own[name].dtype} in "
                    "the network"
                )
            cast = tensor.to(own[name])  # a smaller type may turn large numbers into infinity
            if not bool(cast.isfinite().all()) and not torch.equal(cast, own[name]):
                raise ValueError(f"{name} in {self.source} has values that are not finite")
        network.load_state_dict(dict(self.state), strict=False)
        return network


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def read_state(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file, or from a file of `torch.save`.

    Nothing in the file is run. A training checkpoint may hold the state dict under a usual name,
    such as ``"state_dict"``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or holds no tensors by name.
    """
    place = Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"there is no file of weights {place}")
    content: Any
    try:
        if place.suffix == ".safetensors":
            content = safetensors.torch.load_file(place)
        else:
            content = torch.load(place, weights_only=True, map_location="cpu")
    except Exception as error:  # of whatever kind: the readers name several for a damaged file
        raise ValueError(
            f"{place} is no file of weights ({type(error).__name__}): give a .safetensors file, or "
            "torch.save(network.state_dict(), path)"
        ) from error
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    return checked_state(content, str(place))


def checked_state(content: Any, source: str) -> dict[str, Tensor]:
    """Copies of tensors by name.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(content, Mapping) or not content:
        found = "an empty one" if isinstance(content, Mapping) else type(content).__name__
        raise ValueError(f"{source} must be a dict of tensors by name, got {found}")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ValueError(
                f"{source} must be a dict of tensors by name, got {type(tensor).__name__} for "
                f"{name!r}"
            )
    return {name: tensor.detach().clone() for name, tensor in content.items()}
