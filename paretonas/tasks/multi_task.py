"""Several heads with a loss each, weighed by a solver while the network trains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from ..data import Preprocessing
from ..metric import Metric
from ..multitask import backward
from ..multitask.parts import reached
from ..solvers import Solver
from ..solvers.named import named, solver_classes
from ..space import nearest
from .feeds import Target
from .supervised import Loss, Supervised, on_device
from .task import OutputError

if TYPE_CHECKING:
    from torch.amp import GradScaler

__all__ = ["Head", "MultiTask"]


@dataclass(frozen=True)
class Head:
    """What one output of a network is trained for.

    Attributes:
        loss: ``loss(output, target)`` of this head. They come as they are: where the output is
            (batch, 1) and the target (batch,), many losses of torch broadcast them with a warning.
        metric: of this head; its name differs from those of other heads.
    """

    loss: Loss
    metric: Metric


class MultiTask(Supervised):
    """Several heads, each with a loss and a metric; every metric is an objective.

    A solver resolves the conflict of the losses in each step, of the supernet and of the finalists:
    parameters that several losses reach get its direction, and a head gets the gradient of its own
    loss, as `paretonas.backward` says.

    >>> from torch.nn import functional
    >>> from paretonas.tasks import metrics
    >>> x, y = torch.randn(30, 4), {"kind": torch.arange(30) % 2, "size": torch.rand(30)}
    >>> task = MultiTask(
    ...     (x, y), (x, y), (x, y),
    ...     heads={
    ...         "kind": Head(functional.cross_entropy, metrics.error()),
    ...         "size": Head(lambda out, y: (out[:, 0] - y).square().mean(), metrics.rmse()),
    ...     },
    ...     solver="UPGrad",
    ... )
    >>> [metric.column for metric in task.metrics]
    ['error_percent', 'rmse']

    Args:
        train: the training examples; see `Supervised` for their forms. The targets are a dict with
            the names of the heads, or a tuple in their order; so are the outputs of the network.
        valid: the examples that decide in the search.
        test: the examples that are only reported.
        heads: the heads by name.
        solver: a solver of `paretonas.solvers`, or its name; None for the sum of the losses.
        target: the entries of dicts that are targets; see `Supervised`.
        example: what exported files take, a batch of one; see `Supervised`.
        preprocessing: how raw inputs become inputs of the network.
        batch_size: examples in a batch; by default that of the recipe.

    Raises:
        ValueError: there are fewer than two heads, two metrics have one name, or no solver that
            needs no arguments has this name.
        TypeError: a head or the solver is something else.
    """

    def __init__(
        self,
        train: Any,
        valid: Any,
        test: Any,
        *,
        heads: Mapping[str, Head],
        solver: Solver | str | None = None,
        target: Target = None,
        example: Any = None,
        preprocessing: Preprocessing | None = None,
        batch_size: int | None = None,
    ) -> None:
        if len(heads) < 2:
            raise ValueError(f"a MultiTask needs at least two heads, got {list(heads)}")
        for name, head in heads.items():
            if not isinstance(head, Head):
                raise TypeError(f"head {name!r} must be a Head(loss, metric), got {head!r}")
        self.heads, self.solver = dict(heads), _solver(solver)
        super().__init__(
            train,
            valid,
            test,
            loss=partial(_sum, self.heads),
            metric=[head.metric for head in self.heads.values()],
            target=target,
            example=example,
            preprocessing=preprocessing,
            batch_size=batch_size,
        )

    def to(self, device: torch.device | str) -> Self:
        """The same task, with examples that are in memory, and losses, on a device."""
        heads = {
            name: replace(head, loss=on_device(head.loss, device))
            for name, head in self.heads.items()
        }
        return super().to(device)._with(heads=heads, _loss=partial(_sum, heads))

    def losses(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """The loss of each head on a batch of (inputs, targets)."""
        inputs, targets = batch
        return _losses(self.heads, self.output(network, inputs), targets)

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        """The loss of each head, by the name of its metric."""
        losses = _losses(self.heads, output, target)
        return {f"{self.heads[name].metric.name}_loss": loss for name, loss in losses.items()}

    def seen_by(self, metric: Metric, output: Any, target: Any) -> tuple[Any, Any]:
        """The output and the target of the metric's head."""
        name = next(name for name, head in self.heads.items() if head.metric is metric)
        return _pair(self.heads, output, target, name)

    def backward(
        self,
        network: nn.Module,
        batch: Any,
        memory: Any = None,
        scaler: GradScaler | None = None,
    ) -> tuple[Tensor, Any]:
        """Compute the losses and leave the gradients of a step in the parameters.

        Args:
            network: with no gradients in its parameters.
            batch: (inputs, targets).
            memory: what the last step of this training returned; None in the first.
            scaler: of mixed precision; the gradients are then scaled.

        Returns:
            The sum of the losses, without a graph, and a memory of plain values and tensors.

        Raises:
            ValueError: the loss of a head depends on no parameter that is trained.
            TypeError: a loss is not one number.
        """
        named_losses = self.losses(network, batch)
        for name, loss in named_losses.items():
            if not loss.requires_grad:
                raise ValueError(
                    f"the loss of head {name!r} depends on nothing that is trained; if a batch has "
                    "no targets for a head, its loss is 0 * output.sum()"
                )
        losses = [*named_losses.values()]
        total = torch.stack([loss.detach() for loss in losses]).sum()
        parts = None if self.solver is None else _Parts.of(network, losses, memory)
        if self.solver is None or parts is None or not parts.meet:  # no conflict to resolve
            whole = torch.stack(losses).sum()
            (whole if scaler is None else scaler.scale(whole)).backward()
            return total, None if parts is None else parts.memory
        direction = backward(
            losses,
            parts.shared,
            heads=parts.heads,
            solver=self.solver,
            state=parts.memory["state"],
            scaler=scaler,
        )
        return total, {**parts.memory, "state": direction.state}


