"""A solver from its name on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from paretonas import solvers
from paretonas.solvers import Solver
from paretonas.space import nearest

# A benchmark asks for one network, not for one on a given ray.
NEED_PREFERENCE = ("EPO", "PMGDA", "PMTL", "SmoothTchebycheff", "Tchebycheff")


def solver_names() -> list[str]:
    """The public solvers that need neither a preference nor another solver."""
    return [
        name
        for name in solvers.__all__
        if is_dataclass(kind := getattr(solvers, name))
        and "__call__" in dir(kind)
        and name not in NEED_PREFERENCE
        and not any(f.default is MISSING and f.default_factory is MISSING for f in fields(kind))
    ]


def make_solver(name: str, settings: Mapping[str, Any], steps_per_epoch: int) -> Solver:
    """The solver of this name; case, ``-`` and ``_`` do not matter.

    Args:
        name: one of `solver_names`.
        settings: of its fields.
        steps_per_epoch: for a solver that averages over epochs.

    Raises:
        ValueError: no solver has this name, no field one of these, or it refuses a value.
    """
    kind = getattr(solvers, solver_name(name))
    known = [field.name for field in fields(kind)]
    for field in settings:
        if field not in known:
            told = nearest(field, known) if known else "; it has none"
            raise ValueError(f"{kind.__name__} has no setting {field!r}{told}")
    own = {"steps_per_epoch": steps_per_epoch} if "steps_per_epoch" in known else {}
    try:
        return kind(**(own | dict(settings)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{kind.__name__}: {error}") from error


def solver_name(name: str) -> str:
    """The name as the class spells it.

    Raises:
        ValueError: no solver has it.
    """
    known = {_plain(candidate): candidate for candidate in solver_names()}
    if _plain(name) in known:
        return known[_plain(name)]
    if _plain(name) in map(_plain, NEED_PREFERENCE):
        raise ValueError(f"{name} needs a preference, which these benchmarks do not have")
    raise ValueError(f"no solver is called {name!r}{nearest(name, list(known.values()))}")


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")
