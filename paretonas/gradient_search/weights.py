"""The supernet's weights: trained on fairly drawn paths, then lent to any architecture."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from random import Random
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_structure

from ..arguments import moved, tensors
from ..forward import device_of, evaluating, held_generators, seeded
from ..nn import Supernet
from ..point import FAILING, Failure
from ..probe import Probe
from ..space import Architecture, fair_paths
from ..tasks.classification import Classification
from ..tasks.passes import batch_count, few, one_pass
from ..tasks.task import Task, sized
from ..training import Recipe, Updates
from .paths import Largest, Paths

FEW = 8  # examples on which every option is tried before anything else
SINGLE = Paths()
RECENT = 8  # paths, in which an option is tried first when it is to be found out what fails


class WeightTraining:
    """Training of a supernet that can stop after any step and go on bit for bit.

    A path that raises, or whose loss or gradients are not finite, changes nothing. If one of its
    options is to blame, that option is never taken again. Otherwise the path is never taken again.

    Args:
        supernet: trained in place.
        task: what is trained for.
        recipe: how; its epochs do not matter here, nor what it has for finalists only.
        steps: in all, which the schedule is fitted to.
        restarts: the steps at which the schedule begins anew (warm restarts, arXiv 1608.03983).
        seed: of the paths and of the order of the examples.
        paths: of one update; each path counts as a step.

    Attributes:
        steps: how many there will be; this number may change on the way.
        failures: the step, counted from 0, and what was set aside then: one pick, or a whole path.
    """

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        recipe: Recipe,
        *,
        steps: int,
        seed: int,
        restarts: Sequence[int] = (),
        paths: Paths = SINGLE,
    ) -> None:
        self.supernet, self.recipe, self.steps, self.seed = supernet, recipe, steps, seed
        self.task, self.paths = sized(task, recipe.batch_size), paths
        if paths.passes > 1 and (recipe.training_step or hasattr(task, "backward")):
            raise ValueError(
                f"{paths} trains several paths in an update, and a training step of your own, or a "
                "task that weighs several losses, has one: use fair"
            )
        self._restarts = tuple(restarts)
        self._cycle: tuple[int, int] | None = None  # the steps that the schedule is fitted to
        self.failures: list[tuple[int, Failure]] = []
        self._updates = Updates(
            supernet.network, self.task, _shared(recipe), math.ceil(steps / paths.passes)
        )
        self._largest = Largest(classes=isinstance(task, Classification))
        self._epoch = batch_count(self.task)
        self._held = held_generators(supernet)

    @property
    def done(self) -> int:
        """How many steps were taken, or skipped where a path failed."""
        return self._updates.done * self.paths.passes

    def run(self) -> Iterator[float]:
        """Do the steps that are left, yielding the loss of each; NaN where the path failed.

        Raises:
            FloatingPointError: whatever the path, the loss or its gradients are not finite.
            ValueError: a choice has no option left that runs.
            Exception: what the network raises, if it does so whatever the path; RuntimeError in the
                place of SystemExit.
        """
        choices, aside = self.supernet.choices, self.supernet.aside
        paths = fair_paths(choices, Random(f"weights {self.seed}"), aside)
        recent: deque[Architecture] = deque(maxlen=RECENT)
        for update in range(self._updates.done):
            recent.extend(self.paths.group(paths, self.supernet))
            self._set_aside(update)
        self.supernet.train()
        for batch in self._batches():
            if self.done >= self.steps:  # fewer than before
                break
            self._fit_schedule()
            update, group = self._updates.done, self.paths.group(paths, self.supernet)
            value = self._step(batch, group, recent)
            recent.extend(group)
            self._set_aside(update)
            yield value
        self._updates.finish()

    def _batches(self) -> Iterator[Any]:
        """The batches of the steps that are left."""
        # Everything random follows from the seed and the step, so nothing need be saved.
        while self.done < self.steps:
            epoch, place = divmod(self._updates.done, self._epoch)
            batches = one_pass(self.task, "train", seed=self.seed, epoch=epoch)
            before = self.done
            yield from islice(batches, place, None)
            if self.done == before:
                raise ValueError(
                    f"the training split ended after {place} batches, its length is {self._epoch}"
                )

    def _fit_schedule(self) -> None:
        """Fit the schedule to the part between two restarts that the next step belongs to."""
        first = max((step for step in self._restarts if step <= self.done), default=0)
        last = min((step for step in self._restarts if step > self.done), default=self.steps)
        # A budget in seconds changes the number of steps all the time, mostly by a little. No step
        # may lie after the end that the schedule was fitted to.
        cycle, slack = self._cycle, max(1, round(0.03 * (last - first)))
        if cycle is None or first != cycle[0]:
            self._cycle = (first, last)
        elif not last <= cycle[1] <= last + 2 * slack:
            self._cycle = (first, last + slack)
        if self._cycle != cycle:
            assert self._cycle is not None
            first, last = self._cycle
            passes = self.paths.passes
            self._updates.fit_schedule(first // passes, math.ceil(last / passes))

    def _step(
        self, batch: Any, group: Sequence[Architecture], recent: Sequence[Architecture]
    ) -> float:
        """Update the weights on paths; where one fails, only note what is to blame."""
        group = [self.supernet.canonical(path) for path in group]
        failed = {failure.architecture for _, failure in self.failures}
        if not failed.isdisjoint(group):
            self._updates.skip()
            return math.nan

        def attempt(architecture: Architecture) -> float:
            seed = self.seed * 1_000_003 + self._updates.done
            with seeded(seed, held=self._held), self.supernet.path(architecture):
                return self._updates.check(self._updates.differentiate(batch))

        kept = {name: buffer.detach().clone() for name, buffer in self.supernet.named_buffers()}

        def attempt_in_vain(architecture: Architecture) -> None:
            try:
                attempt(architecture)
            finally:
                self._updates.undo()
                for name, buffer in kept.items():
                    self.supernet.get_buffer(name).detach().copy_(buffer)

        values: list[float] = []
        sums = _Sums(self.supernet.network)
        for path in group:
            try:
                with self._taught(first=not values):
                    values.append(attempt(path))
            except FAILING as error:
                clear_frames(error.__traceback__)  # they hold what the path computed
                self._updates.undo()
                found = self._blame(attempt_in_vain, path, recent, error)
                self.failures += [(self._updates.done, failure) for failure in found]
                self._updates.skip()
                return math.nan
            if len(group) > 1:
                sums.add()
        if len(group) > 1:
            sums.put_mean(len(group))
        self._updates.apply()
        return sum(values) / len(values)

    @contextmanager
    def _taught(self, *, first: bool) -> Iterator[None]:
        """Inside, the first path of an update is recorded, and the others learn its outputs."""
        if not self.paths.distill:
            yield
            return
        before = self._updates.recipe
        if first:
            hook = self._largest.recording(self.supernet.network)
        else:
            self._largest.rewind()
            self._updates.recipe = replace(before, teacher=self._largest)
        try:
            yield
        finally:
            self._updates.recipe = before
            if first:
                hook.remove()

    def _blame(
        self,
        attempt: Callable[[Architecture], None],
        path: Architecture,
        recent: Sequence[Architecture],
        error: Exception | SystemExit,
    ) -> list[Failure]:
        """The options that are to blame for a path that failed, or the path."""
        seed = self.seed * 1_000_003 + self._updates.done
        probe = Probe(self.supernet, attempt, recent=recent, seed=seed)
        if next(probe.working(), None) is None:
            if isinstance(error, FloatingPointError):
                raise FloatingPointError(
                    f"whatever the path of the supernet, {error} at step {self.done + 1} (on "
                    f"{path}); a lower learning rate may help, it is "
                    f"{self._updates.learning_rate:g}, or clipping, as Recipe(clip=1.0) does"
                ) from error
            if isinstance(error, SystemExit):
                raise RuntimeError(Failure.of(path, error).reason) from error
            raise error
        return probe.blame(path) or [Failure.of(path, error)]

    def _set_aside(self, step: int) -> None:
        """Let the paths after a step go without the options that failed in it."""
        for when, failure in self.failures:
            if when == step and len(failure.architecture) == 1:
                ((choice, option),) = failure.architecture.items()
                self.supernet.set_aside(choice, option, failure.reason)

    def state(self) -> dict[str, Any]:
        """What `resume` needs: tensors and plain values."""
        return {
            **self._updates.state(),
            "supernet": self.supernet.state_dict(),
            "failures": [(step, dict(f.architecture), f.reason) for step, f in self.failures],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.supernet.load_state_dict(state["supernet"])
        self._updates.resume(state)
        self.failures = [
            (step, Failure(Architecture(picks), reason))
            for step, picks, reason in state.get("failures", [])  # older ones have none
        ]


class _Sums:
    """Adds up the gradients of several passes."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._sums: dict[nn.Parameter, Tensor] = {}

    def add(self) -> None:
        """Add the gradients that the parameters have now."""
        for parameter in self._network.parameters():
            if parameter.grad is not None:
                known = self._sums.get(parameter)
                self._sums[parameter] = parameter.grad if known is None else known + parameter.grad
                parameter.grad = None

    def put_mean(self, count: int) -> None:
        """The parameters get the mean over so many passes; one without any has none."""
        for parameter, total in self._sums.items():
            parameter.grad = total / count


