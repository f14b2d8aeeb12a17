"""Samplers propose whole architectures and learn from what they cost: ask and tell."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from paretonas._whole import whole
from paretonas.evaluation import Evaluation, Journal, Ledger, predicted
from paretonas.front import Front
from paretonas.objectives.base import AnyObjective
from paretonas.point import Failure, Outcome, Point
from paretonas.problem import Problem
from paretonas.space import Architecture, encode, size

PATIENCE = 300  # proposals in a row that were all known, after which a sampler has converged


Maker = Callable[[Problem, int], "Sampler"]
"""Makes the sampler of a method from a problem and a seed."""


@runtime_checkable
class Sampler(Protocol):
    """Proposes architectures, is told what they cost, and proposes better ones.

    `ask` and `tell` take turns. `tell` gets the outcome of each architecture that `ask` proposed,
    in that order, also if it was evaluated before. When the budget ends, the last `tell` may get
    only the first of them. `tell` may also get architectures that were never proposed.
    """

    def ask(self) -> Sequence[Architecture]:
        """What to evaluate next; nothing if there is nothing left to propose."""
        ...

    def tell(self, outcomes: Sequence[Outcome]) -> None:
        """What the evaluations found."""
        ...


@runtime_checkable
class OneShot(Protocol):
    """A sampler that trains a supernet of its own, which is billed as well.

    `sample` asks it for a plan before anything else, and reads its counts after each `ask`.
    """

    proxy_evaluations: int
    weight_steps: int
    weight_evaluations: int

    def plan(self, budget: int) -> None:
        """Divide the budget, in evaluations, between the supernet and whole architectures."""
        ...


def sample(
    problem: Problem,
    sampler: Sampler,
    front: Front,
    *,
    budget: int,
    ledger: Ledger | None = None,
    journal: Journal | None = None,
    known: Mapping[Architecture, Outcome] | None = None,
    watch: Callable[[Architecture], None] | None = None,
) -> Iterator[Outcome]:
    """Evaluate what a sampler asks for until the budget is spent, and fill the front.

    An evaluation that raises, or finds what is not finite, has failed: it is billed, told to the
    sampler as a `Failure`, and never enters the front. An architecture that was evaluated before
    is not evaluated again and costs nothing. Ends early if the sampler has nothing left to propose,
    or has proposed nothing new `PATIENCE` times in a row.

    With a constraint only feasible points enter the front. If none is found, `Problem.best` of the
    points that were yielded gives those with the least violation.

    Args:
        problem: the space that the sampler may pick from, and what to evaluate.
        sampler: proposes.
        front: gets every feasible point.
        budget: how many architectures may be evaluated, each counted once.
        ledger: where the evaluations and the seconds are counted, if that is wanted.
        journal: where each new outcome is written, if it is wanted.
        known: outcomes of an earlier, interrupted run. They are billed when the sampler comes to
            ask for them, but not evaluated anew: a sampler with the same seed goes on where that
            run stopped.
        watch: is called with each architecture before it is evaluated.

    Yields:
        Each new point or failure, in the order of evaluation.

    Raises:
        ValueError: a budget that is not positive or is larger than the space, objectives other than
            the front's or in another direction, or an architecture that is none of the space.
        TypeError: a class in the place of a sampler, or one that asks for something else than
            architectures.
    """
    if isinstance(sampler, type):
        raise TypeError(
            f"sampler must be an object, got a class: write {sampler.__name__}(problem, seed=0)"
        )
    if not isinstance(sampler, Sampler):
        raise TypeError(
            f"sampler must have ask() and tell(outcomes), such as Random(problem), got {sampler!r}"
        )
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a Problem(space, objectives), got {problem!r}")
    if set(problem.columns) != set(front.objectives):
        raise ValueError(
            f"the front has {', '.join(front.objectives)}, "
            f"the objectives are {', '.join(problem.columns)}"
        )
    if set(problem.maximize) != set(front.maximize):
        raise ValueError(
            f"the front maximizes {', '.join(front.maximize) or 'nothing'}, the problem "
            f"{', '.join(problem.maximize) or 'nothing'}; use "
            "Front(problem.columns, maximize=problem.maximize)"
        )
    check_budget(budget, problem)
    ledger = ledger if ledger is not None else Ledger()
    evaluation = Evaluation(
        [predicted(one) for one in problem.objectives],
        journal=journal,
        ledger=ledger,
        reported=[predicted(one) for one in problem.limited],
    )
    one_shot = sampler if isinstance(sampler, OneShot) else None
    if one_shot is not None:
        one_shot.plan(budget)
    seen: dict[Architecture, Outcome] = {}
    idle = 0
    while len(seen) + ledger.weight_evaluations < budget and idle < PATIENCE:
        start = time.perf_counter()
        asked = list(sampler.ask())
        ledger.thinking_seconds += time.perf_counter() - start
        if one_shot is not None:
            ledger.proxy_evaluations = one_shot.proxy_evaluations
            ledger.weight_steps = one_shot.weight_steps
            ledger.weight_evaluations = one_shot.weight_evaluations
        if not asked:
            return
        outcomes: list[Outcome] = []
        for architecture in asked:
            if not isinstance(architecture, Architecture):
                raise TypeError(
                    f"a sampler asks for Architecture(...), got {type(architecture).__name__}"
                )
            if architecture in seen:
                ledger.duplicates += 1
                idle += 1
                outcomes.append(seen[architecture])
                continue
            if len(seen) + ledger.weight_evaluations >= budget:
                break
            encode(problem.choices, architecture)
            outcome = (known or {}).get(architecture)
            if outcome is None:
                if watch is not None:
                    watch(architecture)
                (outcome,) = evaluation([architecture])
            else:
                ledger.evaluations += 1
                ledger.failures += isinstance(outcome, Failure)
            seen[architecture] = outcome
            outcomes.append(outcome)
            idle = 0
            if isinstance(outcome, Point) and not problem.violation(outcome):
                front.add(outcome)
            yield outcome
        start = time.perf_counter()
        sampler.tell(outcomes)
        ledger.thinking_seconds += time.perf_counter() - start


def check_budget(budget: object, problem: Problem) -> None:
    """Refuse a budget that cannot be spent.

    Raises:
        TypeError: it is no whole number.
        ValueError: it is not positive, or larger than the space.
    """
    most = size(problem.choices)
    if not 1 <= whole("budget", budget, -math.inf) <= most:
        raise ValueError(
            f"the budget must be from 1 to the {most} architectures of the space, got {budget}"
        )


def evaluate(architecture: Architecture, objectives: Sequence[AnyObjective]) -> Outcome:
    """The point of an architecture, or the failure that its evaluation ended in."""
    (outcome,) = Evaluation(objectives)([architecture])
    return outcome
