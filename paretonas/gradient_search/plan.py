"""How a budget is divided: weight steps of the supernet, proxy evaluations, finalists."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from .._duration import seconds_in
from ..runs import Run
from ..training import Recipe
from .clock import Clock

SUPERNET_SHARE = 0.3  # of the weight steps; the finalists get the rest
WEIGHTS_TIME, ALPHA_TIME = 0.26, 0.2  # of a budget in seconds; the finalists get the rest
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
        seconds = seconds_in(text)
        steps = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*steps?\s*", text)
        if seconds is None and steps is None:
            raise ValueError(f"a budget reads 90s, 2m, 1h or 200steps; got {text!r}")
        number = float(steps[1]) if steps else seconds
        if not number or (steps and number != int(number)):
            raise ValueError(f"a budget must be a positive number of steps or time, got {text!r}")
        return cls(steps=int(number)) if steps else cls(seconds=number)

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.steps}steps" if self.seconds is None else f"{self.seconds:g}s"


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
        restarts: weight steps at which smaller budgets ended; the learning rate begins anew there.
        repair: of the finalists, the share that is kept until the others have been measured, if
            there are limits on what is measured; 0 for none.

    Raises:
        ValueError: nothing to train, to score or to finish with; or a share outside [0, 1).
    """

    supernet_steps: int
    proxy_evaluations: int
    finalists: int
    recipe: Recipe
    restarts: tuple[int, ...] = ()
    repair: float = 0.25

    def __post_init__(self) -> None:
        for name, least in (("supernet_steps", 1), ("proxy_evaluations", 2), ("finalists", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be {least} or more, got {getattr(self, name)}")
        if not 0 <= self.repair < 1:
            raise ValueError(f"repair must be a share of at least 0 and below 1, got {self.repair}")

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
        least = cls.least(epoch)
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

    @staticmethod
    def least(epoch: int) -> int:
        """The fewest weight steps of a search: an epoch of two finalists, a step of a supernet."""
        return 2 * epoch + 1

    def grown(self, larger: Plan) -> Plan:
        """A larger plan that goes on from what this one has done.

        Raises:
            ValueError: it is smaller in some number.
        """
        for name in ("supernet_steps", "proxy_evaluations", "finalists", "epochs"):
            before, now = (
                p.recipe.epochs if name == "epochs" else getattr(p, name) for p in (self, larger)
            )
            longer = larger.recipe.epochs > self.recipe.epochs  # fewer finalists, each better
            if now < before and not (name == "finalists" and longer):
                raise ValueError(f"a budget can only grow: {before} {name} before, now {now}")
        more = larger.supernet_steps > self.supernet_steps
        restarts = (*self.restarts, self.supernet_steps) if more else self.restarts
        return replace(larger, restarts=restarts)


def full_training(recipe: Recipe, epoch: int) -> int:
    """The fewest weight steps with which `Plan.of` trains finalists for all epochs of a recipe."""
    return math.ceil(4 * recipe.epochs * epoch / (1 - SUPERNET_SHARE)) + 1


def seconds_per_step(step: float, workers: int) -> float:
    """Of wall time a weight step, everything else spread over the weight steps.

    Args:
        step: seconds of a step of the supernet.
        workers: how many finalists are trained side by side.
    """
    # The steps of the supernet have proxy evaluations and alpha beside them. The other steps train
    # finalists, with alpha and the measuring between them.
    fine = 1.1 / workers + 0.3
    return step * (SUPERNET_SHARE * 1.8 + (1 - SUPERNET_SHARE) * fine)


def too_small(clock: Clock, what: str, seconds: float) -> ValueError:
    """The error of a budget in seconds in which no search fits.

    Args:
        clock: of the search.
        what: takes the time, in words.
        seconds: that the smallest search takes, as far as is known.
    """
    return ValueError(
        f"a budget of {clock.seconds:g} s is too small: {what}; give {in_words(1.2 * seconds)} or "
        "more"
    )


def in_words(seconds: float) -> str:
    """A round number of seconds or minutes that is not smaller, as `Budget.parse` reads it.

    >>> in_words(41), in_words(61), in_words(200)
    ('45s', '90s', '4m')
    """
    if seconds <= 60:
        return f"{math.ceil(seconds / 5) * 5}s"
    return "90s" if seconds <= 90 else f"{math.ceil(seconds / 60)}m"


def plain(budget: Budget | Plan) -> dict[str, Any]:
    """A budget in plain values, for ``run.json``."""
    if isinstance(budget, Plan):
        numbers = {n: v for n, v in asdict(budget).items() if n not in ("recipe", "restarts")}
        if budget.repair == Plan.repair:  # as older runs, which have no other
            del numbers["repair"]
        return {"plan": numbers | {"epochs": budget.recipe.epochs}}
    return {"steps": budget.steps} if budget.seconds is None else {"seconds": budget.seconds}


def last_budget(run: Run) -> str | None:
    """The last budget of a run as text; None if it does not tell one."""
    match run.about.get("budgets"):
        case [*_, {"seconds": int() | float() as seconds}]:
            return str(Budget(seconds=seconds))
        case [*_, {"steps": int() as steps}]:
            return str(Budget(steps=steps))
    return None


def proxy_evaluations_for(steps: int, architectures: int) -> int:
    """How many proxy evaluations go with so many weight steps; none is repeated."""
    return min(architectures, max(12, min(160, steps // 6)))
