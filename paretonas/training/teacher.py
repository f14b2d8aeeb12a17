"""Distillation: a network learns from the outputs of another one."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..forward import copied, handed, seeded

_building = threading.Lock()


class Teacher:
    """A trained network whose outputs others learn (Hinton et al. 2015, arXiv 1503.02531).

    The loss of a training step becomes ``(1 - weight) * loss + weight * distillation``. The teacher
    gets the same inputs as the network, after augmentation. It is in evaluation mode, has no
    gradients, and is a copy: the network that was passed never changes.

    >>> Teacher(nn.Linear(2, 3), weight=0.9)
    Teacher(Linear, weight=0.9, temperature=4)

    Args:
        network: the trained network, or a function that builds it. It is called once.
        weight: of the distillation, more than 0, at most 1.
        temperature: divides the scores of both networks before the softmax.
        dim: the dimension of the classes in the outputs, in the default distillation.
        distill: a function of the output of the network and that of the teacher that returns the
            distillation loss, a scalar. By default both are scores of classes, and the loss is the
            Kullback-Leibler divergence from the teacher's softmax, times the squared temperature.

    Raises:
        TypeError: the network is neither a module nor a function.
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        network: nn.Module | Callable[[], nn.Module],
        *,
        weight: float = 0.5,
        temperature: float = 4.0,
        dim: int = 1,
        distill: Callable[[Any, Any], Tensor] | None = None,
    ) -> None:
        if not callable(network):
            raise TypeError(
                f"a teacher must be a network, or a function that builds one, got {network!r}"
            )
        if not 0 < weight <= 1:
            raise ValueError(f"the weight of a teacher must be in (0, 1], got {weight}")
        if not 0 < temperature < math.inf:
            raise ValueError(
                f"the temperature of a teacher must be positive and finite, got {temperature}"
            )
        self.network, self.weight, self.temperature = network, weight, temperature
        self.dim, self.distill = dim, distill
        self._built: dict[torch.device, nn.Module] = {}

    def __repr__(self) -> str:
        name = getattr(self.network, "__name__", None) or type(self.network).__name__
        rest = f", temperature={self.temperature:g}"
        if self.distill is not None:
            rest = f", distill={getattr(self.distill, '__name__', type(self.distill).__name__)}"
        return f"Teacher({name}, weight={self.weight:g}{rest})"

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_built": {}}

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with."""
        names = ("network", "weight", "temperature", "dim", "distill")
        return {name: getattr(self, name) for name in names}

    def on(self, device: torch.device) -> nn.Module:
        """The network on a device, in evaluation mode and without gradients; built only once."""
        with _building:  # finalists are trained in several threads
            if device not in self._built:
                self._built[device] = self._build().to(device)
            return self._built[device]

    def _build(self) -> nn.Module:
        network: Any = self.network
        if not isinstance(network, nn.Module):
            with seeded(0):
                network = network()
        if not isinstance(network, nn.Module):
            raise TypeError(f"the function of a teacher must build a network, got {network!r}")
        network = copied(network)
        assert isinstance(network, nn.Module)
        return network.eval().requires_grad_(False)

    def loss(self, output: Any, teachers: Any) -> Tensor:
        """The distillation loss for the outputs of the network and of the teacher.

        Raises:
            TypeError: an output is no tensor, and there is no ``distill``.
            ValueError: the shapes differ.
        """
        if self.distill is not None:
            return self.distill(output, teachers)
        if not isinstance(output, Tensor) or not isinstance(teachers, Tensor):
            raise TypeError(
                f"outputs of {type(output).__name__} and {type(teachers).__name__} are no scores "
                "of classes: give the teacher a distill(output, teachers_output)"
            )
        if output.shape != teachers.shape:
            raise ValueError(
                f"the outputs of a network and of its teacher must have one shape, got "
                f"{tuple(output.shape)} and {tuple(teachers.shape)}"
            )
        own, target = (
            functional.log_softmax(scores / self.temperature, self.dim)
            for scores in (output, teachers)
        )
        divergence = functional.kl_div(own, target, reduction="none", log_target=True)
        return self.temperature**2 * divergence.sum(self.dim).mean()


@contextmanager
def taught(network: nn.Module, teacher: Teacher, device: torch.device) -> Iterator[list[Tensor]]:
    """Collect the distillation loss of each call of a network inside this context."""
    losses: list[Tensor] = []
    asked: list[tuple[Any, Any]] = []
    other = teacher.on(device)

    def before(_: nn.Module, args: Any, kwargs: Any) -> None:
        # Copied now, since the network may overwrite its inputs.
        asked.append(handed(other, (list(args), kwargs)))

    def after(_: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        args, kwargs = asked.pop()
        try:
            with torch.no_grad():
                answer = other(*args, **kwargs)
        except Exception as error:
            raise RuntimeError(
                "the teacher does not run on the inputs of the network: "
                f"{type(error).__name__}: {error}"
            ) from error
        losses.append(teacher.loss(output, answer))

    handles = (
        network.register_forward_pre_hook(before, with_kwargs=True),
        network.register_forward_hook(after, with_kwargs=True),
    )
    try:
        yield losses
    finally:
        for handle in handles:
            handle.remove()
