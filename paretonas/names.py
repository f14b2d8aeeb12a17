"""What a name stands for, on the command line and in Python: a space, a solver."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

from torch import nn

from paretonas import solvers
from paretonas.nn import NetworkSpace
from paretonas.objectives import default_objectives
from paretonas.problem import Problem
from paretonas.solvers import Solver
from paretonas.space import SearchSpace, nearest


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
    folder = folder or Path.cwd()
    place, _, attribute = spec.partition(":")
    attribute = attribute or "space"
    own = own_module(spec)
    if own is not None:
        module = _of_the_house(own)
    elif place.endswith(".py") or "/" in place:
        module = _from_file(folder / place)
    else:
        module = _from_module(place, folder)
    if not hasattr(module, attribute):
        found = _spaces_in(module)
        raise ValueError(
            f"{place} has no {attribute!r}"
            + (nearest(attribute, found) if found else ", and no space under another name")
        )
    value = getattr(module, attribute)
    if _is_space(value):
        return value
    raise ValueError(_no_space(value, spec))


def find_solver(name: str) -> Solver:
    """The solver of this name in `paretonas.solvers`; case, ``-`` and ``_`` do not matter.

    Raises:
        ValueError: there is none.
    """
    known = _solvers()
    by_plain_name = {_plain(candidate): candidate for candidate in known}
    if _plain(name) not in by_plain_name:
        raise ValueError(f"no solver is called {name!r}{nearest(name, list(known))}")
    return known[by_plain_name[_plain(name)]]()


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


def _spaces_in(module: ModuleType) -> list[str]:
    """The names under which a module has spaces, or makes one when it is asked for."""
    held = [name for name, value in vars(module).items() if isinstance(value, NetworkSpace)]
    return [*held, *_made_when_asked(module)]


def _made_when_asked(module: ModuleType) -> list[str]:
    return [name for name in dir(module) if name not in vars(module)]


def own_module(spec: str) -> str | None:
    """The module of ``search_spaces`` that a name stands for; None for anybody else's code.

    >>> own_module("toy"), own_module("nas_bench_graph:cora"), own_module("my_file.py:space")
    ('toy', 'nas_bench_graph', None)
    """
    place = spec.partition(":")[0]
    if place.endswith(".py") or "/" in place:
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
    raise ValueError(
        f"no space is called {name!r}{nearest(name, have)}; "
        "one of your own is pkg.mod:attribute or dir/my_file.py:attribute"
    )


def _from_module(name: str, folder: Path) -> ModuleType:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"no module is called {name!r}, neither installed nor in {folder}"
            ) from error
        raise _broken(name, error) from error
    except Exception as error:
        raise _broken(name, error) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if (path.parent / "__init__.py").exists():  # its relative imports need the package
        return _from_module(f"{path.parent.name}.{path.stem}", path.parent.parent)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as python does for a script
    name = f"space_in_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise _broken(str(path), error) from error
    return module


def _broken(place: str, error: Exception) -> ValueError:
    return ValueError(f"importing {place} failed: {type(error).__name__}: {error}")


def _is_space(value: object) -> TypeGuard[SearchSpace]:
    # A class may have all that its objects have; to look at a protocol may build a network.
    return not isinstance(value, type) and isinstance(value, NetworkSpace | SearchSpace)


def _no_space(value: object, called: str) -> str:
    kind = "a network" if _makes_a_network(value) else f"of type {type(value).__name__}"
    if isinstance(value, type) and not _makes_a_network(value):
        kind = f"the class {value.__name__}"
    return (
        f"{called} is {kind}, no space: a space also needs a name, data and a recipe, as in "
        'space = paretonas.NetworkSpace("mine", MyNetwork, load_data)'
    )


def _makes_a_network(value: object) -> bool:
    return isinstance(value, nn.Module) or (
        isinstance(value, type) and issubclass(value, nn.Module)
    )
