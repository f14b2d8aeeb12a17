"""The supernet's weights: trained on fairly drawn single paths, then lent to any architecture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import torch
from torch.nn import functional

from ..data import Split
from ..nn import Supernet
from ..space import Architecture, Choice, decode
from ..training import Recipe, warmup_cosine_factor
from ..training.forward import evaluating, handed, seeded


def fair_paths(choices: Sequence[Choice], rng: Random) -> Iterator[Architecture]:
    """Architectures without end, every option of a choice as often as its other options.

    Of each n successive paths, counted from the first, a choice of n options takes each once.

    A path at a time and each option equally often: no option wins by being trained more, which is
    how relaxed supernets collapse into skip connections.

    References:
        Chu et al. 2021, "FairNAS" (arXiv 1907.01845): strict fairness. Liang et al. 2019, "DARTS+"
        (arXiv 1909.06035): the collapse.
    """
    decks: list[list[int]] = [[] for _ in choices]
    while True:
        for deck, choice in zip(decks, choices, strict=True):
            if not deck:
                deck += rng.sample(range(len(choice.options)), len(choice.options))
        yield decode(choices, [deck.pop() for deck in decks])


class WeightTraining:
    """Training of a supernet that can stop after any step and go on bit for bit.

    Args:
        supernet: trained in place.
        split: the training examples.
        recipe: batch size, learning rate and weight decay; its epochs do not matter here.
        steps: in all, which the learning rate's decay is fitted to.
        seed: of the paths and of the order of the examples.
    """

    def __init__(
        self, supernet: Supernet, split: Split, recipe: Recipe, *, steps: int, seed: int
    ) -> None:
        self.supernet, self.split, self.recipe = supernet, split, recipe
        self.steps, self.seed, self.done = steps, seed, 0
        self._optimizer = torch.optim.AdamW(
            supernet.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._epoch = math.ceil(len(split) / recipe.batch_size)

    def run(self) -> Iterator[float]:
        """Do the steps that are left, yielding the loss of each.

        Raises:
            FloatingPointError: the loss is NaN or infinite.
        """
        paths = fair_paths(self.supernet.choices, Random(f"weights {self.seed}"))
        for _ in range(self.done):
            next(paths)
        self.supernet.train()
        order: torch.Tensor | None = None
        while self.done < self.steps:
            # Everything random follows from the seed and the step, so nothing need be saved.
            epoch, place = divmod(self.done, self._epoch)
            if order is None or place == 0:
                generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
                order = torch.randperm(len(self.split), generator=generator)
                order = order.to(self.split.labels.device)
            size = self.recipe.batch_size
            first = min(place * size, max(0, len(order) - 2))  # batch norm needs two examples
            rows = order[first : (place + 1) * size]
            factor = warmup_cosine_factor(self.done, self.steps)
            for group in self._optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * factor
            inputs = handed(self.supernet, self.split.inputs[rows])
            with seeded(self.seed * 1_000_003 + self.done):  # for dropout and its like
                logits = self.supernet(inputs, next(paths))
                loss = functional.cross_entropy(logits, self.split.labels[rows])
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
            self.done += 1
            value = float(loss.detach())
            if not math.isfinite(value):
                raise FloatingPointError(f"the supernet's loss became {value} at step {self.done}")
            yield value

    def state(self) -> dict[str, Any]:
        """What `resume` needs: tensors and plain values."""
        return {
            "done": self.done,
            "supernet": self.supernet.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.done = state["done"]
        self.supernet.load_state_dict(state["supernet"])
        self._optimizer.load_state_dict(state["optimizer"])


@torch.no_grad()
def inherited_loss(supernet: Supernet, split: Split, architecture: Architecture) -> float:
    """The mean cross-entropy of an architecture on a split, with the supernet's weights.

    Batch norms use the statistics of the split, in one batch of all its examples; nothing is
    dropped out. The loss is always the same, whatever the network draws.
    """
    with evaluating(supernet), seeded(0):
        logits = supernet(handed(supernet, split.inputs), architecture)
    return float(functional.cross_entropy(logits, split.labels))
