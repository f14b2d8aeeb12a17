"""Tasks made of examples, a loss and a metric."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from .._whole import whole
from ..arguments import call, count, mapped, moved, tensors
from ..data import Preprocessing
from ..forward import copied, device_of, evaluating, handed
from ..metric import Metric
from ..point import FAILING
from .feeds import Target, feed_of, tensor_of
from .task import OutputError, SplitName, number_of

__all__ = ["Supervised"]

Loss = Callable[..., Tensor]
LARGEST = 1000  # examples in a batch of an evaluation
NUMBERS = 2**24  # input numbers in such a batch, so that large images fit into memory


class Supervised:
    """A task made of examples in three splits, a loss and a metric.

    >>> x, y = torch.randn(90, 4), torch.randn(90, 1)
    >>> task = Supervised(
    ...     *[(x[i::3], y[i::3]) for i in range(3)],
    ...     loss=nn.functional.mse_loss,
    ...     metric=Metric("mae", lambda output, target: (output - target).abs().mean()),
    ... )
    >>> sorted(task.evaluate(nn.Linear(4, 1), "valid"))
    ['loss', 'mae']

    Args:
        train: the examples that weights are trained on. ``(inputs, targets)`` of tensors or numpy
            arrays, also memory-mapped ones, or of nests of them; a `torch.utils.data.Dataset` whose
            items are such pairs; or a `torch.utils.data.DataLoader`, which keeps its batch size,
            its ``collate_fn`` and its workers. Items or batches that are dicts need a `target`.
        valid: the examples that decide in the search, in any of these forms.
        test: the examples that are only reported.
        loss: ``loss(output, target)``, a scalar, the mean over the batch.
        metric: what the search improves; several metrics are several objectives, the main one
            first.
        reported: more metrics, which are only reported.
        target: the entries of dicts that are targets: one name, or several, which become a dict.
            Of the other entries, one is the input of the network, several are its keyword
            arguments.
        example: the inputs of one forward pass, a batch of one: exported files take inputs of this
            size, and latency is measured with it. By default the first training example.
        preprocessing: how raw inputs become inputs of the network. Integer inputs, such as uint8
            images, are raw, and it is applied to them here. Floating inputs are prepared already.
        batch_size: examples in a batch, where no `DataLoader` decides; by default that of the
            recipe.

    Attributes:
        metric: the main metric.
        metrics: all metrics that are objectives.

    Raises:
        ValueError: the examples of a split do not fit together, a value is not finite, two
            metrics have one name, or the example is no batch of one.
        KeyError: dicts lack a target.
        TypeError: the examples have another form.
    """

    def __init__(
        self,
        train: Any,
        valid: Any,
        test: Any,
        *,
        loss: Loss,
        metric: Metric | Sequence[Metric],
        reported: Sequence[Metric] = (),
        target: Target = None,
        example: Any = None,
        preprocessing: Preprocessing | None = None,
        batch_size: int | None = None,
    ) -> None:
        self.metrics = (metric,) if isinstance(metric, Metric) else tuple(metric)
        self.reported = tuple(reported)
        _check_metrics([*self.metrics, *self.reported], self.metrics)
        if batch_size is not None:
            batch_size = whole("batch_size", batch_size, 1)
        self.preprocessing, self.batch_size = preprocessing, batch_size
        self._sizes: dict[SplitName, int] = {}  # numbers of an example, once they are known
        self._loss = loss
        given: dict[SplitName, Any] = {"train": train, "valid": valid, "test": test}
        self._feeds = {name: feed_of(each, name, target) for name, each in given.items()}
        self._example = None if example is None else _one(example)

    def __repr__(self) -> str:
        sizes = ", ".join(
            name if feed.examples() is None else f"{name} {feed.examples()}"
            for name, feed in self._feeds.items()
        )
        metrics = ", ".join(metric.column for metric in self.metrics)
        return f"{type(self).__name__}({sizes} examples, {metrics})"

    @property
    def metric(self) -> Metric:
        """The main metric."""
        return self.metrics[0]

    def example(self) -> Any:
        """The inputs of the first training example, or the example given; a batch of one."""
        if self._example is None:
            return self.few("train", 1)[0]
        return self.prepared(mapped(torch.clone, self._example))

    def few(self, split: SplitName, examples: int) -> tuple[Any, Any]:
        """The first examples of a split, as one batch; their inputs are prepared."""
        inputs, targets = self._feeds[split].first(examples)
        return self.prepared(inputs), targets

    def examples(self, split: SplitName) -> int | None:
        """The number of examples of a split; None if it is not known before a pass."""
        return self._feeds[split].examples()

    @property
    def training_batch(self) -> int | None:
        """The number of examples in a training batch; None if a `DataLoader` does not tell it."""
        feed = self._feeds["train"]
        return feed.size if feed.fixed else self.batch_size

    def targets(self, split: SplitName) -> Iterator[Any]:
        """The targets of a split, in parts; inputs in memory are not touched for them."""
        held = self._feeds[split].targets
        if held is not None:
            yield held
            return
        for _, targets in self.batches(split):
            yield targets

    def batches(self, split: SplitName, *, seed: int = 0, epoch: int = 0) -> Iterable[Any]:
        """One pass over a split, in batches of (inputs, targets).

        Training examples come in a new order in each epoch; others keep their order, and their
        batches are larger.
        """
        feed = self._feeds[split]
        if split == "train":
            return feed.batches(self.batch_size or 64, seed=seed, epoch=epoch)
        if feed.fixed:
            return feed.batches(1, seed=0, epoch=None)
        if split not in self._sizes:
            self._sizes[split] = self.numbers(feed.first(1))
        size = max(self.batch_size or 1, min(LARGEST, NUMBERS // max(1, self._sizes[split])))
        return feed.batches(size, seed=0, epoch=None)

    def loss(self, network: nn.Module, batch: Any) -> Tensor:
        """The loss of a batch of (inputs, targets).

        Raises:
            TypeError: the loss is not a scalar tensor.
        """
        inputs, targets = batch
        output = self.output(network, inputs)
        loss = self.criterion(output, targets)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"the loss of a batch must be one number, a tensor, got {found}")
        return loss.reshape(())

    def output(self, network: nn.Module, inputs: Any) -> Any:
        """What a network gives for inputs, which are prepared first.

        Raises:
            OutputError: the inputs are integers, and the network takes them only as floats.
        """
        prepared = self.prepared(inputs)
        try:
            return call(network, handed(network, prepared))
        except RuntimeError as error:
            raw = [t.dtype for t in tensors(prepared) if _whole_numbers(t)]
            if raw and _runs(network, mapped(_as_float, prepared)):
                kind = str(raw[0]).removeprefix("torch.")
                raise OutputError(
                    f"the inputs are {kind}, which the network does not take: give the task "
                    "preprocessing=Preprocessing('pixels from 0 to 255', 1 / 255), or inputs of a "
                    "floating type"
                ) from error
            raise

    def criterion(self, output: Any, target: Any) -> Tensor:
        """The loss of outputs in training, where it may differ from that of an evaluation."""
        return self._loss(output, target)

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        """The losses of outputs in an evaluation, by name; their sum is the loss."""
        return {"loss": self._loss(output, target)}

    def seen_by(self, metric: Metric, output: Any, target: Any) -> tuple[Any, Any]:
        """The part of outputs and targets that a metric is of."""
        return output, target

    def evaluate(self, network: nn.Module, split: SplitName) -> dict[str, float]:
        """The mean loss and all metrics of a network in evaluation mode, by column."""
        return self.evaluate_on(network, self.batches(split))

    @torch.no_grad()
    def evaluate_on(self, network: nn.Module, batches: Iterable[Any]) -> dict[str, float]:
        """The mean loss and all metrics on some batches, by column.

        Raises:
            Exception: what a metric raises, with a note that names it.
        """
        metrics = [*self.metrics, *self.reported]
        terms: dict[str, list[Tensor]] = {}  # of each batch; read at the end, once
        sizes: list[int] = []
        device = device_of(network)
        seen = [metric.begin(device) for metric in metrics]
        with evaluating(network):
            for batch in batches:
                inputs, targets = moved(batch, device)
                output = self.output(network, inputs)
                sizes.append(count(inputs))
                for name, loss in self.terms(output, targets).items():
                    number = torch.as_tensor(loss, dtype=torch.float64, device=device)
                    terms.setdefault(name, []).append(number.reshape(()))
                for metric, one in zip(metrics, seen, strict=True):
                    with _named(metric):
                        one.update(*self.seen_by(metric, output, targets))
        values = {}
        for metric, one in zip(metrics, seen, strict=True):
            with _named(metric):
                values[metric.column] = number_of(metric.name, one.compute())
        examples = sum(sizes)
        totals = {name: _total(torch.stack(each), sizes) for name, each in terms.items()}
        losses = {name: total / examples for name, total in totals.items()}
        return {"loss": sum(totals.values()) / examples, **losses, **values}

    def numbers(self, example: tuple[Any, Any]) -> int:
        """The numbers of one example, by which evaluations are cut into batches."""
        return sum(t.numel() for t in tensors(example[0]))

    def prepared(self, inputs: Any) -> Any:
        """Inputs of the network: raw integers are prepared, if the task says how."""
        how = self.preprocessing
        if how is None or how.changes_nothing:
            return inputs
        return mapped(lambda t: how.prepare(t) if _whole_numbers(t) else t, inputs)

    def sized(self, batch_size: int) -> Self:
        """The same task with this batch size, unless it has one of its own."""
        return self if self.batch_size is not None else self._with(batch_size=batch_size)

    def to(self, device: torch.device | str) -> Self:
        """The same task, with examples that are in memory, and its loss, on a device."""
        feeds = {name: feed.to(device) for name, feed in self._feeds.items()}
        example, loss = moved(self._example, device), on_device(self._loss, device)
        return self._with(_feeds=feeds, _example=example, _loss=loss)

    def _with(self, **changes: object) -> Self:
        other = copy.copy(self)
        other.__dict__.update(changes)
        return other


def _total(means: Tensor, sizes: Sequence[int]) -> float:
    total = 0.0
    for mean, size in zip(means.tolist(), sizes, strict=True):
        total += mean * size
    return total


def on_device(loss: Any, device: torch.device | str) -> Any:
    """A loss with its tensors, such as the weights of classes, on a device.

    They are looked for in modules, and in what a `functools.partial` holds. A module is copied,
    also where nothing moves: it may have a state, and that of the user's own does not change.
    """
    if isinstance(loss, nn.Module):
        return copied(loss).to(device)
    if isinstance(loss, partial):
        args = [on_device(value, device) for value in loss.args]
        named = {name: on_device(value, device) for name, value in loss.keywords.items()}
        return partial(on_device(loss.func, device), *args, **named)
    return loss.to(device) if isinstance(loss, Tensor) else loss


@contextmanager
def _named(metric: Metric) -> Iterator[None]:
    """Name the metric in what it raises."""
    try:
        yield
    except Exception as error:
        error.add_note(f"(in the metric {metric.name!r})")
        raise


def _as_float(tensor: Tensor) -> Tensor:
    return tensor.float() if _whole_numbers(tensor) else tensor


@torch.no_grad()
def _runs(network: nn.Module, inputs: Any) -> bool:
    """Whether a network takes these inputs."""
    try:
        call(network, handed(network, inputs))
    except FAILING:
        return False
    return True


def _whole_numbers(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


def _one(example: Any) -> Any:
    """An example of the user's, with tensors in the place of arrays.

    Raises:
        ValueError: it is no batch of one.
    """
    whole = tree_map(lambda v: tensor_of(v) if isinstance(v, np.ndarray) else v, example)
    if (found := count(whole)) != 1:
        raise ValueError(f"the example must be a batch of one, got {found} rows")
    return whole


def _check_metrics(every: Sequence[Metric], objectives: Sequence[Metric]) -> None:
    for metric in every:
        if not isinstance(metric, Metric):
            raise TypeError(f"a metric must be a paretonas.Metric, got {metric!r}")
        if metric.function is None:
            raise ValueError(f"the metric {metric.name!r} needs a function to compute it")
    names = [metric.name for metric in every]
    if len(set(names)) < len(names) or not objectives:
        raise ValueError(
            f"a task needs at least one metric, each with a name of its own, got {names}"
        )
