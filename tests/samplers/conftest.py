"""Small tasks whose costs a test says itself."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from paretonas.problem import Problem
from paretonas.space import Choice, encode


@dataclass(frozen=True)
class Space:
    choices: tuple[Choice, ...]
    name: str = "toy"


@dataclass
class Cost:
    """What a function says of the picks, and which architectures it was asked about."""

    column: str
    function: Callable[[tuple[int, ...]], float]
    choices: tuple[Choice, ...]
    asked: list[Mapping[str, str]] = field(default_factory=list)

    def exact(self, architecture):
        self.asked.append(architecture)
        return self.function(encode(self.choices, architecture))


@pytest.fixture
def problem_of():
    """problem_of(choices, first=function of picks, ...) -> Task; without functions, two sums."""

    def build(choices, *, log=(), free=(), constraint=None, **functions):
        functions = functions or {"up": sum, "down": lambda picks: 10.0 - sum(picks)}
        costs = tuple(Cost(column, function, choices) for column, function in functions.items())
        return Problem(Space(choices), costs, log=log, free=free, constraint=constraint)

    return build


@pytest.fixture
def grid():
    """grid(sizes) -> choices with so many options."""

    def build(*sizes):
        return tuple(
            Choice(f"c{place}", tuple(f"o{option}" for option in range(size)))
            for place, size in enumerate(sizes)
        )

    return build
