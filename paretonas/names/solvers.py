"""Solvers by name."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from paretonas._own_code import failed
from paretonas.names.lookup import find, is_class, is_own, kind_of, takes, unknown
from paretonas.solvers import Solver
from paretonas.solvers.named import named, solver_classes


def solver_of(value: object) -> Solver:
    """A solver, given as such or by its name; see `find_solver`.

    Raises:
        ValueError: there is no solver of this name.
        TypeError: a class, or something else that is no solver.
    """
    if isinstance(value, str):
        return find_solver(value)
    if isinstance(value, type):
        raise TypeError(f"solver must be an object, got a class: write {value.__name__}()")
    if isinstance(value, Solver):
        return value
    raise TypeError(f"solver must be one such as MGDA(), or a name such as 'MGDA', got {value!r}")


def find_solver(spec: str, folder: Path | None = None) -> Solver:
    """The solver that a name stands for.

    Args:
        spec: a name in `paretonas.solvers`, whose case, ``-`` and ``_`` do not matter; or a user's
            own, ``my_file:mine``: an object, a function, or a class that needs no arguments.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such solver; the message says what there is, or what was found.
    """
    if is_own(spec):
        return _own_solver(find(spec, folder, "solver", _makes_directions), spec)
    known = solver_classes()
    found = named(spec, known)
    if found is None:
        raise unknown("solver", spec, list(known))
    return found


def _own_solver(value: object, spec: str) -> Solver:
    if isinstance(value, type) and _makes_directions(value):
        if not takes(value):
            raise ValueError(
                f"{spec} is a class whose objects need arguments; make the solver in the file, as "
                f"in mine = {value.__name__}(...), and name that"
            )
        try:
            value = value()
        except Exception as error:
            raise failed(f"{spec}()", error) from error
    if isinstance(value, Solver) and _makes_directions(value):
        return value
    raise ValueError(
        f"{spec} is {kind_of(value)}, no solver: a solver is called as "
        "solver(jacobian, values, state) and returns a Direction"
    )


def _makes_directions(value: object) -> bool:
    """Whether it, or an object of this class, can be called as a solver is."""
    if isinstance(value, nn.Module) or is_class(value, nn.Module):
        return False
    if isinstance(value, type):
        return "__call__" in dir(value) and takes(value.__call__, *range(4))  # the first is self
    return callable(value) and takes(value, *range(3))
