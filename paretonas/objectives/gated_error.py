"""The error through the gates of a supernet: the textbook gradient with respect to alpha."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..data import Split
from ..forward import handed, seeded
from ..nn import Supernet
from ..relaxation import Gates, sizes_of, softmax


@dataclass(frozen=True, eq=False)
class GatedError:
    """The logarithm of the loss of a mixture, differentiated through the network.

    The default of the search is a surrogate instead, which gave better results at a thousandth of
    the cost. This class is the alternative in that comparison (see docs/decisions).

    Attributes:
        supernet: the supernet whose weights are inherited.
        split: the examples; the validation split in a search.
        generator: draws the batches and the gates.
        gates: how probabilities become gates; see `paretonas.relaxation`.
        batch_size: examples per call.
        temperature: the temperature of the gates.

    References:
        Liu et al. 2019, "DARTS: Differentiable Architecture Search" (arXiv 1806.09055).
    """

    supernet: Supernet
    split: Split
    generator: torch.Generator
    gates: Gates = softmax
    batch_size: int = 128
    temperature: float = 1.0

    def relaxed(self, probabilities: Float[Tensor, "r K"]) -> Float[Tensor, " r"]:
        """The log loss of each row's mixture, on a new random batch at each call."""
        rows = torch.randperm(len(self.split), generator=self.generator)[: self.batch_size]
        rows = rows.to(self.split.labels.device)
        labels = self.split.labels[rows]
        sizes = sizes_of(self.supernet.choices)
        losses = []
        for row in probabilities:
            # Softmax inverts the logarithm, so the gates get the distribution itself.
            logits = row.clamp_min(1e-9).log()
            gates = self.gates(logits, sizes, self.temperature, self.generator)
            inputs = handed(self.supernet, self.split.inputs[rows])
            parts = gates.to(inputs).split(list(sizes))
            with seeded(self._chance(), self.supernet):
                losses.append(functional.cross_entropy(self.supernet(inputs, parts), labels))
        return torch.stack(losses).log().to(probabilities)

    def _chance(self) -> int:
        """A seed for the network's random numbers, from a copy of the generator."""
        twin = torch.Generator().set_state(self.generator.get_state())
        return int(torch.randint(2**62, (), generator=twin))
