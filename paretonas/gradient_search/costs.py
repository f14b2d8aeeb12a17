"""What is minimized beside the error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import torch

from ..names import check_columns, find_objectives
from ..nn import NetworkSpace
from ..objectives import CostTable, DifferentiableObjective, Latency, Memory, Objective
from ..objectives.default import OBJECTIVES

Asked = DifferentiableObjective | str  # one of `OBJECTIVES` by name, to be built


def costs_of(
    objectives: object,
    space: NetworkSpace,
    *,
    device: str | torch.device = "cpu",
    threads: int = 1,
) -> tuple[DifferentiableObjective, ...]:
    """The objectives that were given, or latency and memory by a table in a file.

    Args:
        objectives: as such, or by name; or the path of a file that ``paretonas profile`` has
            written.
        space: what they are costs of.
        device: that latency is measured on.
        threads: that latency is measured with.

    Raises:
        ValueError: a file that is no cost table of this space, or a name that means nothing.
        TypeError: something else was given.
    """
    if isinstance(objectives, str | os.PathLike):
        supernet, example = space.supernet(), space.data().example
        return Latency(CostTable.read(objectives, supernet.choices)), Memory.of(supernet, example)
    asked = understood(objectives, lambda name: find_objectives(name, space))
    if not any(isinstance(one, str) for one in asked):
        return tuple(one for one in asked if not isinstance(one, str))
    supernet, example = space.supernet(), space.data().example.cpu()
    return tuple(
        OBJECTIVES[one].build(supernet, example, device, threads) if isinstance(one, str) else one
        for one in asked
    )


def understood(objectives: object, find: Callable[[str], Sequence[Objective]]) -> tuple[Asked, ...]:
    """The objectives, a user's own found; nothing is measured yet.

    Args:
        objectives: as such, or by name.
        find: gives a user's own by their name.

    Raises:
        ValueError: a name that means nothing, an objective without a gradient by name, or two of
            one column.
        TypeError: something else was given.
    """
    given = tuple(objectives) if isinstance(objectives, Iterable) else (objectives,)
    asked: list[Asked] = []
    for one in given:
        if not isinstance(one, str):
            asked.append(differentiable(one))
        elif one in OBJECTIVES:
            asked.append(one)
        else:
            asked += [differentiable(found, one) for found in find(one)]
    check_columns(["error_percent", *map(column_of, asked)])
    return tuple(asked)


def column_of(asked: Asked) -> str:
    """What tables will call an objective."""
    return OBJECTIVES[asked].column if isinstance(asked, str) else asked.column


def differentiable(cost: object, named: str | None = None) -> DifferentiableObjective:
    """The objective itself, if the search can drive alpha down it.

    Raises:
        ValueError: it was found by its name, and has no gradient.
        TypeError: it was given as such, and is none.
    """
    if not isinstance(cost, type) and isinstance(cost, DifferentiableObjective):
        return cost
    if named is not None:
        lacks = [part for part in ("name", "unit", "relaxed") if not hasattr(cost, part)]
        raise ValueError(
            f"{named} has no {', '.join(lacks)}: the search needs a gradient, by "
            "relaxed(probabilities); paretonas compare takes an objective without one"
        )
    what = f"the class {cost.__name__}" if isinstance(cost, type) else repr(cost)
    raise TypeError(
        "objectives must be a list, such as [Latency(...), Memory.of(...)], or "
        f"the path of a cost table, got {what}"
    )
