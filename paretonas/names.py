"""What a name stands for, on the command line and in Python: a space, a solver, a method, ...

A name without a colon is one of the package. A part of one's own is ``pkg.mod:attribute`` or
``dir/my_file.py:attribute``, whatever its kind; nothing is registered anywhere.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from torch import nn

from paretonas import solvers
from paretonas._own_code import failed, import_place, is_file
from paretonas.nn import NetworkSpace
from paretonas.objectives import Objective, default_objectives
from paretonas.objectives.default import OBJECTIVES
from paretonas.problem import Problem
from paretonas.samplers.base import Maker, Sampler
from paretonas.samplers.methods import make, methods
from paretonas.solvers import Solver
from paretonas.space import SearchSpace, nearest

ONE_OF_YOUR_OWN = "one of your own is pkg.mod:attribute or dir/my_file.py:attribute"


def is_own(spec: str) -> bool:
    """Whether a solver, a method or an objective is a user's own; for spaces see `own_module`.

    >>> is_own("my_file:Mine"), is_own("dir/my_file.py:Mine"), is_own("MGDA")
    (True, True, False)
    """
    return ":" in spec or is_file(spec)


def short_name(spec: str) -> str:
    """What tables and files call a part: its attribute, or its name in the package.

    >>> short_name("dir/my_file.py:Aging"), short_name("nsga2-steady")
    ('Aging', 'nsga2-steady')
    """
    return spec.partition(":")[2] or spec


def _find(
    spec: str, folder: Path | None, kind: str, holds: Callable[[object], bool], default: str = ""
) -> object:
    """What a user's own name stands for.

    Args:
        spec: a module or a file, a colon, and an attribute.
        folder: where files and modules are looked for, besides installed ones.
        kind: what is looked for, in a word.
        holds: whether a value is of this kind; for what a message proposes.
        default: the attribute if none is named.

    Raises:
        ValueError: there is no such file, module or attribute, or importing it fails.
    """
    place, _, attribute = spec.partition(":")
    module = import_place(place, folder or Path.cwd())
    return _attribute(module, place, attribute or default, kind, holds)


def _attribute(
    module: ModuleType, place: str, attribute: str, kind: str, holds: Callable[[object], bool]
) -> object:
    if attribute and hasattr(module, attribute):
        return getattr(module, attribute)
    held = [name for name, value in vars(module).items() if _is_of(module, value) and holds(value)]
    found = [*held, *_made_when_asked(module)]
    lacks = f"has no {attribute!r}" if attribute else f"does not say which {kind}"
    hint = nearest(attribute, found) if found else f", and no {kind} under another name"
    raise ValueError(f"{place} {lacks}{hint}")


def _made_when_asked(module: ModuleType) -> list[str]:
    return [name for name in dir(module) if name not in vars(module)]


def _is_of(module: ModuleType, value: object) -> bool:
    """Whether it was made in the module rather than imported into it."""
    home = getattr(value, "__module__", None)
    return not callable(value) or not hasattr(value, "__qualname__") or home == module.__name__


def _kind_of(value: object) -> str:
    """What was found, in words."""
    if isinstance(value, nn.Module) or _is_class(value, nn.Module):
        return "a network"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isfunction(value):
        return f"the function {value.__name__}{inspect.signature(value)}"
    return f"of type {type(value).__name__}"


def _is_class(value: object, base: type) -> bool:
    return isinstance(value, type) and issubclass(value, base)


def _takes(value: object, *positional: object, **named: object) -> bool:
    """Whether it can be called with these arguments."""
    try:
        inspect.signature(value).bind(*positional, **named)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True


# --- spaces ------------------------------------------------------------------------------------


def space_of(value: object) -> NetworkSpace:
    """A space of networks, given as such or by its name; see `find_space`.

    Raises:
        ValueError: there is no space of this name, or it has no networks.
        TypeError: something else was given.
    """
    if isinstance(value, str):
        return find_space(value)
    return with_networks(any_space_of(value), "what was given")


def any_space_of(value: object) -> SearchSpace:
    """A space of any kind, given as such or by its name; see `find_any_space`.

    Raises:
        ValueError: there is no space of this name.
        TypeError: something else was given.
    """
    if isinstance(value, str):
        return find_any_space(value)
    if _is_space(value):
        return value
    raise TypeError(_no_space(value, "what was given"))


def problem_of(value: object) -> Problem:
    """A problem, given as such; of a space, or of its name, with the objectives that it knows.

    Raises:
        ValueError: there is no space of this name, or it knows no objectives.
        TypeError: something else was given.
    """
    if isinstance(value, Problem):
        return value
    space = any_space_of(value)
    if getattr(space, "objectives", None) is None and isinstance(space, NetworkSpace):
        return Problem(space, default_objectives(space))
    return Problem(space)


def find_space(spec: str, folder: Path | None = None) -> NetworkSpace:
    """The space of networks that ``digits``, ``my.mod:it`` or ``dir/my_file.py:it`` names.

    Args:
        spec: as for `find_any_space`.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such space; the message says what there is, or what was found.
    """
    return with_networks(find_any_space(spec, folder), spec)


def with_networks(space: SearchSpace, spec: str) -> NetworkSpace:
    """The space itself, if it has networks to train.

    Raises:
        ValueError: it has none.
    """
    if isinstance(space, NetworkSpace):
        return space
    raise ValueError(
        f"{spec} is a space without networks to train; paretonas compare can search it"
    )


def find_any_space(spec: str, folder: Path | None = None) -> SearchSpace:
    """The space of networks, table or other `SearchSpace` that a name stands for.

    Args:
        spec: a bare name is a module of ``search_spaces``, also before a colon, as in
            ``nas_bench_graph:cora``; without an attribute, ``space``. Other code is imported, so
            never pass what a folder says: that is for `Consent`.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such space; the message says what there is, or what was found.
    """
    place, _, attribute = spec.partition(":")
    attribute = attribute or "space"
    own = own_module(spec)
    if own is None:
        value = _find(spec, folder, "space", _has_networks, "space")
    else:
        value = _attribute(_of_the_house(own), place, attribute, "space", _has_networks)
    if _is_space(value):
        return value
    raise ValueError(_no_space(value, spec))


def own_module(spec: str) -> str | None:
    """The module of ``search_spaces`` that a name stands for; None for anybody else's code.

    >>> own_module("toy"), own_module("nas_bench_graph:cora"), own_module("my_file.py:space")
    ('toy', 'nas_bench_graph', None)
    """
    place = spec.partition(":")[0]
    if is_file(place):
        return None
    name = place.removeprefix("search_spaces.")
    bare = not (":" in spec or "." in place)
    return name if bare or name in _names_of_the_house() else None


def _names_of_the_house() -> list[str]:
    spaces = importlib.import_module("search_spaces")
    return [module.name for module in pkgutil.iter_modules(spaces.__path__)]


def _of_the_house(name: str) -> ModuleType:
    names = _names_of_the_house()
    if name in names:
        return importlib.import_module(f"search_spaces.{name}")
    modules = {known: importlib.import_module(f"search_spaces.{known}") for known in names}
    have = [known for known, module in modules.items() if hasattr(module, "space")]
    have += [f"{known}:{name}" for known in names for name in _made_when_asked(modules[known])]
    raise ValueError(f"no space is called {name!r}{nearest(name, have)}; {ONE_OF_YOUR_OWN}")


def _has_networks(value: object) -> bool:
    return isinstance(value, NetworkSpace)


def _is_space(value: object) -> TypeGuard[SearchSpace]:
    # A class may have all that its objects have; to look at a protocol may build a network.
    return not isinstance(value, type) and isinstance(value, NetworkSpace | SearchSpace)


def _no_space(value: object, called: str) -> str:
    return (
        f"{called} is {_kind_of(value)}, no space: a space also needs a name, data and a recipe, "
        'as in space = paretonas.NetworkSpace("mine", MyNetwork, load_data)'
    )


# --- solvers -----------------------------------------------------------------------------------


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
        return _own_solver(_find(spec, folder, "solver", _makes_directions), spec)
    known = _solvers()
    by_plain_name = {_plain(candidate): candidate for candidate in known}
    if _plain(spec) not in by_plain_name:
        raise ValueError(
            f"no solver is called {spec!r}{nearest(spec, list(known))}; {ONE_OF_YOUR_OWN}"
        )
    return known[by_plain_name[_plain(spec)]]()


def _own_solver(value: object, spec: str) -> Solver:
    if isinstance(value, type) and _makes_directions(value):
        if not _takes(value):
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
        f"{spec} is {_kind_of(value)}, no solver: a solver is called as "
        "solver(jacobian, values, state) and returns a Direction"
    )


def _makes_directions(value: object) -> bool:
    """Whether it, or an object of this class, can be called as a solver is."""
    if isinstance(value, nn.Module) or _is_class(value, nn.Module):
        return False
    if isinstance(value, type):
        return "__call__" in dir(value) and _takes(value.__call__, *range(4))  # the first is self
    return callable(value) and _takes(value, *range(3))


def _solvers() -> dict[str, Callable[[], Solver]]:
    """The solvers that need nothing to be made."""
    known: dict[str, Any] = {}
    for name in solvers.__all__:
        kind: Any = getattr(solvers, name)
        if is_dataclass(kind) and "__call__" in dir(kind) and not any(map(_needed, fields(kind))):
            known[name] = kind
    return known


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _plain(name: str) -> str:
    return name.casefold().replace("-", "").replace("_", "")


# --- methods -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class OwnMethod:
    """A user's own class or function that makes a sampler, called as a `Maker` is.

    Attributes:
        spec: what the user typed.
        make: is called as ``make(problem, seed=seed)``.
    """

    spec: str
    make: Callable[..., object]

    def __call__(self, problem: Problem, seed: int) -> Sampler:
        """The sampler.

        Raises:
            TypeError: what was made is no sampler.
        """
        sampler = self.make(problem, seed=seed)
        if isinstance(sampler, Sampler):
            return sampler
        raise TypeError(
            f"{self.spec} makes what is {_kind_of(sampler)}, no sampler: a sampler has ask() and "
            "tell(outcomes)"
        )

    def check(self, problem: Problem) -> None:
        """Make one before anything runs.

        Raises:
            ValueError: it cannot be made, or is no sampler.
        """
        try:
            self(problem, 0)
        except Exception as error:
            raise failed(f"{self.spec}(problem, seed=0)", error) from error


def find_methods(specs: Sequence[str]) -> dict[str, Maker]:
    """What makes the sampler of each method, by the name that tables and files use.

    Args:
        specs: as for `find_method`.

    Raises:
        ValueError: no method, one that there is not, or two of one name.
    """
    check_methods(specs)
    return {short_name(spec): find_method(spec) for spec in specs}


def check_methods(specs: Sequence[str]) -> None:
    """Refuse methods whose tables and files would have one name, on any file system.

    Raises:
        ValueError: there are two, or no method at all.
    """
    if not specs:
        raise ValueError(f"there is no method to compare{nearest('', methods)}")
    seen: dict[str, str] = {}
    for spec in specs:
        if specs.count(spec) > 1:
            raise ValueError(f"method {spec!r} is named {specs.count(spec)} times; once is enough")
        other = seen.setdefault(short_name(spec).casefold(), spec)
        if other != spec:
            raise ValueError(
                f"{other!r} and {spec!r} have one name in tables and files, {short_name(spec)!r}; "
                "give one of your own another name"
            )


def find_method(spec: str, folder: Path | None = None) -> Maker:
    """What makes the sampler of a method.

    Args:
        spec: a name of `paretonas.samplers.methods`; or a user's own, ``my_file:Mine``: a class or
            a function that is called as ``Mine(problem, seed=0)`` and gives a sampler.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such method; the message says what there is, or what was found.
    """
    if not is_own(spec):
        if spec not in methods:
            raise ValueError(
                f"no method is called {spec!r}{nearest(spec, methods)}; {ONE_OF_YOUR_OWN}"
            )
        return partial(make, spec)
    value = _find(spec, folder, "method", _makes_samplers)
    if isinstance(value, Sampler) and not isinstance(value, type):
        raise ValueError(
            f"{spec} is a sampler that is made already; name its class "
            f"{type(value).__name__}, or a function that makes one for a problem and a seed"
        )
    if callable(value) and not _is_class(value, nn.Module) and _takes(value, object(), seed=0):
        return OwnMethod(spec, value)
    raise ValueError(
        f"{spec} is {_kind_of(value)}, no method: a method is a class or a function that is called "
        "as Mine(problem, seed=0) and gives a sampler, with ask() and tell(outcomes)"
    )


def _makes_samplers(value: object) -> bool:
    return isinstance(value, type) and hasattr(value, "ask") and hasattr(value, "tell")


# --- objectives --------------------------------------------------------------------------------


def find_objectives(
    spec: str, space: SearchSpace, folder: Path | None = None
) -> tuple[Objective, ...]:
    """The objectives that a user's own name stands for: mostly one.

    Args:
        spec: ``my_file:joules``: an `Objective`, several in a tuple, as `measured` makes them, or
            a function or a class that makes one or several. It is called with ``space=`` if it has
            an argument of this name, otherwise without any.
        space: what they are objectives of.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such objective; the message says what there is, or what was found.
    """
    if not is_own(spec):
        known = list(OBJECTIVES)
        raise ValueError(
            f"no objective is called {spec!r}{nearest(spec, known)}; {ONE_OF_YOUR_OWN}"
        )
    value = _find(spec, folder, "objective", _is_or_makes_objectives)
    called = spec
    if not _is_objective(value) and callable(value) and not _is_class(value, nn.Module):
        named = {"space": space} if "space" in _parameters(value) else {}
        called = f"{spec}({'space' if named else ''})"
        if not _takes(value, **named):
            raise ValueError(
                f"{spec} is {_kind_of(value)}, and no objective is made by {called}: it must take "
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
                f"{called} is {_kind_of(one)}, no objective: an objective has a column, such as "
                "'energy_joule', and gives a cost by exact(architecture)"
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


def _is_objective(value: object) -> TypeGuard[Objective]:
    return not isinstance(value, type) and isinstance(value, Objective)


def _is_or_makes_objectives(value: object) -> bool:
    return isinstance(value, Objective) or (callable(value) and "space" in _parameters(value))


def _parameters(value: object) -> Iterable[str]:
    try:
        return inspect.signature(value).parameters  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ()
