"""Packages that have a function of their own name, and are called like it."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package ``paretonas.NAME`` that can be called: it passes the call on to its function NAME.

    Python puts a package in the place of whatever its parent has under the same name, as soon as
    somebody imports it. So that ``paretonas.NAME`` does not depend on who has imported what before,
    it is always the package.
    """

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._function(*arguments, **named)

    @property
    def _function(self) -> Any:
        return getattr(self, self.__name__.rpartition(".")[2])

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return importlib.import_module, (self.__name__,)  # a plain module cannot be pickled
