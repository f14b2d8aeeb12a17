"""The reference: what is public, whether it is documented, and a page for each public module.

A module is public when it declares ``__all__`` and no part of its name begins with an underscore;
its ``__all__`` is what is public in it. Nothing is listed by hand.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import griffe


@dataclass(frozen=True)
class Entry:
    """A public name of a module.

    Attributes:
        path: the module and the name, such as ``paretonas.samplers.Surgery``.
        home: the path under which the reference documents it; the same for all its paths.
        source: what the source says of it.
    """

    path: str
    home: str
    source: griffe.Object

    @property
    def module(self) -> str:
        """The module that offers the name."""
        return self.path.rpartition(".")[0]

    @property
    def name(self) -> str:
        """The name in its module."""
        return self.path.rpartition(".")[2]

    @property
    def is_here(self) -> bool:
        """Whether the page of this module documents it, rather than refer to another page."""
        return self.path == self.home and not self.source.is_module

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return first_paragraph(self.source.docstring.value if self.source.docstring else "")


def public(package: str, folder: Path) -> dict[str, list[Entry]]:
    """The entries of each public module of a package that lies in a folder, by name.

    An object that several modules offer is at home in a room rather than at the front door, in a
    package rather than in a module of it, and in the room that defines it rather than in another.

    Raises:
        AttributeError: a module promises a name that it does not have.
    """
    tree = griffe.load(package, search_paths=[folder], docstring_parser="google")
    assert isinstance(tree, griffe.Module)
    modules = {module.path: module for module in _public_modules(tree)}
    found = {
        f"{path}.{name}": _source(module, name, modules)
        for path, module in sorted(modules.items())
        for name in sorted(importlib.import_module(path).__all__, key=str.casefold)
    }
    homes: dict[str, str] = {}
    for path, source in found.items():
        homes[source.path] = min(homes.get(source.path, path), path, key=partial(_distance, source))
    entries = [Entry(path, homes[source.path], source) for path, source in found.items()]
    return {m: [entry for entry in entries if entry.module == m] for m in sorted(modules)}


def undocumented(modules: dict[str, list[Entry]]) -> list[str]:
    """A line for each public name, method or attribute that nothing is said of.

    A method needs a docstring unless it overrides one that has it. An attribute needs one too, or
    an entry under ``Attributes`` or ``Args`` in the docstring of its class.
    """
    lines = []
    for entry in (entry for entries in modules.values() for entry in entries if entry.is_here):
        if not entry.source.has_docstring:
            lines.append(f"{entry.path} is public and has no docstring")
        if isinstance(entry.source, griffe.Class):
            lines += [
                f"{entry.path}.{name} is public and nothing is said of it"
                for name in _silent_members(entry.source)
            ]
    for module, entries in modules.items():
        lines += [
            f"{entry.path} is public and declares no __all__"
            for entry in entries
            if entry.source.is_module and entry.path not in modules
        ]
        if not entries:
            lines.append(f"{module} is public and has no names")
    return lines


def pages(modules: dict[str, list[Entry]]) -> dict[str, str]:
    """The Markdown of each public module, by the name of the module."""
    return {module: _page(module, entries) for module, entries in modules.items()}


def overview(modules: dict[str, list[Entry]], folder: str) -> str:
    """A table of the public modules, whose pages lie in a folder."""
    return _table(
        (f"[`{module}`]({folder}/{module}.md)", first_paragraph(sys.modules[module].__doc__ or ""))
        for module in modules
    )


def first_paragraph(docstring: str) -> str:
    """The first paragraph of a docstring, in one line."""
    return " ".join(docstring.strip().partition("\n\n")[0].split())


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {name} | {words.replace('|', chr(92) + '|')} |" for name, words in rows]
    return "\n".join(["| name | what it is |", "|---|---|", *lines, ""])


def _page(module: str, entries: list[Entry]) -> str:
    elsewhere = [(f"[`{e.name}`][{e.home}]", e.summary) for e in entries if not e.is_here]
    parts = [
        f"# {module} {{ #{module} }}",
        f"::: {module}\n    options: {{ members: false, show_root_heading: false, "
        "show_root_toc_entry: false }",
        *([_table(elsewhere)] if elsewhere else []),
        *(_section(entry) for entry in entries if entry.is_here),
    ]
    return "\n\n".join(parts) + "\n"


def _section(entry: Entry) -> str:
    # Found by its public path, with an anchor of its own: a function may be called like its module.
    return (
        f"[](){{ #{entry.path} }}\n\n::: {entry.source.path}\n"
        f"    options: {{ heading: {entry.path}, toc_label: {entry.name} }}"
    )


def _public_modules(module: griffe.Module) -> Iterator[griffe.Module]:
    if "__all__" in module.members:
        yield module
    for name, inner in module.modules.items():
        if not name.startswith("_") and isinstance(inner, griffe.Module):
            yield from _public_modules(inner)


def _source(module: griffe.Module, name: str, modules: dict[str, griffe.Module]) -> griffe.Object:
    path = f"{module.path}.{name}"
    if not hasattr(sys.modules[module.path], name) or name not in module.members:
        raise AttributeError(f"{path} is in __all__ and is not there")
    if inspect.ismodule(getattr(sys.modules[module.path], name)):
        return modules.get(path, module.modules[name])
    found = module.members[name]
    if isinstance(found, griffe.Module):  # a function that is called like its module
        found = found.members[name]
    return found.final_target if isinstance(found, griffe.Alias) else found


def _distance(source: griffe.Object, path: str) -> tuple[bool, int, bool]:
    module = path.rpartition(".")[0]
    return "." not in module, module.count("."), not source.path.startswith(f"{module}.")


def _silent_members(kind: griffe.Class) -> Iterator[str]:
    line = [kind, *(base for base in kind.mro() if isinstance(base, griffe.Class))]
    told = {
        item.name
        for one in line
        if one.docstring
        for section in one.docstring.parse("google")
        if section.kind.value in ("attributes", "parameters")
        for item in section.value
    }
    for name, member in kind.members.items():
        if name.startswith("_") or name in told or member.is_alias:
            continue
        if not any(name in one.members and one.members[name].has_docstring for one in line):
            yield name
