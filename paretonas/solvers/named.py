"""The solvers that need no arguments, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from paretonas import solvers
from paretonas.solvers.base import Solver


def solver_classes() -> dict[str, Callable[[], Solver]]:
    """The solvers that need nothing to be made."""
    known: dict[str, Any] = {}
    for name in solvers.__all__:
        kind: Any = getattr(solvers, name)
        if is_dataclass(kind) and "__call__" in dir(kind) and not any(map(_needed, fields(kind))):
            known[name] = kind
    return known


def named(name: str, known: Mapping[str, Callable[[], Solver]]) -> Solver | None:
    """The solver of a name, whose case, ``-`` and ``_`` do not matter; None if there is none."""
    by_plain_name = {_plain(candidate): make for candidate, make in known.items()}
    make = by_plain_name.get(_plain(name))
    return None if make is None else make()


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
