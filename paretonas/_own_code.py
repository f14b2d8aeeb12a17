"""Code of the user's own, imported by its place: ``pkg.mod:attribute``, ``dir/file.py:attribute``.

Never pass a place that a folder names: `paretonas.cli.find.Consent` decides about those.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType

PREFIX = "own_code_in_"  # of the names of modules that are files


@dataclass(frozen=True)
class OwnFile:
    """A file that was imported, so that another process can import the same.

    Attributes:
        module: the name of the module that it became.
        path: where the file is.
        content: what was in it.
    """

    module: str
    path: Path
    content: bytes

    def load(self) -> ModuleType:
        """Run the file under the name of its module.

        Raises:
            ValueError: it raises, or is no Python.
        """
        if str(self.path.parent) not in sys.path:
            sys.path.insert(0, str(self.path.parent))  # as python does for a script
        spec = importlib.util.spec_from_file_location(self.module, self.path)
        if spec is None:
            raise ValueError(f"{self.path} is no Python file")
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.module] = module
        try:
            code: CodeType = compile(self.content, str(self.path), "exec", dont_inherit=True)
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:
            del sys.modules[self.module]
            raise failed(f"importing {self.path}", error) from error
        _files[self.module] = self
        return module


_files: dict[str, OwnFile] = {}  # by module


def imported_files() -> tuple[OwnFile, ...]:
    """The files that were imported in this process, in order."""
    return tuple(file for name, file in _files.items() if name in sys.modules)


def load_all(files: Iterable[OwnFile]) -> None:
    """Import the files of another process under the same names, so that its objects are found."""
    for file in files:
        file.load()


def is_file(place: str) -> bool:
    """Whether a place is a file rather than a module."""
    return place.endswith(".py") or "/" in place


def import_place(place: str, folder: Path) -> ModuleType:
    """The module of a place.

    Args:
        place: a module such as ``pkg.mod``, or a file such as ``dir/my_file.py``.
        folder: where it is looked for; a module may also be installed.

    Raises:
        ValueError: there is no such file or module, or importing it fails.
    """
    return _from_file(folder / place) if is_file(place) else _from_module(place, folder)


def failed(doing: str, error: Exception | SystemExit) -> ValueError:
    """What the user's code raised, as bad input."""
    return ValueError(f"{doing} failed: {type(error).__name__}: {error}")


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
        raise failed(f"importing {name}", error) from error
    except (Exception, SystemExit) as error:
        raise failed(f"importing {name}", error) from error


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if (path.parent / "__init__.py").exists():  # its relative imports need the package
        return _from_package(path.resolve())
    path, content = path.resolve(), path.read_bytes()
    name = f"{PREFIX}{path.stem}"
    number = 1
    while name in _files and _files[name].path != path:  # another file of the same name
        number += 1
        name = f"{PREFIX}{path.stem}_{number}"
    file = OwnFile(name, path, content)
    # A space, a solver and an objective in one file share one module.
    if _files.get(name) == file and name in sys.modules:
        return sys.modules[name]
    return file.load()


def _from_package(path: Path) -> ModuleType:
    """The module of a file in a package, under its full name."""
    root, names = path.parent, [path.stem]
    while (root / "__init__.py").exists():
        root, names = root.parent, [root.name, *names]
    name = ".".join(names)
    module = _from_module(name, root)
    there = getattr(module, "__file__", None)
    if there is None or Path(there).resolve() != path:
        raise ValueError(
            f"{path} is the module {name!r}, but {there} is imported under that name; give one of "
            "the packages another name"
        )
    return module
