"""Solve in the metric of the optimizer's step, so that this step keeps the guarantee."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from paretonas.gradients.kind import check_kind
from paretonas.solvers._wrapper import Wrapper, check_inner
from paretonas.solvers.base import Answer, WeightingSolver
from paretonas.solvers.problem import GradientProblem, PerRay, Sum, Weights


@dataclass(frozen=True, eq=False)
class Preconditioned(Wrapper):
    """Let a solver resolve the conflict in the metric of the optimizer (a preconditioner).

    An optimizer such as Adam divides each entry of the vector by P = sqrt(v) + eps, and so turns
    it: J vector >= 0 does not imply J P^-1 vector >= 0, the change that the step makes. This
    wrapper gives the inner solver the inner products J P^-1 J' of the metric, and returns
    weights @ J. The optimizer divides that by P, which gives the step that the inner solver found.

    Guarantee: a step -lr P^-1 vector conflicts with no objective, to first order, if the inner
    solver is non-conflicting. This is the step of Adam if P is Adam's divisor *and* Adam has no
    momentum (betas[0] = 0). The P that is read before the step lacks the part (1 - betas[1]) of the
    new gradient's own square. So the guarantee is exact only in the limit of slow change, and does
    not hold in the first steps, where Adam follows signs. With momentum, old directions are part of
    the step. ``experiments/conflict/adam_and_surgery.py`` measures all of this. Weight decay is not
    covered.

    Attributes:
        inner: the inner solver.
        divisor: P, (n,) and positive, in the order of the jacobian's columns; or a function that
            returns the current P, such as ``lambda: divisor_of(optimizer, parameters)``.

    The certificate is about the metric. Its cosines are a' P^-1 b / (|a| |b|), with lengths in the
    metric too; they have the signs of the changes that the step makes. If one is 0 up to rounding,
    the plain cosine between gradient and step can be larger by up to sqrt(max P / min P). The inner
    solver's guarantees about length are about the length in the metric. It needs the gradients
    themselves, not only their Gram matrix.

    Raises:
        TypeError: inner does not weigh rows, or the divisor is neither a tensor nor a function.
        ValueError: on a call, the divisor does not have n positive, finite entries.

    >>> import torch
    >>> from paretonas.solvers import UPGrad
    >>> J = torch.tensor([[1.0, 1.0], [0.0, -1.0]])
    >>> divisor = torch.tensor([1.0, 0.1])
    >>> J @ (UPGrad()(J).vector / divisor)  # the optimizer makes the first objective worse
    tensor([-1.7500,  2.5000])
    >>> J @ (Preconditioned(UPGrad(), divisor)(J).vector / divisor)
    tensor([0.5000, 0.4545])
    """

    inner: WeightingSolver
    divisor: Float[Tensor, " n"] | Callable[[], Float[Tensor, " n"]]

    def __post_init__(self) -> None:
        """Check the settings."""
        check_inner(self.inner)
        if not callable(self.divisor):
            check_kind("divisor", self.divisor)

    @property
    def non_conflicting(self) -> bool:  # type: ignore[override]
        """Whether the inner solver is non-conflicting; here this holds in the metric."""
        return self.inner.non_conflicting

    @property
    def needs_gradients(self) -> bool:  # type: ignore[override]
        """Whether the inner solver needs gradients; else the metric has no effect."""
        return self.inner.needs_gradients

    def due(self, state: object) -> bool:
        """Whether the next call of the inner solver needs gradients."""
        return self.inner.due(state)

    def longest(self, problem: GradientProblem) -> PerRay:
        """Return the longest direction of the inner solver, in the metric."""
        return self.inner.longest(problem.with_metric(self._metric(problem.n)))

    def rescale(self, problem: GradientProblem | Sum, weights: Weights, limit: PerRay) -> PerRay:
        """Let the inner solver rescale in the metric."""
        if self.inner.needs_gradients:
            problem = problem.with_metric(self._metric(problem.n))
        return self.inner.rescale(problem, weights, limit)

    def weigh(self, problem: GradientProblem, state: object) -> Answer:
        """Solve in the metric."""
        if not self.inner.due(state):
            return self.inner.weigh(problem, state)
        metric = problem.with_metric(self._metric(problem.n))
        answer = self.inner.weigh(metric, state)
        return answer if answer.problem is not None else answer._replace(problem=metric)

    def _metric(self, n: int) -> Float[Tensor, " n"]:
        divisor = self.divisor if isinstance(self.divisor, Tensor) else self.divisor()
        check_kind("divisor", divisor)
        if divisor.shape != (n,) or not bool((divisor.isfinite() & (divisor > 0)).all()):
            raise ValueError(
                f"divisor must have shape (n,) = ({n},) with positive, finite "
                f"entries, got shape {tuple(divisor.shape)}"
            )
        return 1.0 / divisor.detach().double()


def divisor_of(optimizer: Optimizer, parameters: Iterable[Tensor]) -> Float[Tensor, " n"]:
    """The divisor of each gradient entry in an optimizer's step.

    Args:
        optimizer: Adam, AdamW (amsgrad or not), RMSprop (centered or not), or SGD, which divides
            by 1.
        parameters: the parameters of the jacobian, in the order of its columns.

    Parameters without a state (before a step, or without a gradient) get the mean over the others;
    if no parameter has a state, all entries are 1, which is the plain metric.

    Raises:
        TypeError: the optimizer is of another kind, whose divisor is not known.
        ValueError: the optimizer does not have one of the parameters.

    References:
        Kingma and Ba, Adam (2015), arXiv 1412.6980.

    >>> import torch
    >>> x = torch.nn.Parameter(torch.ones(2))
    >>> optimizer = torch.optim.Adam([x])
    >>> x.grad = torch.tensor([3.0, -4.0])
    >>> optimizer.step()
    >>> divisor_of(optimizer, [x])
    tensor([3.0000, 4.0000])
    """
    groups = {parameter: group for group in optimizer.param_groups for parameter in group["params"]}
    known: list[Tensor | None] = []
    wanted = list(parameters)
    for k, parameter in enumerate(wanted):
        if parameter not in groups:
            raise ValueError(f"parameters[{k}] is not among those of the optimizer")
        state = optimizer.state.get(parameter, {})
        known.append(_divisor(optimizer, groups[parameter], state))
    seen = [entry for entry in known if entry is not None]
    count = sum(entry.numel() for entry in seen)
    mean = sum(float(entry.sum()) for entry in seen) / count if count else 1.0
    filled = [
        parameter.detach().new_full((parameter.numel(),), mean)
        if entry is None
        else entry.flatten()
        for parameter, entry in zip(wanted, known, strict=True)
    ]
    return torch.cat(filled)


def _divisor(optimizer: Optimizer, group: dict[str, Any], state: dict[str, Any]) -> Tensor | None:
    if isinstance(optimizer, SGD):
        return None
    if isinstance(optimizer, Adam | AdamW):
        if "exp_avg_sq" not in state:
            return None
        square = state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        square = square / (1 - group["betas"][1] ** float(state["step"]))
    elif isinstance(optimizer, RMSprop):
        if "square_avg" not in state:
            return None
        square = state["square_avg"]
        if group["centered"]:
            square = (square - state["grad_avg"].square()).clamp_min(0.0)
    else:
        raise TypeError(
            "optimizer must be Adam, AdamW, RMSprop or SGD, whose divisor is known, "
            f"got {type(optimizer).__name__}"
        )
    divisor: Tensor = square.sqrt() + group["eps"]
    return divisor