@torch.no_grad()
def inherited_scores(
    supernet: Supernet, task: Task, architecture: Architecture
) -> Mapping[str, float]:
    """What a task evaluates to on the validation split, with the supernet's weights.

    Batch norms use the statistics of each batch; nothing is dropped out. The scores are always the
    same, whatever the network draws.
    """
    with evaluating(supernet), seeded(0, supernet), supernet.path(architecture) as network:
        return task.evaluate(network, "valid")


def _shared(recipe: Recipe) -> Recipe:
    """What a recipe says about the supernet, which is another network in each step."""
    return replace(recipe, compile=False, ema=None)


def trial(supernet: Supernet, task: Task, recipe: Recipe | None = None, *, seed: int) -> Probe:
    """A probe that runs each option on a few examples: trained, evaluated and extracted.

    The network that comes out must compute what the supernet does.

    Args:
        supernet: its weights stay as they are; buffers do not.
        task: what is trained for.
        recipe: how it will be trained; without a scaled loss here, which would hide overflows.
        seed: of what is drawn.
    """
    batch = moved(few(task, "train", FEW), device_of(supernet))
    how = _shared(recipe or Recipe())
    how = replace(how, precision="float32") if how.precision == "fp16" else how
    updates = Updates(supernet.network, task, how, 1)

    def attempt(architecture: Architecture) -> None:
        supernet.train()
        try:
            with seeded(seed, supernet), supernet.path(architecture):
                updates.check(updates.differentiate(batch))
        finally:
            updates.undo()
        with (
            evaluating(supernet),
            seeded(0, supernet),
            torch.no_grad(),
            supernet.path(architecture) as network,
        ):
            _finite(task.loss(network, moved(batch, device_of(supernet), copies=True)))
        refuse_another_function(supernet, task, batch, architecture, seed=seed)

    return Probe(supernet, attempt, seed=seed)