def _losses(heads: Mapping[str, Head], output: Any, targets: Any) -> dict[str, Tensor]:
    losses = {}
    for name, head in heads.items():
        loss = head.loss(*_pair(heads, output, targets, name))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = tuple(loss.shape) if isinstance(loss, Tensor) else type(loss).__name__
            raise TypeError(f"the loss of head {name!r} must be one number, a tensor, got {found}")
        losses[name] = loss.reshape(())
    return losses


def _sum(heads: Mapping[str, Head], output: Any, targets: Any) -> Tensor:
    return torch.stack([*_losses(heads, output, targets).values()]).sum()


def _pair(heads: Mapping[str, Head], output: Any, targets: Any, name: str) -> tuple[Any, Any]:
    """The output and the target of a head."""
    return _of(heads, output, name, "outputs"), _of(heads, targets, name, "targets")


def _of(heads: Mapping[str, Head], values: Any, name: str, what: str) -> Any:
    if isinstance(values, Mapping) and name in values:
        return values[name]
    if isinstance(values, list | tuple) and len(values) == len(heads):
        return values[[*heads].index(name)]
    found = type(values).__name__
    if isinstance(values, Mapping):
        found = f"a dict with {', '.join(map(str, values))}"
    elif isinstance(values, list | tuple):
        found += f" of {len(values)}"
    raise OutputError(
        f"the {what} must be a dict with the heads {', '.join(heads)}, or a tuple in this order, "
        f"got {found}"
    )


@dataclass(frozen=True, eq=False)
class _Parts:
    """Which parameters belong to which loss.

    Attributes:
        shared: the parameters of which the solver decides; the same ones in every step, so that
            the state of a solver fits, also where paths of a supernet reach different ones.
        heads: for each loss the parameters that only it has ever reached.
        meet: whether two losses reach a parameter now.
        memory: for the next step.
    """

    shared: Sequence[Tensor]
    heads: Sequence[Sequence[Tensor]]
    meet: bool
    memory: dict[str, Any]

    @classmethod
    def of(cls, network: nn.Module, losses: list[Tensor], memory: Any) -> _Parts:
        known = memory or {"owner": {}, "state": None}
        parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        names = {id(p): name for name, p in parameters.items()}
        owner: dict[str, int] = dict(known["owner"])  # -1: several losses
        times: Counter[str] = Counter()
        for index, loss in enumerate(losses):
            for name in {names[id(leaf)] for leaf in reached(loss) if id(leaf) in names}:
                times[name] += 1
                if owner.setdefault(name, index) != index:
                    owner[name] = -1
        meet = max(times.values(), default=0) > 1
        heads = [
            [p for name, p in parameters.items() if owner.get(name) == index]
            for index in range(len(losses))
        ]
        shared, before = (
            [name for name in parameters if by.get(name, -1) == -1]
            for by in (owner, known["owner"])
        )
        # The state of a solver is about its shared parameters: others begin a new one.
        memory = {"owner": owner, "state": known["state"] if shared == before else None}
        return cls([parameters[name] for name in shared], heads, meet, memory)


def _solver(solver: object) -> Solver | None:
    if solver is None:
        return None
    if isinstance(solver, str):
        known = solver_classes()
        found = named(solver, known)
        if found is None:
            raise ValueError(f"no solver is called {solver!r}{nearest(solver, list(known))}")
        return found
    if isinstance(solver, type) or not isinstance(solver, Solver):
        raise TypeError(
            f"the solver must be an object, such as UPGrad(), or a name, got {solver!r}"
        )
    return solver
