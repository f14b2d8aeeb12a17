"""Run a network on its example with some of its choices at their smallest, to see if it does."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...arguments import call, tensors
from ...forward import (
    copied,
    evaluating,
    handed,
    held_generators,
    running_paths,
    seeded,
)
from ..choices import Chooser, Depth
from ..elastic import Elastic

ROUNDING = {torch.float64: 1e-7, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}


@dataclass(frozen=True)
class TrialFailure:
    """A network does not run.

    Attributes:
        path: the innermost module whose forward fails.
        reason: the first line of what it says.
    """

    path: str
    reason: str

    def __str__(self) -> str:
        where = f"the forward of {self.path!r}" if self.path else "the network's own forward"
        return f"{where} fails at a smaller size ({self.reason})"


class Trials:
    """Runs of a network with choices, within a ``with``.

    Args:
        network: the network; all choices are at their largest.
        example: the arguments of a forward pass.
        expected: what the network gives, for the shapes.

    Attributes:
        choosers: the choices by name.
    """

    def __init__(self, network: nn.Module, example: Any, expected: Any) -> None:
        self.choosers = choosers(network)
        self._network, self._inputs = network, handed(network, example)
        self._expected = [t.shape for t in tensors(expected)]
        self._held = held_generators(network)
        self._running = [""]
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(evaluating(self._network))
        self._stack.enter_context(torch.no_grad())
        self._stack.enter_context(running_paths(self._network, self._running))
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def failure(self, smaller: Collection[Chooser]) -> TrialFailure | None:
        """Why the network does not run with these choices at smaller options; None if it does.

        A size of one may run only because it broadcasts, so that the next option is tried, too.
        """
        return self.failure_at(smaller, 0) or self.failure_at(smaller, 1)

    def failure_at(self, smallest: Collection[Chooser], pick: int) -> TrialFailure | None:
        """Why the network does not run with these choices at such an option; None if it does."""
        before = {chooser: chooser.gate for chooser in smallest}
        for chooser in smallest:
            chooser.gate = min(pick, len(chooser.option_names) - 1)
        self._running[:] = [""]
        try:
            with seeded(0, held=self._held):
                found = call(self._network, self._inputs)
        except Exception as error:  # of whatever kind: it is the user's code that runs
            return TrialFailure(self._running[-1], line(error))
        finally:
            for chooser, gate in before.items():
                chooser.gate = gate
        if [t.shape for t in tensors(found)] == self._expected:
            return None
        return TrialFailure("", "the output has another shape")

    def all_run(self) -> bool:
        """Whether the network runs with both of each two choices at their smallest, and with one.

        The choices are numbered; for each bit of the numbers, those with the bit and those without
        are tried, so that few runs tell each two apart.
        """
        every = list(self.choosers.values())
        sets = [{*every}]
        for bit in range(max(1, len(every) - 1).bit_length()):
            sets.append({chooser for i, chooser in enumerate(every) if i >> bit & 1})
            sets.append({*every} - sets[-1])
        if any(self.failure_at(chosen, 0) for chosen in sets if chosen):
            return False
        return not self.failure_at(every, 1)


def choosers(network: nn.Module) -> dict[str, Chooser]:
    """The choices of a converted network by their names, in the order of its modules."""
    found: dict[str, Chooser] = {}
    for module in network.modules():
        if isinstance(module, Depth):
            found[str(module.name)] = module
        if isinstance(module, Elastic):
            found |= {str(leaf.name): leaf for leaf in module.leaves}
    return found


def line(error: BaseException) -> str:
    """The first line of what an error says."""
    return f"{error}".strip().partition("\n")[0][:200] or type(error).__name__


def output(network: nn.Module, example: Any) -> Any:
    """What a network gives for an example, in evaluation mode."""
    with evaluating(network), seeded(0, network), torch.no_grad():
        return call(network, handed(network, example))


def exact_output(network: nn.Module, example: Any) -> Any:
    """The same in double precision, where its code can be run so."""
    try:
        return output(copied(network).double(), example)
    except Exception:  # of whatever kind: it is the user's code that runs
        return output(network, example)


def same(one: Any, other: Any) -> bool:
    """Whether two outputs are equal, to rounding."""
    outputs = tensors(one), tensors(other)
    if len(outputs[0]) != len(outputs[1]):
        return False
    return all(a.shape == b.shape and _near(a, b) for a, b in zip(*outputs, strict=True))


def _near(one: Tensor, other: Tensor) -> bool:
    if not other.is_floating_point() or not other.numel():
        return torch.equal(one, other)
    return bool((one - other).abs().max() <= ROUNDING[other.dtype] * other.abs().max())
