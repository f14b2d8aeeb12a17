"""The supernet's weights: trained on fairly drawn single paths, then lent to any architecture."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from random import Random
from traceback import clear_frames
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import get_total_norm

from ..data import Split
from ..forward import evaluating, handed, held_generators, seeded
from ..nn import BatchNorm1d, BatchNorm2d, Supernet
from ..point import FAILING, Failure
from ..probe import Probe
from ..space import Architecture, fair_paths
from ..training import Recipe, warmup_cosine_factor

FEW = 8  # examples on which every option is tried before anything else
RECENT = 8  # paths, in which an option is tried first when it is to be found out what fails


class WeightTraining:
    """Training of a supernet that can stop after any step and go on bit for bit.

    A path that raises, or whose loss or gradients are not finite, changes nothing. If one of its
    options is to blame, that option is never taken again. Otherwise the path is never taken again.

    Args:
        supernet: trained in place.
        split: the training examples.
        recipe: batch size, learning rate and weight decay; its epochs do not matter here.
        steps: in all, which the learning rate's decay is fitted to.
        seed: of the paths and of the order of the examples.

    Attributes:
        done: how many steps were taken.
        failures: the step, counted from 0, and what was set aside then: one pick, or a whole path.
    """

    def __init__(
        self, supernet: Supernet, split: Split, recipe: Recipe, *, steps: int, seed: int
    ) -> None:
        self.supernet, self.split, self.recipe = supernet, split, recipe
        self.steps, self.seed, self.done = steps, seed, 0
        self.failures: list[tuple[int, Failure]] = []
        self._optimizer = torch.optim.AdamW(
            supernet.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self._epoch = math.ceil(len(split) / recipe.batch_size)
        self._held = held_generators(supernet)

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
        for step in range(self.done):
            recent.append(next(paths))
            self._set_aside(step)
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
            path = next(paths)
            value = self._step(self.split.inputs[rows], self.split.labels[rows], path, recent)
            recent.append(path)
            self._set_aside(self.done)
            self.done += 1
            yield value

    def _step(
        self, inputs: Tensor, labels: Tensor, path: Architecture, recent: Sequence[Architecture]
    ) -> float:
        """Update the weights on a path; where it fails, only note what is to blame."""
        same = self.supernet.canonical(path)
        if any(failure.architecture == same for _, failure in self.failures):
            return math.nan

        def attempt(architecture: Architecture) -> float:
            with seeded(self.seed * 1_000_003 + self.done, held=self._held):  # for dropout
                return differentiate(self.supernet, inputs, labels, architecture)

        kept = {name: buffer.detach().clone() for name, buffer in self.supernet.named_buffers()}

        def attempt_in_vain(architecture: Architecture) -> None:
            try:
                attempt(architecture)
            finally:
                for name, buffer in kept.items():
                    self.supernet.get_buffer(name).detach().copy_(buffer)

        try:
            value = attempt(path)
        except FAILING as error:
            clear_frames(error.__traceback__)  # they hold what the path computed: memory may lack
            found = self._blame(attempt_in_vain, same, recent, error)
            self.failures += [(self.done, failure) for failure in found]
            self._optimizer.zero_grad(set_to_none=True)
            return math.nan
        self._optimizer.step()
        return value

    def _blame(
        self,
        attempt: Callable[[Architecture], None],
        path: Architecture,
        recent: Sequence[Architecture],
        error: Exception | SystemExit,
    ) -> list[Failure]:
        """The options that are to blame for a path that failed, or the path."""
        seed = self.seed * 1_000_003 + self.done
        probe = Probe(self.supernet, attempt, recent=recent, seed=seed)
        if next(probe.working(), None) is None:
            if isinstance(error, FloatingPointError):
                raise FloatingPointError(
                    f"whatever the path of the supernet, {error} at step {self.done + 1}; a lower "
                    f"learning rate may help, it is {self.recipe.learning_rate:g}"
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
            "done": self.done,
            "supernet": self.supernet.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "failures": [(step, dict(f.architecture), f.reason) for step, f in self.failures],
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.done = state["done"]
        self.supernet.load_state_dict(state["supernet"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.failures = [
            (step, Failure(Architecture(picks), reason))
            for step, picks, reason in state.get("failures", [])  # older ones have none
        ]


@torch.no_grad()
def inherited_loss(supernet: Supernet, split: Split, architecture: Architecture) -> float:
    """The mean cross-entropy of an architecture on a split, with the supernet's weights.

    Batch norms use the statistics of the split, in one batch of all its examples; nothing is
    dropped out. The loss is always the same, whatever the network draws.

    Raises:
        FloatingPointError: it is NaN or infinite.
    """
    with evaluating(supernet), seeded(0, supernet):
        logits = supernet(handed(supernet, split.inputs), architecture)
    return _finite(functional.cross_entropy(logits, split.labels))


def differentiate(
    supernet: Supernet, inputs: Tensor, labels: Tensor, architecture: Architecture
) -> float:
    """The mean cross-entropy of an architecture; its gradients are left in the parameters.

    Raises:
        FloatingPointError: the loss or a gradient is NaN, infinite, or too large to be squared.
    """
    loss = functional.cross_entropy(supernet(handed(supernet, inputs), architecture), labels)
    supernet.zero_grad(set_to_none=True)
    value = _finite(loss.detach())
    loss.backward()
    # Adam keeps squares: one that overflows would stay for good.
    norm = get_total_norm(p.grad for p in supernet.parameters() if p.grad is not None)
    if not math.isfinite(float(norm)):
        raise FloatingPointError("the gradients became infinite or NaN")
    return value


def trial(supernet: Supernet, split: Split, *, seed: int) -> Probe:
    """A probe that runs each option on a few examples: trained, evaluated and extracted.

    The network that comes out must compute what the supernet does.

    Args:
        supernet: its weights stay as they are; gradients and buffers do not.
        split: the training examples.
        seed: of what is drawn.
    """
    few = Split(split.inputs[:FEW], split.labels[:FEW])

    def attempt(architecture: Architecture) -> None:
        supernet.train()
        with seeded(seed, supernet):
            differentiate(supernet, few.inputs, few.labels, architecture)
        inherited_loss(supernet, few, architecture)
        refuse_another_function(supernet, few.inputs, architecture, seed=seed)

    return Probe(supernet, attempt, seed=seed)


@torch.no_grad()
def refuse_another_function(
    supernet: Supernet, inputs: Tensor, architecture: Architecture, *, seed: int
) -> None:
    """Make sure that the network that comes out computes what the supernet does, but for rounding.

    Both run in the supernet's present mode. What is not repeatable cannot be compared, nor can an
    elastic batch norm that rests in evaluation mode: its plain layer has statistics of its own.

    Raises:
        ValueError: it computes something else.
    """
    if any(isinstance(m, BatchNorm1d | BatchNorm2d) and not m.training for m in supernet.modules()):
        return

    def run(network: nn.Module, *gates: Architecture) -> Tensor:
        with seeded(seed, network):
            output: Tensor = network(handed(network, inputs), *gates)
        return output

    network = supernet.extract(architecture)
    if len(held_generators(network)) != len(held_generators(supernet)):
        return  # they would not get the same seeds
    plain = run(network)
    if _alike(plain, run(supernet, architecture), supernet):
        return
    if not torch.equal(plain, run(supernet.extract(architecture))):
        return
    raise ValueError(
        "the network that comes out computes something else than its path of the supernet: a part "
        "reads a weight of an elastic layer around it, as in F.linear(x, self.layer.weight.t()), "
        "and finds all of it in the supernet, a piece of it in the network; give the part a "
        "parameter of its own, or call the layer"
    )


def _alike(one: Tensor, other: Tensor, network: nn.Module) -> bool:
    """Whether outputs of a network differ by no more than rounding, at the size of the largest."""
    if one.shape != other.shape:
        return False
    types = {t.dtype for t in (one, *network.parameters()) if t.is_floating_point()}
    coarsest = max(torch.finfo(dtype).eps for dtype in types)
    if one.is_cuda:
        coarsest = max(coarsest, 2**-10)  # of TF32, which convolutions may use there
    tolerance = max(1e-3, 16 * coarsest)
    largest = float(torch.where(other.isfinite(), other, 0).abs().max())
    return torch.allclose(one, other, rtol=0, atol=tolerance * largest, equal_nan=True)


def _finite(loss: Tensor) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise FloatingPointError(f"the loss became {value}")
    return value
