"""A part by its place: what every kind of part has in common."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

from torch import nn

from paretonas._own_code import import_place, is_file
from paretonas.objectives.table_latency import is_on_device
from paretonas.space import nearest


def unknown(kind: str, spec: str, known: Sequence[str]) -> ValueError:
    """The error for a name that the package does not know.

    Args:
        kind: what was looked for, in a word.
        spec: the name.
        known: the names that there are.
    """
    return ValueError(
        f"no {kind} is called {spec!r}{nearest(spec, known)}; "
        "one of your own is pkg.mod:attribute or dir/my_file.py:attribute"
    )


def is_own(spec: str) -> bool:
    """Whether a solver, a method or an objective is a user's own; for spaces see `own_module`.

    >>> is_own("my_file:Mine"), is_own("dir/my_file.py:Mine"), is_own("MGDA")
    (True, True, False)
    """
    return not is_on_device(spec) and (":" in spec or is_file(spec))


def short_name(spec: str) -> str:
    """What tables and files call a part: its attribute, or its name in the package.

    >>> short_name("dir/my_file.py:Aging"), short_name("nsga2-steady")
    ('Aging', 'nsga2-steady')
    """
    return spec.partition(":")[2] or spec


def find(
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
    return attribute_of(module, place, attribute or default, kind, holds)


def attribute_of(
    module: ModuleType, place: str, attribute: str, kind: str, holds: Callable[[object], bool]
) -> object:
    """The attribute of a module.

    Raises:
        ValueError: it has none of this name; the message names those of this kind.
    """
    if attribute and hasattr(module, attribute):
        return getattr(module, attribute)
    held = [name for name, value in vars(module).items() if _is_of(module, value) and holds(value)]
    found = [*held, *made_when_asked(module)]
    lacks = f"has no {attribute!r}" if attribute else f"does not say which {kind}"
    hint = nearest(attribute, found) if found else f", and no {kind} under another name"
    raise ValueError(f"{place} {lacks}{hint}")


def made_when_asked(module: ModuleType) -> list[str]:
    """The names that a module makes when they are first used."""
    return [name for name in dir(module) if name not in vars(module)]


def _is_of(module: ModuleType, value: object) -> bool:
    """Whether it was made in the module rather than imported into it."""
    home = getattr(value, "__module__", None)
    return not callable(value) or not hasattr(value, "__qualname__") or home == module.__name__


def kind_of(value: object) -> str:
    """What was found, in words."""
    if isinstance(value, nn.Module) or is_class(value, nn.Module):
        return "a network"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if inspect.isfunction(value):
        return f"the function {value.__name__}{inspect.signature(value)}"
    return f"of type {type(value).__name__}"


def is_class(value: object, base: type) -> bool:
    """Whether a value is a class, and one of these."""
    return isinstance(value, type) and issubclass(value, base)


def takes(value: object, *positional: object, **named: object) -> bool:
    """Whether it can be called with these arguments."""
    try:
        inspect.signature(value).bind(*positional, **named)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
