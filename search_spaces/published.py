"""Files of other packages that hold published measurements: where they are, and how to read them.

None of a package's code runs, and a file that is more than data is refused.
"""

from __future__ import annotations

import importlib.util
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def folder(module: str, inside: str, what: str, package: str) -> Path:
    """The folder of a package's files.

    Args:
        module: the module of the package.
        inside: the folder, from that of the module.
        what: what is in it, for the message.
        package: the name of the package at PyPI.

    Raises:
        ImportError: the package is not installed.
    """
    found = importlib.util.find_spec(module)
    place = Path(found.origin or "").parent / inside if found else None
    if place is None or not place.is_dir():
        raise ImportError(f"{what} in the package {package}: pip install 'paretonas[bench]'")
    return place


def unpickled(data: bytes, rule: str, allowed: Mapping[tuple[str, str], Any] | None = None) -> Any:
    """The content of a pickled file, which may use the allowed names and no others.

    Args:
        data: the file.
        rule: what these files may contain, for the message.
        allowed: what stands for a (module, name); none by default.

    Raises:
        pickle.UnpicklingError: the file needs something else.
    """
    return _Unpickler(data, rule, allowed or {}).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, rule: str, allowed: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._rule, self._allowed = rule, allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._allowed:
            return self._allowed[module, name]
        raise pickle.UnpicklingError(
            f"these files may contain only {self._rule}, but this one needs {module}.{name}"
        )
