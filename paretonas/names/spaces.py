"""Search spaces and problems by name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TypeGuard

from torch import nn

from paretonas._own_code import failed, import_place, is_file
from paretonas.names.lookup import (
    attribute_of,
    find,
    is_class,
    kind_of,
    made_when_asked,
    takes,
    unknown,
)
from paretonas.nn import Converted, NetworkSpace
from paretonas.objectives import default_objectives
from paretonas.problem import Problem
from paretonas.space import SearchSpace
from paretonas.tasks import Task
from paretonas.training import Recipe

CONVERT = "convert:"  # before the place of a network, which becomes a space


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
        ValueError: there is no space of this name, it knows no objectives, or ONNX cannot hold its
            networks; then give a `Problem` with ``default_objectives(space, backend="torch")``.
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
            ``nas_bench_graph:cora``; without an attribute, ``space``. An attribute may be a
            function without arguments that returns the space. After ``convert:``, as in
            ``convert:my_file:model``, the attribute is a network, or a function that gives one, and
            the ``task`` beside it is what it is trained for. Other code is imported, so never pass
            what a folder says: that is for `Consent`.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such space; the message says what there is, or what was found.
    """
    if spec.startswith(CONVERT):
        return _converted(spec.removeprefix(CONVERT), folder)
    place, _, attribute = spec.partition(":")
    attribute = attribute or "space"
    own = own_module(spec)
    if own is None:
        value = find(spec, folder, "space", _has_networks, "space")
    else:
        value = attribute_of(_of_the_house(own), place, attribute, "space", _has_networks)
    if _is_space(value):
        return value
    if callable(value) and not isinstance(value, type | nn.Module):
        return _made_by(value, spec)
    raise ValueError(_no_space(value, spec))


def _made_by(function: Callable[..., object], spec: str) -> SearchSpace:
    """The space that a function without arguments returns.

    Raises:
        ValueError: it needs arguments, raises, or returns something else.
    """
    if not takes(function):
        raise ValueError(
            f"{spec} is {kind_of(function)}: a space may be made by a function, but only by one "
            "that can be called without arguments"
        )
    try:
        value = function()
    except (Exception, SystemExit) as error:
        raise failed(f"calling {spec}()", error) from error
    if _is_space(value):
        return value
    raise ValueError(_no_space(value, f"what {spec}() returns"))


def _converted(spec: str, folder: Path | None) -> NetworkSpace:
    """The space over a network of the user's own, with the task and the recipe beside it."""
    place, _, attribute = spec.partition(":")
    attribute = attribute or "model"
    model = find(f"{place}:{attribute}", folder, "model", _is_network)
    if not callable(model):
        raise ValueError(f"{spec} is {kind_of(model)}, no network, and no function that gives one")
    task = find(f"{place}:task", folder, "task", lambda value: isinstance(value, Task))
    recipe = getattr(import_place(place, folder or Path.cwd()), "recipe", Recipe())
    network = Converted(model, None, depth=True)
    space = NetworkSpace(attribute, network, task, recipe)  # type: ignore[arg-type]
    network.example = space.load_task  # its examples are loaded once, and when they are needed
    return space


def _is_network(value: object) -> bool:
    return isinstance(value, nn.Module) or is_class(value, nn.Module)


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
    have += [f"{known}:{name}" for known in names for name in made_when_asked(modules[known])]
    raise unknown("space", name, have)


def _has_networks(value: object) -> bool:
    return isinstance(value, NetworkSpace)


def _is_space(value: object) -> TypeGuard[SearchSpace]:
    # A class may have all that its objects have; to look at a protocol may build a network.
    return not isinstance(value, type) and isinstance(value, NetworkSpace | SearchSpace)


def _no_space(value: object, called: str) -> str:
    return (
        f"{called} is {kind_of(value)}, no space: a space also needs a name, data and a recipe, "
        'as in space = paretonas.NetworkSpace("mine", MyNetwork, load_data)'
    )
