"""How a network is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .._whole import whole
from .teacher import Teacher
from .warmup import warmup_cosine

Precision = Literal["float32", "bf16", "fp16"]
PRECISIONS = ("float32", "bf16", "fp16")
_PLAIN = (type(None), bool, int, float, str)
_LONGEST = 200  # characters of an object's own text


@dataclass(frozen=True, repr=False)
class Recipe:
    """How a network is trained; by default AdamW with a warm-up and a cosine decay to zero.

    The supernet and the finalists are trained by the same recipe, with three exceptions: `ema`,
    `compile` and `fit` are for finalists only. Functions draw random numbers from the global
    generators (of torch, `random` and numpy), which are seeded.

    >>> from functools import partial
    >>> Recipe(epochs=5, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9), clip=1.0)
    Recipe(epochs=5, batch_size=64, optimizer=partial(SGD, lr=0.1, momentum=0.9), clip=1.0)

    Attributes:
        epochs: passes over the training split.
        batch_size: examples per step.
        learning_rate: the largest learning rate, if the optimizer is a class.
        weight_decay: likewise; decoupled in AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
        optimizer: a class of `torch.optim`, or a function that makes an optimizer from the list of
            the network's parameters. Such a function sets its own learning rate and weight decay.
        schedule: a function that makes a scheduler of the learning rate from the optimizer and the
            number of steps; it is stepped after each training step. None keeps the rate constant.
        precision: of the forward pass: ``"bf16"`` and ``"fp16"`` mean `torch.autocast`; fp16 also
            scales the loss (Micikevicius et al. 2018, arXiv 1710.03740).
        augment: a function from a training batch to a training batch, on the network's device.
        clip: the largest norm of the gradient of all parameters together.
        label_smoothing: the part of each target that is spread over all classes (Szegedy et al.
            2016, arXiv 1512.00567), for tasks that have a method ``smoothed``.
        ema: the decay per step of an exponential moving average of the weights, such as 0.999. A
            finalist then gets the averaged weights.
        teacher: what the network learns from beside the targets: a `Teacher`, or a network, or a
            function that builds one.
        compile: whether `torch.compile` compiles the forward pass of a finalist while it trains.
        channels_last: whether the network and batches of images have this memory format.
        training_step: a function of the network, a batch and the optimizer that replaces a whole
            training step, with ``backward`` and ``optimizer.step``, and returns the loss. Then
            precision, clip, label_smoothing and teacher are its own business.
        fit: a function of the network, the task, the recipe and the seed that replaces the whole
            training of a finalist. It trains the network in place.

    Raises:
        ValueError: a number is out of its range, or options exclude each other.
        TypeError: a function cannot be called.
    """

    epochs: int = 12
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 1e-2
    optimizer: type[Optimizer] | Callable[[list[nn.Parameter]], Optimizer] = torch.optim.AdamW
    schedule: Callable[[Optimizer, int], LRScheduler] | None = warmup_cosine
    precision: Precision = "float32"
    augment: Callable[[Any], Any] | None = None
    clip: float | None = None
    label_smoothing: float = 0.0
    ema: float | None = None
    teacher: Teacher | nn.Module | Callable[[], nn.Module] | None = None
    compile: bool = False
    channels_last: bool = False
    training_step: Callable[[nn.Module, Any, Optimizer], Tensor | float] | None = None
    fit: Callable[[nn.Module, Any, Recipe, int], object] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("epochs", "batch_size"):
            object.__setattr__(self, name, whole(name, getattr(self, name), 1))
        if not self.weight_decay >= 0:
            raise ValueError(f"weight_decay must be 0 or more, got {self.weight_decay}")
        if not callable(self.optimizer):
            raise TypeError(
                f"optimizer must be a class of torch.optim, or a function that makes an optimizer "
                f"from a list of parameters, got {self.optimizer!r}"
            )
        for name in ("schedule", "augment", "training_step", "fit"):
            function = getattr(self, name)
            if function is not None and not callable(function):
                raise TypeError(f"{name} must be a function or None, got {function!r}")
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision must be one of {', '.join(PRECISIONS)}, got {self.precision!r}"
            )
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"clip must be positive and finite, got {self.clip}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), got {self.label_smoothing}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ValueError(f"ema must be between 0 and 1, got {self.ema}")
        if self.teacher is not None and not isinstance(self.teacher, Teacher):
            object.__setattr__(self, "teacher", Teacher(self.teacher))
        if self.training_step is not None:
            for name in ("precision", "clip", "label_smoothing", "teacher"):
                if getattr(self, name) != _DEFAULTS[name]:
                    raise ValueError(
                        f"training_step replaces the whole step, so {name} has no effect; leave it "
                        "out, and do this inside training_step"
                    )

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)}
        rest = {name: value for name, value in shown.items() if value != _DEFAULTS[name]}
        always = ["epochs", "batch_size"]
        if isinstance(self.optimizer, type):
            always += ["learning_rate", "weight_decay"]
        names = [name for name in shown if name in always or name in rest]
        return f"Recipe({', '.join(f'{name}={_short(shown[name])}' for name in names)})"

    def steps(self, batches: int) -> int:
        """The number of steps of a training with this number of batches in an epoch."""
        return self.epochs * batches

    def numbers(self) -> dict[str, bool | int | float | str | None]:
        """The fields with plain values, by name, for a checkpoint.

        ``replace(recipe, **numbers)`` restores them; functions come from the code of the user.
        """
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        functions = ("schedule", "augment", "teacher", "training_step", "fit")
        return {n: v for n, v in found.items() if isinstance(v, _PLAIN) and n not in functions}

    def described(self) -> dict[str, Any]:
        """All fields as plain JSON values, so that people can repeat the training.

        Functions and classes are written as their module and name, a `functools.partial` with its
        arguments, other objects as the first characters of their ``repr``.
        """
        return {f.name: described(getattr(self, f.name)) for f in fields(self)}


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Recipe)}


def described(value: object) -> Any:
    """A value as plain JSON; what is not plain is described in words."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    if isinstance(value, partial):
        return {
            "function": described(value.func),
            "arguments": described(value.args),
            "keywords": described(value.keywords),
        }
    if isinstance(value, Teacher):
        return described(value.settings)
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return f"{getattr(value, '__module__', None) or 'builtins'}.{name}"
    # Without addresses, which differ from run to run.
    return re.sub(r" at 0x[0-9a-fA-F]+", "", " ".join(repr(value).split()))[:_LONGEST]


def _short(value: object) -> str:
    if isinstance(value, partial):
        given = [*map(_short, value.args), *(f"{k}={_short(v)}" for k, v in value.keywords.items())]
        return f"partial({', '.join([_short(value.func), *given])})"
    name = getattr(value, "__qualname__", None)
    if isinstance(name, str):
        return name.rpartition(".")[2]
    return repr(value) if isinstance(value, (*_PLAIN, Teacher)) else type(value).__name__
