"""Methods of a comparison by name: what makes their samplers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from paretonas._own_code import failed
from paretonas.names.lookup import find, is_class, is_own, kind_of, short_name, takes, unknown
from paretonas.problem import Problem
from paretonas.samplers.base import Maker, OneShot, Sampler
from paretonas.samplers.methods import make, methods
from paretonas.space import nearest


@dataclass(frozen=True)
class KnownMethod:
    """A method of the package, by its name."""

    name: str

    def __call__(self, problem: Problem, seed: int) -> Sampler:
        """The sampler."""
        return make(self.name, problem, seed)

    def check(self, problem: Problem, budget: int) -> None:
        """Refuse what the method cannot search, before anything runs.

        Raises:
            ValueError: `search` on a space without networks, or with too small a budget.
        """
        if self.name == "search":  # the others search any problem, and some take long to be made
            sampler = self(problem, 0)
            if isinstance(sampler, OneShot):
                sampler.plan(budget)


@dataclass(frozen=True)
class OwnMethod:
    """A user's own class or function that makes a sampler, called as a `Maker` is.

    Attributes:
        spec: what the user typed.
        make: is called as ``make(problem, seed=seed)``.
    """

    spec: str
    make: Callable[..., object]

    def __call__(self, problem: Problem, seed: int) -> Sampler:
        """The sampler.

        Raises:
            TypeError: what was made is no sampler.
        """
        sampler = self.make(problem, seed=seed)
        if isinstance(sampler, Sampler):
            return sampler
        raise TypeError(
            f"{self.spec} makes what is {kind_of(sampler)}, no sampler: a sampler has ask() and "
            "tell(outcomes)"
        )

    def check(self, problem: Problem, budget: int) -> None:
        """Make one before anything runs, for whatever budget.

        Raises:
            ValueError: it cannot be made, or is no sampler.
        """
        try:
            self(problem, 0)
        except Exception as error:
            raise failed(f"{self.spec}(problem, seed=0)", error) from error


def find_methods(specs: Sequence[str]) -> dict[str, Maker]:
    """What makes the sampler of each method, by the name that tables and files use.

    Args:
        specs: as for `find_method`.

    Raises:
        ValueError: no method, one that there is not, or two of one name.
    """
    check_methods(specs)
    return {short_name(spec): find_method(spec) for spec in specs}


def check_methods(specs: Sequence[str]) -> None:
    """Refuse methods whose tables and files would have one name, on any file system.

    Raises:
        ValueError: there are two, or no method at all.
    """
    if not specs:
        raise ValueError(f"there is no method to compare{nearest('', methods)}")
    seen: dict[str, str] = {}
    for spec in specs:
        if specs.count(spec) > 1:
            raise ValueError(f"method {spec!r} is named {specs.count(spec)} times; once is enough")
        other = seen.setdefault(short_name(spec).casefold(), spec)
        if other != spec:
            raise ValueError(
                f"{other!r} and {spec!r} have one name in tables and files, {short_name(spec)!r}; "
                "give one of your own another name"
            )


def find_method(spec: str, folder: Path | None = None) -> Maker:
    """What makes the sampler of a method.

    Args:
        spec: a name of `paretonas.samplers.methods`; or a user's own, ``my_file:Mine``: a class or
            a function that is called as ``Mine(problem, seed=0)`` and gives a sampler.
        folder: where files and modules are looked for, besides installed ones; the current folder
            by default.

    Raises:
        ValueError: there is no such method; the message says what there is, or what was found.
    """
    if not is_own(spec):
        if spec not in methods:
            raise unknown("method", spec, methods)
        return KnownMethod(spec)
    value = find(spec, folder, "method", _makes_samplers)
    if isinstance(value, Sampler) and not isinstance(value, type):
        raise ValueError(
            f"{spec} is a sampler that is made already; name its class "
            f"{type(value).__name__}, or a function that makes one for a problem and a seed"
        )
    if callable(value) and not is_class(value, nn.Module) and takes(value, object(), seed=0):
        return OwnMethod(spec, value)
    raise ValueError(
        f"{spec} is {kind_of(value)}, no method: a method is a class or a function that is called "
        "as Mine(problem, seed=0) and gives a sampler, with ask() and tell(outcomes)"
    )


def _makes_samplers(value: object) -> bool:
    return isinstance(value, type) and hasattr(value, "ask") and hasattr(value, "tell")
