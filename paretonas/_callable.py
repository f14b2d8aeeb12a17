"""Packages that can be called like the function of the same name."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package ``paretonas.NAME`` that can be called: a call goes to its function NAME.

    When Python imports a package, it replaces any attribute of the parent with the same name. So
    ``paretonas.NAME`` is always the package, whatever was imported before.
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