@torch.no_grad()
def refuse_another_function(
    supernet: Supernet, task: Task, batch: Any, architecture: Architecture, *, seed: int
) -> None:
    """Make sure that the network that comes out computes what the supernet does, but for rounding.

    Both run in the supernet's present mode. What is not repeatable cannot be compared.

    Raises:
        ValueError: it computes something else.
    """

    def run(network: nn.Module) -> list[Any]:
        """The outputs of the network, and the loss."""
        outputs: list[Any] = []
        hook = network.register_forward_hook(lambda _, __, output: outputs.append(output))
        try:
            with seeded(seed, network):
                outputs.append(task.loss(network, moved(batch, device_of(network), copies=True)))
        finally:
            hook.remove()
        return outputs

    network = supernet.extract(architecture)
    if len(held_generators(network)) != len(held_generators(supernet)):
        return  # they would not get the same seeds
    plain = run(network)
    with supernet.path(architecture) as whole:
        found = run(whole)
    if _alike(plain, found, supernet):
        return
    if not _equal(plain, run(supernet.extract(architecture))):
        return
    raise ValueError(
        "the network that comes out computes something else than its path of the supernet: a part "
        "reads a weight of an elastic layer around it, as in F.linear(x, self.layer.weight.t()), "
        "and finds all of it in the supernet, a piece of it in the network; give the part a "
        "parameter of its own, or call the layer"
    )


def _alike(one: Any, other: Any, network: nn.Module) -> bool:
    """Whether outputs of a network differ by no more than rounding, at the size of the largest."""
    if tree_structure(one) != tree_structure(other):
        return False
    pairs = [*zip(tensors(one), tensors(other), strict=True)]
    if any(a.shape != b.shape for a, b in pairs):
        return False
    types = {t.dtype for t in (*tensors(one), *network.parameters()) if t.is_floating_point()}
    coarsest = max((torch.finfo(dtype).eps for dtype in types), default=0.0)
    if any(tensor.is_cuda for tensor in tensors(one)):
        coarsest = max(coarsest, 2**-10)  # of TF32, which convolutions may use there
    tolerance = max(1e-3, 16 * coarsest)

    def close(a: Tensor, b: Tensor) -> bool:
        if not a.is_floating_point() or not a.numel():
            return bool(torch.equal(a, b)) or not a.is_floating_point()
        largest = float(torch.where(b.isfinite(), b, 0).abs().max())
        return torch.allclose(a, b, rtol=0, atol=tolerance * largest, equal_nan=True)

    return all(close(a, b) for a, b in pairs)


def _equal(one: Any, other: Any) -> bool:
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def _finite(loss: Tensor) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss became {value}")
    return value
