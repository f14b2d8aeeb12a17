"""Whose code a command may run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from paretonas.names import find_any_space, is_own, own_module, short_name
from paretonas.space import SearchSpace

KINDS = {"space": "space", "solver": "solver", "methods": "method", "minimize": "objective"}
"""The options that name parts, and what each part is."""


@dataclass(frozen=True)
class Consent:
    """Whose code a command may run when it reads a folder that it did not write itself.

    A folder may come from somebody else. By its word alone only parts of the package are found;
    other code must be named by whoever types the command.

    Attributes:
        named: the parts that were named in this command, by option. A space takes the place of the
            folder's; any other part takes the place of the folder's of the same name.
        trust: whether the code that the folder names may run.
    """

    named: Mapping[str, Sequence[str]] = field(default_factory=dict)
    trust: bool = False

    def space(self, folder: Path, settings: Mapping[str, Any]) -> SearchSpace:
        """The space of a folder.

        Args:
            folder: of a run or a comparison.
            settings: what it says: ``space``, and the ``folder`` where that was found.

        Raises:
            ValueError: the folder names other code than the package's, and nobody allowed it.
        """
        for typed in self.named.get("space", ()):
            return find_any_space(typed)
        spec, home = settings.get("space"), settings.get("folder")
        if not isinstance(spec, str):
            raise ValueError(f"{folder} does not say what space it is of; name it with --space S")
        return find_any_space(*self.place("space", spec, folder, Path(str(home or "."))))

    def place(self, option: str, spec: str, folder: Path, home: Path) -> tuple[str, Path]:
        """The name by which a part of a folder is looked for, and where.

        Args:
            option: that the part belongs to, such as ``"solver"``.
            spec: the part that the folder names.
            folder: of a run or a comparison.
            home: where the folder says that the part was found.

        Raises:
            ValueError: it is other code than the package's, and nobody allowed it.
        """
        if not _own(option, spec):
            return spec, home
        for typed in self.named.get(option, ()):
            if _own(option, typed) and short_name(typed) == short_name(spec):
                return typed, Path.cwd()
        if self.trust:
            return spec, home
        kind, value = KINDS[option], "S" if option == "space" else f"FILE:{short_name(spec)}"
        raise ValueError(
            f"{folder} names code that is not of paretonas: {spec!r} in {str(home)!r}; it was "
            f"not run. Name the {kind} yourself with --{option} {value}, or allow that one with "
            "--trust"
        )

    def check(self, option: str, folder: Path, specs: Sequence[str]) -> None:
        """Refuse a part that the folder does not have: a resumed run keeps its settings.

        Args:
            option: that the parts belong to, such as ``"methods"``.
            folder: of a run or a comparison.
            specs: the parts of this kind that the folder names.

        Raises:
            ValueError: the folder has no such part of somebody's own.
        """
        own = [short_name(spec) for spec in specs if _own(option, spec)]
        for typed in self.named.get(option, ()):
            if short_name(typed) not in own or not _own(option, typed):
                has = f"; it has {', '.join(own)}" if own else ""
                raise ValueError(
                    f"{folder} has no {KINDS[option]} of its own that is called "
                    f"{short_name(typed)!r}{has}, and keeps its settings: leave out --{option} "
                    f"{typed}"
                )

    def words(self, *options: str) -> str:
        """What to add to the next command on the folder.

        Args:
            *options: those that the next command has.
        """
        own = [
            f" --{option} {shlex.quote(spec)}"
            for option in options
            for spec in self.named.get(option, ())
            if _own(option, spec)
        ]
        return "".join(own) + (" --trust" if self.trust else "")


def _own(option: str, spec: str) -> bool:
    return own_module(spec) is None if option == "space" else is_own(spec)
