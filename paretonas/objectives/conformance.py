"""What every objective promises, as a check that other people's objectives can run too."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from random import Random

import torch
from torch import Tensor

from paretonas._promises import demand, naming
from paretonas.relaxation import one_hot_picks, sizes_of
from paretonas.space import Architecture, SearchSpace, draw, encode, every, size

from .base import DifferentiableObjective, Objective, maximizes

__all__ = ["check_objective"]

CLOSE = {torch.float64: 1e-9, torch.float32: 1e-4}  # relative, to the largest cost


def check_objective(
    objective: Objective, space: SearchSpace, *, architectures: int = 64, seed: int = 0
) -> None:
    """Check that an objective keeps its promises on a space.

    Its column is a name, and ``maximize``, if there is one, is True or False. `exact` gives a
    finite number, the same one when it is asked again. It may raise for an architecture that cannot
    be evaluated, but not for all. An objective with a gradient has a name and a unit, its column is
    made of them, and `relaxed` equals `exact` where every distribution is one-hot; it takes one
    distribution or batches of them, in float32 and in float64, treats each alone, and has a finite
    gradient.

    Args:
        objective: an object, not its class.
        space: what it is an objective of.
        architectures: how many are tried: all of a space that has no more, otherwise random ones.
        seed: of the random ones.

    Raises:
        AssertionError: a promise is broken; the message says which, and on which architecture.

    >>> from paretonas import Choice
    >>> from paretonas.objectives import measured
    >>> class Space:
    ...     name = "small"
    ...     choices = (Choice("width", ("8", "16")),)
    >>> (cost,) = measured(lambda picks: {"cost": int(picks["width"])}, ["cost"])
    >>> check_objective(cost, Space())
    """
    if isinstance(objective, type):
        raise AssertionError(f"must be an object, got the class {objective.__name__}")
    if not isinstance(objective, Objective):
        raise AssertionError(f"must have a column and exact(architecture), got {objective!r}")
    if size(space.choices) <= architectures:
        tried = list(every(space.choices))
    else:
        rng = Random(seed)
        tried = list({draw(space.choices, rng): None for _ in range(architectures)})
    check = _Check(objective, space)
    check.has_a_column()
    costs = check.is_exact(tried)
    if hasattr(objective, "relaxed"):
        check.has_a_name_and_a_unit()
        for dtype in CLOSE:
            check.agrees_at_one_hot_rows(costs, dtype)
            check.takes_batches_and_has_a_gradient(dtype)


@dataclass(frozen=True)
class _Check:
    objective: Objective
    space: SearchSpace

    def has_a_column(self) -> None:
        column = self.objective.column
        named = isinstance(column, str) and column == column.strip() and bool(column)
        demand(named, f"column must be a name such as 'latency_ms', got {column!r}")
        with naming("maximize"):
            maximizes(self.objective)

    def is_exact(self, tried: list[Architecture]) -> dict[Architecture, float]:
        """The costs of those that have one."""
        costs: dict[Architecture, float] = {}
        last = ""
        for architecture in tried:
            picks = dict(architecture)
            try:
                cost = float(self.objective.exact(architecture))
            except Exception as error:  # it cannot be evaluated
                last = f"{type(error).__name__}: {error}"
                continue
            demand(dict(architecture) == picks, f"exact changes {architecture}")
            demand(math.isfinite(cost), f"exact is {cost} for {architecture}; raise instead")
            costs[architecture] = cost
        demand(bool(costs), f"exact raises for all {len(tried)} architectures, {last}")
        for architecture, cost in islice(costs.items(), 8):
            with naming(f"{architecture}, asked again"):
                again = float(self.objective.exact(architecture))
            demand(again == cost, f"exact is {cost}, then {again} for {architecture}")
        return costs

    def has_a_name_and_a_unit(self) -> None:
        objective = self.objective
        for name in ("name", "unit", "relaxed"):
            demand(hasattr(objective, name), f"has no {name}, which a gradient needs too")
        assert isinstance(objective, DifferentiableObjective)
        column = f"{objective.name}_{objective.unit}" if objective.unit else objective.name
        told = f"column must be name_unit, {column!r}, got {objective.column!r}"
        demand(objective.column == column, told)

    def agrees_at_one_hot_rows(
        self, costs: Mapping[Architecture, float], dtype: torch.dtype
    ) -> None:
        choices = self.space.choices
        picks = torch.tensor([encode(choices, architecture) for architecture in costs])
        rows = one_hot_picks(picks, sizes_of(choices)).to(dtype)
        found = self.relaxed(rows, f"{len(costs)} one-hot rows in {dtype}").tolist()
        slack = CLOSE[dtype] * max(1e-12, *map(abs, costs.values()), 0.0)
        for (architecture, cost), value in zip(costs.items(), found, strict=True):
            agrees = abs(value - cost) <= slack
            demand(agrees, f"exact is {cost:g}, relaxed is {value:g} for {architecture}")

    def takes_batches_and_has_a_gradient(self, dtype: torch.dtype) -> None:
        sizes = sizes_of(self.space.choices)
        generator = torch.Generator().manual_seed(0)
        parts = [torch.rand(2, 3, n, generator=generator, dtype=dtype) + 0.1 for n in sizes]
        rows = torch.cat([part / part.sum(-1, keepdim=True) for part in parts], dim=-1)
        batch = self.relaxed(rows, f"a batch (2, 3, K) in {dtype}")
        for one in ((0, 0), (1, 2)):
            alone = self.relaxed(rows[one], f"one distribution (K,) in {dtype}")
            near = torch.isclose(alone, batch[one], rtol=CLOSE[dtype], atol=0.0)
            demand(bool(near), f"relaxed is {alone:g} alone and {batch[one]:g} in a batch")
        leaf = rows[0].clone().requires_grad_()
        total = self.relaxed(leaf, f"a batch (3, K) in {dtype}").sum()
        if not total.requires_grad:
            raise AssertionError("relaxed has no gradient: it leaves torch, or detaches")
        (gradient,) = torch.autograd.grad(total, leaf, allow_unused=True)
        finite = gradient is not None and bool(gradient.isfinite().all())
        demand(finite, f"the gradient of relaxed is not finite: {gradient}")

    def relaxed(self, rows: Tensor, label: str) -> Tensor:
        objective = self.objective
        assert isinstance(objective, DifferentiableObjective)
        before = rows.detach().clone()
        with naming(label):
            found = objective.relaxed(rows)
        demand(torch.equal(rows.detach(), before), f"{label}: relaxed changes its argument")
        if not isinstance(found, Tensor):
            raise AssertionError(f"{label}: relaxed must give a tensor, got {found!r}")
        shape, expected = tuple(found.shape), tuple(rows.shape[:-1])
        demand(shape == expected, f"{label}: shape must be {expected}, got {shape}")
        kept = found.dtype == rows.dtype
        demand(kept, f"{label}: relaxed must keep {rows.dtype}, got {found.dtype}")
        demand(bool(found.isfinite().all()), f"{label}: relaxed is not finite")
        return found
