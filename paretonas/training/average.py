"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn


class Average:
    """The moving average of the parameters and floating buffers of a network.

    In update t, counted from 0, the decay is ``min(decay, (1 + t) / (10 + t))``, so that a short
    training forgets the initial weights (as TensorFlow's ``ExponentialMovingAverage``). Weights
    with fewer than 32 bits are averaged in float32.

    Args:
        network: its present weights are the first average.
        decay: per update, between 0 and 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._network, self._decay, self._updates = network, decay, 0
        self._values = {name: _wide(value).clone() for name, value in self._averaged()}

    @torch.no_grad()
    def update(self) -> None:
        """Take the present weights into account."""
        now = (1 + self._updates) / (10 + self._updates)
        weight = 1 - min(self._decay, now)
        for name, value in self._averaged():
            mean, new = self._values[name], _wide(value)
            # Where nothing changed, nothing is computed: a mask of -inf would become NaN.
            mean.copy_(torch.where(mean == new, mean, torch.lerp(mean, new, weight)))
        self._updates += 1

    @torch.no_grad()
    def hand_over(self) -> None:
        """Replace the weights of the network by the average."""
        for name, value in self._averaged():
            value.copy_(self._values[name])

    def state(self) -> dict[str, object]:
        """What `resume` needs: tensors and plain values."""
        return {"updates": self._updates, "values": dict(self._values)}

    def resume(self, state: Mapping[str, object]) -> None:
        """Go on where `state` was taken."""
        values, updates = state["values"], state["updates"]
        assert isinstance(values, dict) and isinstance(updates, int)
        self._updates = updates
        for name, value in values.items():
            self._values[name].copy_(value)

    def _averaged(self) -> Iterator[tuple[str, Tensor]]:
        for name, parameter in self._network.named_parameters():
            yield name, parameter.detach()
        for name, buffer in self._network.named_buffers():
            if buffer.is_floating_point():
                yield name, buffer


def _wide(value: Tensor) -> Tensor:
    return value.detach().to(torch.promote_types(value.dtype, torch.float32))
