"""How a budget is divided: weight steps of the supernet, proxy evaluations, finalists."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from ..training import Recipe

SUPERNET_SHARE = 0.3  # of the weight steps; the finalists get the rest
DEFAULT_STEPS = 4500


@dataclass(frozen=True)
class Budget:
    """Weight steps, or seconds; by default as many steps as a small space needs.

    Attributes:
        steps: steps of training, on every machine the same; None with a budget in seconds.
        seconds: wall clock, everything included; None with a budget in steps.

    Raises:
        ValueError: a number that is not positive, or seconds without end.

    >>> Budget.parse("90s")
    Budget(steps=None, seconds=90.0)
    >>> Budget.parse("200steps").steps
    200
    """

    steps: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            object.__setattr__(self, "steps", DEFAULT_STEPS)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be positive and finite, got {self.seconds}")

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Read ``90s``, ``2m``, ``1h`` or ``200steps``.

        Raises:
            ValueError: it reads otherwise, or is not positive.
        """
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(steps?|s|m|min|h)\s*", text)
        if match is None:
            raise ValueError(f"a budget reads 90s, 2m, 1h or 200steps; got {text!r}")
        number, unit = float(match[1]), match[2]
        if number <= 0 or (unit.startswith("step") and number != int(number)):
            raise ValueError(f"a budget must be a positive number of steps or time, got {text!r}")
        if unit.startswith("step"):
            return cls(steps=int(number))
        return cls(seconds=number * {"s": 1, "m": 60, "min": 60, "h": 3600}[unit])


def budget_of(value: object) -> Budget | Plan:
    """A budget or a plan, given as such or as text for `Budget.parse`.

    Raises:
        ValueError: a text that is no budget.
        TypeError: something else was given.
    """
    if isinstance(value, str):
        return Budget.parse(value)
    if isinstance(value, Budget | Plan):
        return value
    raise TypeError(
        f"budget must be a Budget, a Plan, or a text such as '90s' or '600steps', got {value!r}"
    )


@dataclass(frozen=True)
class Plan:
    """What a search will do.

    Attributes:
        supernet_steps: weight steps on single paths.
        proxy_evaluations: architectures to score with inherited weights.
        finalists: architectures to train properly.
        recipe: how; the space's own, with fewer epochs where the budget is small.

    Raises:
        ValueError: nothing to train, to score or to finish with.
    """

    supernet_steps: int
    proxy_evaluations: int
    finalists: int
    recipe: Recipe

    def __post_init__(self) -> None:
        for name, least in (("supernet_steps", 1), ("proxy_evaluations", 2), ("finalists", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")

    @classmethod
    def of(cls, steps: int, recipe: Recipe, epoch: int, architectures: int) -> Plan:
        """Divide weight steps between the supernet and the finalists.

        Args:
            steps: in all.
            recipe: how a finalist should be trained.
            epoch: the steps of one epoch.
            architectures: in the space; none is scored twice.

        Raises:
            ValueError: not enough for one step of the supernet and one epoch of two finalists.
        """
        least = 2 * epoch + 1
        if steps < least:
            raise ValueError(
                f"the budget makes no search possible: an epoch of two finalists and a step of the "
                f"supernet are {least} steps, got {steps}"
            )
        fine = max(2 * epoch, round(steps * (1 - SUPERNET_SHARE)))  # less than all the steps
        wanted = min(4, fine // epoch)  # a front of fewer says little: shorten training instead
        epochs = max(1, min(recipe.epochs, fine // (wanted * epoch)))
        finalists = min(fine // (epochs * epoch), architectures)
        return cls(
            supernet_steps=steps - fine,
            proxy_evaluations=proxy_evaluations_for(steps - fine, architectures),
            finalists=finalists,
            recipe=replace(recipe, epochs=epochs),
        )


def proxy_evaluations_for(steps: int, architectures: int) -> int:
    """How many proxy evaluations go with so many weight steps; none is repeated."""
    return min(architectures, max(12, min(160, steps // 6)))
