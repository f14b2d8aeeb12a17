"""A constructor of a converted network, for a space over a network that exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from ...forward import copied
from ...tasks import Task
from ..start import Started
from .converting import convert


class Converted:
    """Builds the converted network of a model; give it to a `NetworkSpace` as its network.

    The model is converted once, when the first network is built.

    >>> import torch
    >>> from paretonas import NetworkSpace
    >>> from search_spaces.images import digits_8x8
    >>> def model() -> nn.Module:
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    >>> space = NetworkSpace("mine", Converted(model, torch.zeros(1, 1, 8, 8)), digits_8x8)
    >>> space.choices
    (Choice(name='1', options=('8', '16', '24', '32')),)

    Args:
        model: the network, or a function or class that gives it.
        example: arguments of one forward pass; or a task, which has an example; or a function that
            gives one of these.
        **settings: those of `convert`.
    """

    def __init__(
        self, model: nn.Module | Callable[[], nn.Module], example: Any, **settings: Any
    ) -> None:
        self.model, self.example, self.settings = model, example, settings
        self._network: nn.Module | None = None

    def __call__(self) -> nn.Module:
        """A new copy of the converted network.

        Raises:
            ValueError: as `convert`.
        """
        if self._network is None:
            example = self.example
            if callable(example):
                example = example()
            if isinstance(example, Task):
                example = example.example()
            self._network = convert(_copy(self.model), example, **self.settings)
        network: nn.Module = copied(self._network)
        return network

    def start_from(self, state: Mapping[str, Tensor], source: str) -> Converted:
        """The same of a model with other weights: these decide the order of channels."""
        network = Started(partial(_copy, self.model), state, source)
        return Converted(network, self.example, **self.settings)

    def __repr__(self) -> str:
        name = getattr(self.model, "__name__", None) or type(self.model).__name__
        return f"Converted({name})"

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_network": None}  # another process converts for itself


def _copy(model: nn.Module | Callable[[], nn.Module]) -> nn.Module:
    """A network that nothing else uses, since a function may return the same one each time."""
    network: nn.Module = copied(model if isinstance(model, nn.Module) else model())
    return network
