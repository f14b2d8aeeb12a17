"""Whose code a command may run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretonas.names import find_any_space, own_module
from paretonas.space import SearchSpace


@dataclass(frozen=True)
class Consent:
    """Whose code a command may run when it reads a folder that it did not write itself.

    A folder may come from somebody else. By its word alone only spaces of the package are found;
    other code must be named by whoever types the command.

    Attributes:
        space: the space that was named in this command, in the place of the folder's.
        trust: whether the code that the folder names may run.
    """

    space: str | None = None
    trust: bool = False

    def find(self, folder: Path, settings: Mapping[str, Any]) -> SearchSpace:
        """The space of a folder.

        Args:
            folder: of a run or a comparison.
            settings: what it says: ``space``, and the ``folder`` where that was found.

        Raises:
            ValueError: the folder names other code than the package's, and nobody allowed it.
        """
        if self.space is not None:
            return find_any_space(self.space)
        spec, home = settings.get("space"), settings.get("folder")
        if not isinstance(spec, str):
            raise ValueError(f"{folder} does not say what space it is of; name it with --space S")
        if own_module(spec) is None and not self.trust:
            raise ValueError(
                f"{folder} names code that is not of paretonas: {spec!r} in {str(home)!r}; it was "
                "not run. Name the space yourself with --space S, or allow that one with --trust"
            )
        return find_any_space(spec, Path(str(home)) if home else None)

    @property
    def words(self) -> str:
        """What to add to the next command on the folder."""
        if self.space is not None and own_module(self.space) is None:
            return f" --space {shlex.quote(self.space)}"
        return " --trust" if self.trust else ""
