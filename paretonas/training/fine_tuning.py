"""A training that goes on from the weights of a supernet."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from ..arguments import moved
from ..forward import device_of
from ..tasks.passes import one_pass
from ..tasks.task import Task
from .recipe import Recipe

NUMBER = r"\d*\.?\d+(?:e[+-]?\d+)?"
BATCHES = 20  # from which batch norms take their statistics


@dataclass(frozen=True)
class FineTuning:
    """How a finalist is trained that inherits its weights from the supernet: by the whole recipe.

    Shorter trainings allow more finalists, for recipes that are long for their budget:
    ``search(..., finalists=FineTuning(share=0.4))``.

    Attributes:
        share: the part of the recipe's epochs; at least one epoch is trained.
        rate: the learning rate is multiplied by this, before a schedule changes it.

    Raises:
        ValueError: a number is not positive and finite, or the share is above 1.

    >>> FineTuning.parse("inherit:0.4:0.3")
    FineTuning(share=0.4, rate=0.3)
    >>> str(FineTuning(share=0.4)), str(FineTuning())
    ('inherit:0.4', 'inherit')
    """

    share: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, got {self.share}")
        if not 0 < self.rate < float("inf"):
            raise ValueError(f"rate must be positive and finite, got {self.rate}")

    @classmethod
    def parse(cls, text: str) -> FineTuning:
        """Read ``inherit``, ``inherit:SHARE`` or ``inherit:SHARE:RATE``.

        Raises:
            ValueError: it reads otherwise, or a number is out of range.
        """
        match = re.fullmatch(rf"inherit(?::({NUMBER}))?(?::({NUMBER}))?", text)
        if match is None:
            raise ValueError(
                f"a fine-tuning reads inherit, inherit:SHARE or inherit:SHARE:RATE; got {text!r}"
            )
        return cls(*(float(number) for number in match.groups() if number is not None))

    def __str__(self) -> str:
        """As `parse` reads it."""
        numbers = [self.share, self.rate] if self.rate != 1 else [self.share]
        return ":".join(["inherit", *(repr(float(n)) for n in numbers if numbers != [1])])

    def of(self, recipe: Recipe) -> Recipe:
        """The recipe of the fine-tuning."""
        epochs = max(1, round(self.share * recipe.epochs))
        if isinstance(recipe.optimizer, type):
            return replace(recipe, epochs=epochs, learning_rate=self.rate * recipe.learning_rate)
        if self.rate != 1:
            return replace(recipe, epochs=epochs, optimizer=_Slower(recipe.optimizer, self.rate))
        return replace(recipe, epochs=epochs)


@dataclass(frozen=True)
class _Slower:
    """Makes an optimizer whose learning rates are multiplied."""

    make: Callable[[list[nn.Parameter]], Optimizer]
    rate: float

    def __call__(self, parameters: list[nn.Parameter]) -> Optimizer:
        optimizer = self.make(parameters)
        if isinstance(optimizer, Optimizer):  # anything else is refused by whoever asked for one
            for group in optimizer.param_groups:
                group["lr"] *= self.rate
        return optimizer


def recalibrate(network: nn.Module, task: Task, *, seed: int) -> None:
    """Give batch norms the statistics of some training batches, in place of their running ones.

    Those of a supernet belong to other paths. Parts in evaluation mode keep theirs. The network
    draws from the global generators in their current state. Gradients are on, since some losses
    need them, but nothing is trained.

    References:
        Yu and Huang 2019, "Universally Slimmable Networks" (arXiv 1903.05134), section 3.3.
    """
    if not network.training:
        network.train()
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.training]
    norms = [norm for norm in norms if norm.track_running_stats]
    if not norms:
        return
    momenta: list[Any] = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
    hooks = [norm.register_forward_pre_hook(_PlainAverage()) for norm in norms]
    try:
        for batch in islice(one_pass(task, "train", seed=seed, epoch=0), BATCHES):
            task.loss(network, moved(batch, device_of(network), copies=True))
    finally:
        for norm, momentum, hook in zip(norms, momenta, hooks, strict=True):
            norm.momentum = momentum
            hook.remove()


class _PlainAverage:
    """Gives a batch norm the momentum of the plain average over its calls.

    With a momentum of None torch does the same, but reads the number of calls from the device.
    """

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, norm: Any, _: Any) -> None:
        self._calls += 1
        norm.momentum = 1 / self._calls
