"""Objectives by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeGuard

from torch import nn

from paretonas._own_code import failed
from paretonas.names.lookup import find, is_class, is_own, kind_of, short_name, takes, unknown
from paretonas.nn import NetworkSpace
from paretonas.objectives.base import AnyObjective
from paretonas.objectives.default import MEASURED, NAMES
from paretonas.objectives.table_latency import find_table_latency, is_on_device
from paretonas.space import SearchSpace


def find_objectives(
    spec: str,
    space: SearchSpace,
    folder: Path | None = None,
    threads: int = 1,
    device: str = "cpu",
    backend: str | None = None,
) -> tuple[AnyObjective, ...]:
    """The objectives that a user's own name stands for: mostly one.

    Args:
        spec: ``my_file:joules``: an `Objective` or a `MeasuredObjective`, several in a tuple, as
            `measured` makes them, or a function or a class that makes one or several. It is called
            with ``space=`` if it has an argument of this name, otherwise without any. Or
            ``latency@phone``, the latency by the table ``phone.json``.
        space: what they are objectives of.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.
        threads: the number of CPU threads with which networks are timed.
        device: where they are timed.
        backend: what runs them, if it was asked for.

    Raises:
        ValueError: there is no such objective; the message says what there is, or what was found.
            Or it cannot be measured on this machine.
    """
    if spec in MEASURED and isinstance(space, NetworkSpace):
        return (MEASURED[spec](space, device, threads, backend),)
    if is_on_device(spec) and isinstance(space, NetworkSpace):
        return (find_table_latency(spec, space, folder or Path.cwd()),)
    if not is_own(spec):
        raise unknown("objective", spec, NAMES)
    value = find(spec, folder, "objective", _is_or_makes_objectives)
    called = spec
    if not _is_objective(value) and callable(value) and not is_class(value, nn.Module):
        named = {"space": space} if "space" in _parameters(value) else {}
        called = f"{spec}({'space' if named else ''})"
        if not takes(value, **named):
            raise ValueError(
                f"{spec} is {kind_of(value)}, and no objective is made by {called}: it must take "
                f"the space alone, as in def {short_name(spec)}(space), or nothing"
            )
        try:
            value = value(**named)
        except Exception as error:
            raise failed(called, error) from error
    found = tuple(value) if isinstance(value, tuple | list) else (value,)
    for one in found:
        if not _is_objective(one):
            raise ValueError(
                f"{called} is {kind_of(one)}, no objective: an objective has a column, such as "
                "'energy_joule', and gives a cost by exact(architecture) or is measured by "
                "measure(network, example)"
            )
        column = one.column
        if not isinstance(column, str) or not column:
            raise ValueError(f"the column of {called} must be a name, got {column!r}")
    if not found:
        raise ValueError(f"{called} is empty, no objective")
    return found


def check_columns(columns: Sequence[str]) -> None:
    """Refuse two objectives of one column.

    Raises:
        ValueError: there are two.
    """
    for column in columns:
        if columns.count(column) > 1:
            raise ValueError(f"two objectives are called {column!r}; each needs its own column")


def _is_objective(value: object) -> TypeGuard[AnyObjective]:
    return not isinstance(value, type) and isinstance(value, AnyObjective)


def _is_or_makes_objectives(value: object) -> bool:
    return isinstance(value, AnyObjective) or (callable(value) and "space" in _parameters(value))


def _parameters(value: object) -> Iterable[str]:
    try:
        return inspect.signature(value).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ()
