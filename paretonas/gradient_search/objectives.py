"""The objectives that a search minimizes beside the metrics."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from ..devices import find_backend, find_device
from ..names import check_columns, find_objectives
from ..nn import NetworkSpace
from ..objectives import (
    CostTable,
    DifferentiableObjective,
    Latency,
    MeasuredMetric,
    MeasuredObjective,
    Memory,
    TrainedMetric,
)
from ..objectives.base import AnyObjective, maximizes
from ..objectives.default import OBJECTIVES, known
from ..objectives.table_latency import is_on_device, kept, read_table
from ..objectives.timing_plan import shapes
from ..tasks.task import metrics_of

# A name is one that is `known`, whose objective is not built yet.
Wanted = DifferentiableObjective | MeasuredObjective | str


def wanted_of(
    objectives: object,
    space: NetworkSpace,
    device: torch.device | str,
    threads: int,
    backend: str | None = None,
    run: Path | None = None,
) -> tuple[Wanted, ...]:
    """The objectives that were given, or latency and memory by a table in a file.

    Nothing is measured yet.

    Args:
        objectives: as such, or by name, also as one text, "latency,memory"; or the path of a file
            that ``paretonas profile`` has written.
        space: what they are objectives of.
        device: where networks are timed.
        threads: the number of CPU threads with which they are timed.
        backend: what runs them; by default that of a table in a file.
        run: the folder of the run that goes on, if there is one: it has kept its tables.

    Raises:
        ValueError: a file that is no cost table of this space, or of another backend, or a name
            that means nothing.
        TypeError: something else was given.
    """
    if isinstance(objectives, str) and not _is_file(objectives):
        objectives = [name.strip() for name in objectives.split(",")]
    if isinstance(objectives, str | os.PathLike):
        supernet, example = space.supernet(), space.load_task().example()
        table = read_table(objectives, space)
        latency = latency_by(table, example, device, threads, backend)
        return latency, Memory.of(supernet, example)
    columns = [metric.column for metric in metrics_of(space.load_task())]

    def find(name: str) -> Sequence[AnyObjective]:
        name = kept(name, run) if run else name
        return find_objectives(name, space, threads=threads, device=str(device), backend=backend)

    return understood(objectives, find, columns)


def latency_by(
    table: CostTable,
    example: Any,
    device: torch.device | str,
    threads: int,
    backend: str | None = None,
) -> Latency:
    """The latency of a table, measured with the backend that the table tells.

    Args:
        table: of the space.
        example: the inputs of one forward pass.
        device: where networks are timed.
        threads: the number of CPU threads with which they are timed.
        backend: what was asked for.

    Raises:
        ValueError: another backend, or another number of threads, was asked for; the table is of
            inputs of other shapes, or that of another machine; or the backend does not run on the
            device.
        ModuleNotFoundError: the package of the backend is missing.
    """
    if table.about.get("imported"):
        raise ValueError(
            f"the table of latencies is that of {table.about.get('device')}, where finalists cannot"
            " be timed: search with --minimize latency@FILE, which takes them from the table"
        )
    told = str(table.about.get("backend", "torch"))
    if backend not in (None, told):
        raise ValueError(f"the table of latencies was measured with {told}, not with {backend}")
    find_backend(told, device, threads)  # refuses what does not run here
    if table.about.get("threads", threads) != threads:
        raise ValueError(
            f"the table of latencies was measured with {table.about['threads']} threads, "
            f"not with {threads}"
        )
    if table.about.get("input", shapes(example)) != shapes(example):
        raise ValueError(
            f"the table of latencies is for inputs of the shape {table.about['input']}, those of "
            f"the space are {shapes(example)}"
        )
    return Latency(table, device=device, threads=threads, backend=told)


def _is_file(text: str) -> bool:
    if any(is_on_device(name.strip()) for name in text.split(",")):
        return False
    return text.endswith(".json") or (text not in OBJECTIVES and Path(text).is_file())


def understood(
    objectives: object, find: Callable[[str], Sequence[AnyObjective]], columns: Sequence[str] = ()
) -> tuple[Wanted, ...]:
    """The objectives, a user's own found; nothing is measured yet.

    Args:
        objectives: as such, or by name.
        find: gives a user's own by their name.
        columns: those of the metrics, which no objective may have.

    Raises:
        ValueError: a name that means nothing, an objective by name that has no gradient and is not
            measured, or two of one column.
        TypeError: something else was given.
    """
    wanted: list[Wanted] = []
    for one in objectives if isinstance(objectives, Iterable) else (objectives,):
        if isinstance(one, TrainedMetric | MeasuredMetric):
            continue  # it always belongs to the objectives
        if not isinstance(one, str):
            wanted.append(searchable(one))
        elif (objective := known(one)) is not None:
            if objective.device is not None:
                find_device(objective.device)  # refuses one that is not there
            wanted.append(one)
        else:
            wanted += [searchable(found, one) for found in find(one)]
    check_columns([*columns, *map(column_of, wanted)])
    return tuple(wanted)


def column_of(wanted: Wanted) -> str:
    """What tables will call an objective."""
    if not isinstance(wanted, str):
        return wanted.column
    objective = known(wanted)
    assert objective is not None
    return objective.column


def is_only_measured(wanted: Wanted) -> bool:
    """Whether nothing is known of an objective before a network is trained."""
    return not isinstance(wanted, str | DifferentiableObjective)


def searchable(
    objective: object, named: str | None = None
) -> DifferentiableObjective | MeasuredObjective:
    """The objective itself, if it has a gradient with respect to alpha or is measured.

    One without a gradient does not steer the search; the front has it.

    Raises:
        ValueError: it was found by its name, and is neither; or one with a gradient is maximized.
        TypeError: it was given as such, and is none.
    """
    if not isinstance(objective, type) and isinstance(objective, DifferentiableObjective):
        if maximizes(objective):
            raise ValueError(
                f"{objective.column} is maximized: the search maximizes metrics of the task only; "
                "give an objective of which less is better, such as its reciprocal"
            )
        return objective
    if not isinstance(objective, type) and isinstance(objective, MeasuredObjective):
        return objective
    if named is not None:
        lacks = [part for part in ("name", "unit", "relaxed") if not hasattr(objective, part)]
        raise ValueError(
            f"{named} has no {', '.join(lacks)}: the search needs a gradient, by "
            "relaxed(probabilities), or a measurement of trained networks, by "
            "measure(network, example); paretonas compare takes an objective without either"
        )
    what = f"the class {objective.__name__}" if isinstance(objective, type) else repr(objective)
    raise TypeError(
        "objectives must be a list, such as [Latency(...), Memory.of(...)], with a name, a unit, "
        f"exact and relaxed each, or the path of a cost table; got {what}"
    )
