"""One training step after the other, by a recipe: what the supernet and finalists share."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from ..arguments import mapped, moved
from ..forward import device_of
from ..tasks.task import Task
from .average import Average
from .recipe import Recipe
from .teacher import Teacher, taught


class Updates:
    """The training steps of a network: optimizer, schedule and all else that a recipe names.

    >>> updates = Updates(network, task, recipe, steps=100)  # doctest: +SKIP
    >>> for batch in batches:  # doctest: +SKIP
    ...     loss = updates.step(batch)
    >>> updates.finish()  # doctest: +SKIP

    A step has two halves, `differentiate` and `apply`, between which `undo` is possible. Nothing is
    seeded here: what is drawn comes from the global generators in their current state.

    A task with a method ``backward(network, batch, memory, scaler)`` computes its gradients itself.
    It returns the loss, detached, and its memory for the next step, which is None at first.

    Args:
        network: is trained in place.
        task: what for.
        recipe: how.
        steps: in all, to which the schedule is fitted.

    Attributes:
        optimizer: of all parameters of the network.
        done: how many steps were taken or skipped.

    Raises:
        ValueError: the task cannot do what the recipe asks.
        TypeError: a function of the recipe does not return what it should.
    """

    def __init__(self, network: nn.Module, task: Task, recipe: Recipe, steps: int) -> None:
        self.network, self.recipe, self.done = network, recipe, 0
        self._task = _smoothed(task, recipe.label_smoothing) if recipe.label_smoothing else task
        self._backward: Callable[..., Any] | None = getattr(task, "backward", None)
        if self._backward is not None and recipe.teacher is not None:
            raise ValueError(
                f"a teacher cannot be combined with {type(task).__name__}, which weighs several "
                "losses: distill in one of its losses"
            )
        self._memory: Any = None
        self._next_memory: Any = None
        self._before: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._device = device_of(network)
        if recipe.channels_last:
            _arrange(network, torch.channels_last)
        self.optimizer = _optimizer(recipe, list(network.parameters()))
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self._schedule = _schedule(recipe, self.optimizer, steps)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == "fp16")
        self._average = None if recipe.ema is None else Average(network, recipe.ema)
        self._forward = vars(network).get("forward")
        if recipe.compile:  # the forward pass only: names in the state dict and hooks stay
            network.forward = torch.compile(network.forward)

    def __repr__(self) -> str:
        return f"Updates({type(self.network).__name__}, {self.done} done)"

    @property
    def learning_rate(self) -> float:
        """The largest learning rate, before the schedule."""
        groups = self.optimizer.param_groups
        return max(float(group.get("initial_lr", group["lr"])) for group in groups)

    def fit_schedule(self, first: int, last: int) -> None:
        """Fit the schedule to the steps from `first` to `last`; it begins anew at `first`."""
        if self._schedule is None:
            return
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate
            group.pop("initial_lr", None)
        self._schedule = _schedule(self.recipe, self.optimizer, max(1, last - first))
        for _ in range(self.done - first):
            assert self._schedule is not None
            self._schedule.step()

    def step(self, batch: Any) -> Tensor:
        """Take one step on a batch, which is copied, and return the loss, detached."""
        if self.recipe.training_step is None:
            loss = self.differentiate(batch)
        else:
            loss = self._own_step(self._prepared(batch))
        self.apply()
        return loss

    def differentiate(self, batch: Any) -> Tensor:
        """The first half of a step: the loss, detached; its gradients are in the parameters.

        A ``training_step`` of the user's own does the whole step here, and `undo` takes it back.
        """
        batch = self._prepared(batch)
        if self.recipe.training_step is not None:
            self._before = self._state_of_network(), copy.deepcopy(self.optimizer.state_dict())
            return self._own_step(batch)
        self.network.zero_grad(set_to_none=True)
        if self._backward is not None:
            with self._autocast():
                loss, self._next_memory = self._backward(
                    self.network, batch, self._memory, self._scaler
                )
            return torch.as_tensor(loss).detach()
        with self._autocast():
            loss = self._loss(batch)
        self._scaler.scale(loss).backward()
        return loss.detach()

    def check(self, loss: Tensor) -> float:
        """The loss as a number, after `differentiate`, if the step can be taken.

        Raises:
            FloatingPointError: the loss or a gradient is NaN, infinite, or too large to be squared;
                or weights are, after a ``training_step`` of the user's own.
        """
        own = self.recipe.training_step is not None
        # Before the loss is read: a GPU is then waited for once. Adam keeps squares of gradients:
        # one that overflows would stay for good.
        norm = get_total_norm(self.network.parameters() if own else self._gradients())
        value = float(loss)
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss became {value}")
        if not own and self._scaler.is_enabled() and self._scaler.get_scale() > 1:
            return value  # an overflow may be due to the scale: the scaler skips and lowers it
        if not math.isfinite(norm):
            what = "weights" if own else "gradients"
            raise FloatingPointError(f"the {what} became infinite or NaN")
        return value

    def apply(self) -> None:
        """The second half of a step: clip, update the weights, and go on in the schedule."""
        if self.recipe.training_step is None:
            if self.recipe.clip is not None:
                self._scaler.unscale_(self.optimizer)
                clip_grad_norm_(self.network.parameters(), self.recipe.clip)
            if not self._scaler.is_enabled() or self._gradients():
                self._scaler.step(self.optimizer)
                self._scaler.update()
        self._memory, self._before = self._next_memory, None
        if self._average is not None:
            self._average.update()
        self._advance()

    def undo(self) -> None:
        """Take `differentiate` back: the weights are as before, and there are no gradients."""
        self.network.zero_grad(set_to_none=True)
        self._next_memory = self._memory
        if self._before is not None:
            weights, optimizer = self._before
            with torch.no_grad():
                for name, tensor in self._state_of_network(copies=False).items():
                    if name in weights:  # inside a path, norms lay their statistics aside
                        tensor.copy_(weights[name])
            self.optimizer.load_state_dict(optimizer)
            self._before = None

    def skip(self) -> None:
        """`undo`, and go on in the schedule."""
        self.undo()
        self._advance()

    def finish(self) -> None:
        """After the last step: the network gets the averaged weights, if there is an average.

        What `compile` and `channels_last` changed about the network is changed back.
        """
        if self._average is not None:
            self._average.hand_over()
        if self.recipe.compile:
            vars(self.network).pop("forward", None)
            if self._forward is not None:
                self.network.forward = self._forward
        if self.recipe.channels_last:
            _arrange(self.network, torch.contiguous_format)

    def state(self) -> dict[str, Any]:
        """What `resume` needs beside the weights of the network: tensors and plain values."""
        state = {"done": self.done, "optimizer": self.optimizer.state_dict()}
        if self._scaler.is_enabled():
            state["scaler"] = self._scaler.state_dict()
        if self._average is not None:
            state["average"] = self._average.state()
        if self._memory is not None:
            state["memory"] = self._memory
        return state

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on, in a new object, where `state` was taken."""
        # Schedules are stepped again rather than loaded: theirs are not always plain values.
        while self.done < state["done"]:
            self._advance()
        rates = [group["lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        if self._schedule is not None:
            for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.resume(state["average"])
        self._memory = self._next_memory = state.get("memory")

    def _prepared(self, batch: Any) -> Any:
        batch = moved(batch, self._device, copies=True)
        if self.recipe.augment is not None:
            batch = self.recipe.augment(batch)
            if batch is None:
                raise TypeError("augment must return the batch, got None")
        if self.recipe.channels_last:
            batch = mapped(_channels_last, batch)
        return batch

    def _autocast(self) -> AbstractContextManager[object]:
        if self.recipe.precision == "float32":
            return nullcontext()
        dtype = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float16
        return torch.autocast(self._device.type, dtype)

    def _loss(self, batch: Any) -> Tensor:
        teacher = self.recipe.teacher
        if not isinstance(teacher, Teacher):
            return self._task.loss(self.network, batch)
        with taught(self.network, teacher, self._device) as losses:
            loss = self._task.loss(self.network, batch)
        if not losses:
            raise ValueError(
                "a teacher needs the outputs of the network, but the loss of "
                f"{type(self._task).__name__} does not call network(...)"
            )
        return (1 - teacher.weight) * loss + teacher.weight * sum(losses) / len(losses)

    def _own_step(self, batch: Any) -> Tensor:
        assert self.recipe.training_step is not None
        loss = self.recipe.training_step(self.network, batch, self.optimizer)
        if not isinstance(loss, Tensor | float | int) or torch.as_tensor(loss).numel() != 1:
            raise TypeError(f"training_step must return the loss, one number, got {loss!r}")
        return torch.as_tensor(loss).detach()

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.network.parameters() if p.grad is not None]

    def _state_of_network(self, *, copies: bool = True) -> dict[str, Tensor]:
        found = chain(self.network.named_parameters(), self.network.named_buffers())
        return {name: t.detach().clone() if copies else t.detach() for name, t in found}

    def _advance(self) -> None:
        self.done += 1
        if self._schedule is not None:
            self._schedule.step()


def _optimizer(recipe: Recipe, parameters: list[nn.Parameter]) -> Optimizer:
    make: Callable[..., Any] = recipe.optimizer
    if isinstance(make, type):
        _check_arguments(make)
        made = make(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    else:
        made = make(parameters)
    if not isinstance(made, Optimizer):
        raise TypeError(f"optimizer must make an optimizer of torch.optim, got {made!r}")
    return made


def _check_arguments(optimizer: type) -> None:
    taken = inspect.signature(optimizer).parameters
    missing = {"lr", "weight_decay"} - taken.keys()
    if missing and not any(p.kind is p.VAR_KEYWORD for p in taken.values()):
        raise TypeError(
            f"{optimizer.__name__} takes no {' and no '.join(sorted(missing))}, which a recipe "
            f"passes to a class; give a function, such as partial({optimizer.__name__}, ...)"
        )


def _schedule(recipe: Recipe, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    if recipe.schedule is None:
        return None
    made: Any = recipe.schedule(optimizer, steps)
    if isinstance(made, ReduceLROnPlateau) or not callable(getattr(made, "step", None)):
        raise TypeError(
            "schedule must make a scheduler whose step() takes no argument, from the optimizer and "
            f"the number of steps, got {type(made).__name__}"
        )
    # A step that is skipped is a step of the schedule; torch would warn if the first one is.
    vars(optimizer)["_opt_called"] = True
    schedule: LRScheduler = made
    return schedule


def _smoothed(task: Task, amount: float) -> Task:
    smoothed = getattr(task, "smoothed", None)
    if smoothed is None:
        raise ValueError(
            f"label_smoothing needs a task of classes, with a method smoothed(amount), got "
            f"{type(task).__name__}"
        )
    made: Task = smoothed(amount)
    return made


def _arrange(network: nn.Module, memory_format: torch.memory_format) -> None:
    network.to(memory_format=memory_format)  # type: ignore[call-overload]


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
