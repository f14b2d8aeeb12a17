"""Several methods on one problem, each with several seeds, on equal budgets."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from paretonas._atomic import replacing
from paretonas._duration import time_limit
from paretonas._spreadsheet import escaped_frame
from paretonas._whole import whole
from paretonas.compare.anytime import Array, Curve, Reference
from paretonas.compare.folder import Record, at_work, check_begun
from paretonas.compare.summary import Row, summarize
from paretonas.compare.workers import Broken, Job, run_all
from paretonas.constraint import Constraint
from paretonas.direction import turned
from paretonas.front import Front
from paretonas.names import KnownMethod, OwnMethod, find_methods, problem_of
from paretonas.objectives.base import DifferentiableObjective, Objective, maximizes
from paretonas.objectives.latency import Latency
from paretonas.point import Point
from paretonas.problem import Problem
from paretonas.samplers import Failure
from paretonas.samplers.base import Maker, check_budget
from paretonas.space import SearchSpace, nearest, size
from paretonas.surrogates.feasible import refuse_unmet
from paretonas.table import Table

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("surgery", "nsga2", "tpe", "random")
Watch = Callable[[Record | Broken], None]


def compare(
    problem: Problem | SearchSpace | str,
    methods: Sequence[str] | Mapping[str, Maker] = METHODS,
    *,
    budget: int,
    seeds: int,
    constraint: Constraint | str | None = None,
    jobs: int | None = None,
    evaluation_timeout: float | str | None = None,
    folder: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: Watch | None = None,
) -> Comparison:
    """Let several methods search the same space, and score them against the best front known.

    All are billed alike, by `paretonas.samplers.sample`: an architecture costs an evaluation the
    first time that a run asks for it, a failure as well. The same arguments give the same results,
    apart from seconds, however many processes there are.

    >>> import pandas as pd
    >>> from paretonas.table import Table
    >>> rows = [{"a": a, "b": b, "ms": a + b, "error": (3 - a) * (4 - b)}
    ...         for a in range(4) for b in range(4)]
    >>> table = Table.from_pandas(pd.DataFrame(rows), ["a", "b"], ["error", "ms"])
    >>> found = compare(table, ["random", "nsga2"], budget=16, seeds=3)
    >>> found.curves["random", 0].fraction[-1]
    np.float64(1.0)

    Args:
        problem: the space and at least two objectives; or the space alone, or its name, such as
            "nas_bench_graph:cora", for the objectives that it knows. A space of networks is trained
            for its error. Scores are against the true front of a table that is complete; otherwise
            against the best front of all runs together.
        methods: names of `paretonas.samplers.methods`, also as one text, "surgery,random"; or what
            makes a sampler from a problem and a seed, by name. One of your own is
            "my_file:Aging", whose name is then ``Aging``. Tests compare each with the first.
        budget: evaluations of each run.
        seeds: how many runs of each method, with seeds 0, 1, 2...
        constraint: limits, such as "latency<=2ms", if the problem has none of its own. Scores and
            fronts are of feasible architectures; if no run finds one, of those with the least
            violation.
        jobs: how many processes, each of one thread; None runs all in this one. In a script of
            your own, processes need ``if __name__ == "__main__":``. With 0 nothing runs: what has
            ended in the folder is scored. If a process dies, its run goes on in another one, and an
            evaluation in which two have died has failed.
        evaluation_timeout: how long an evaluation may take, in seconds or as "10m"; then it has
            failed. It needs processes, which can be ended.
        folder: where each run is kept when it ends; a comparison goes on there if it was begun
            with the same settings, or with a smaller budget or fewer seeds. One process at a time
            can work there; with ``jobs=0`` it is only read. It keeps the tables of other devices.
        settings: what the user typed, plain values by name; kept in the folder.
        watch: is called with each run that ends.

    Raises:
        ValueError: limits that no architecture meets, as far as this is known before: of a table,
            and of costs without training; the message has the nearest. Limits beside those of the
            problem. A method that is unknown or named twice; a budget that is not positive or
            larger than the space; no seed; fewer than two objectives; a folder that holds something
            else, or the same with other settings or a larger budget, or that another process is at
            work in; a logarithm of what is not positive.
        TypeError: an argument of another kind, or a class in the place of a name.
    """
    problem = _limited(problem_of(problem), constraint)
    makers = _makers(methods)
    if settings is not None and not isinstance(settings, Mapping):
        raise TypeError(f"settings must be plain values by name, got {settings!r}")
    if watch is not None and not callable(watch):
        raise TypeError(f"watch must be a function of a run, got {watch!r}")
    _check(problem, budget, seeds, jobs)
    limit = time_limit(evaluation_timeout)
    if limit is not None and jobs is None:
        raise ValueError(
            "an evaluation can only be ended in a process of its own: give evaluation_timeout "
            "together with jobs=1 or more"
        )
    budget, seeds = int(budget), int(seeds)  # also numpy's
    folder = None if folder is None else Path(folder)
    space = problem.space
    table = space if isinstance(space, Table) and {*problem.columns} <= {*space.columns} else None
    truth = None if table is None else _truth(table, problem)
    if table is None and jobs != 0:
        refuse_unmet(problem.choices, _known(problem), problem.constraint)
    if jobs != 0:
        for maker in makers.values():
            if isinstance(maker, KnownMethod | OwnMethod):
                maker.check(problem, budget)
    job = Job(problem, makers, budget, folder)
    room: AbstractContextManager[None] = nullcontext()
    if folder is not None:
        identity = {
            "space": space.name,
            "architectures": size(problem.choices),
            "objectives": list(problem.columns),
            # Older versions did not write this; without it, all objectives are minimized.
            **({"maximize": list(problem.maximize)} if problem.maximize else {}),
            **({"backends": runners} if (runners := _backends(problem)) else {}),
            "log": list(problem.log),
            "free": list(problem.free),
            **(
                {"constraint": sorted(str(problem.constraint).split(","))}
                if problem.constraint
                else {}
            ),
            "methods": list(makers),
            "budget": budget,
            "seeds": seeds,
            "content": _fingerprint(problem, table),
        }
        if jobs == 0:
            check_begun(folder, identity, settings or {})
        else:
            room = at_work(folder, identity, settings or {}, problem.objectives)
    pairs = [(method, seed) for seed in range(seeds) for method in makers]
    records: dict[tuple[str, int], Record] = {}
    broken: dict[tuple[str, int], Broken] = {}
    with room, closing(run_all(job, pairs, jobs, limit)) as runs:
        for ended in runs:
            if isinstance(ended, Broken):
                broken[ended.method, ended.seed] = ended
            else:
                records[ended.method, ended.seed] = ended
            if watch is not None:
                watch(ended)
    order = [(method, seed) for method in makers for seed in range(seeds)]
    return Comparison(
        problem,
        tuple(makers),
        budget,
        seeds,
        {pair: records[pair] for pair in order if pair in records},
        tuple(broken[pair] for pair in order if pair in broken),
        truth,
    )


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What several methods found, and how good it is.

    Attributes:
        problem: what was searched.
        methods: their names; tests compare each with the first.
        budget: evaluations of each run.
        seeds: how many runs each method was to make.
        records: the runs that ended, by method and seed.
        broken: those that an exception ended.
        truth: the scale and the true front, where they are known.
    """

    problem: Problem
    methods: tuple[str, ...]
    budget: int
    seeds: int
    records: Mapping[tuple[str, int], Record]
    broken: tuple[Broken, ...]
    truth: Reference | None

    def __repr__(self) -> str:
        runs = f"{len(self.records)} of {len(self.methods) * self.seeds} runs"
        return (
            f"Comparison({', '.join(self.methods)} on {self.problem.space.name!r}: {runs} of "
            f"{self.budget} evaluations)"
        )

    def _repr_html_(self) -> str:
        """The share of the hypervolume over the seeds, at the end of the budget."""
        import pandas as pd

        head = f"<p>{escape(repr(self))}</p>"
        if self.truth is None and not any(len(self.front(method)) for method in self.methods):
            return head
        at_end = [
            row
            for row in self.summary
            if row.measure == "hypervolume_fraction" and row.evaluations == self.budget
        ]
        columns = ["median", "q1", "q3", "min"]
        found = {(row.method, row.statistic): row.value for row in at_end}
        frame = pd.DataFrame(
            [[found.get((method, column)) for column in columns] for method in self.methods],
            index=pd.Index(self.methods, name="share of the hypervolume"),
            columns=columns,
        )
        return head + frame.to_html(border=0, float_format="{:.4f}".format, na_rep="")

    @property
    def backends(self) -> dict[str, str]:
        """What runs the networks whose latency is an objective, by its column."""
        return _backends(self.problem)

    @cached_property
    def reference(self) -> Reference:
        """What is scored against: the truth, or else the best front of all runs together.

        Raises:
            ValueError: the truth is not known, and no run found a point.
        """
        if self.truth is not None:
            return self.truth
        found = [cost for costs in self.costs.values() for cost in costs if cost is not None]
        if not found:
            space, rows = self.problem.space, ""
            if isinstance(space, Table):
                there = len(space.architectures)
                rows = f"; {space.name} has rows for {there} of {size(space.choices)} architectures"
            raise ValueError(f"no run found a single point: there is nothing to compare{rows}")
        return Reference.of(np.array(found), true=False)

    @cached_property
    def costs(self) -> dict[tuple[str, int], list[Array | None]]:
        """The costs of each evaluation, logarithms taken; None for one that failed.

        With a constraint None for one that is not feasible either. If none is feasible in any run,
        those with the least violation have costs.

        Steps that train a supernet count as evaluations without costs, before all others.
        """
        least = self.least_violation()
        return {pair: self._costs(record, least) for pair, record in self.records.items()}

    @cached_property
    def curves(self) -> dict[tuple[str, int], Curve]:
        """How good each run was after each evaluation."""
        return {
            pair: Curve.of(costs, self.reference, self.budget) for pair, costs in self.costs.items()
        }

    @cached_property
    def summary(self) -> tuple[Row, ...]:
        """What the seeds say together; see `paretonas.compare.summary`."""
        return tuple(summarize(self))

    def front(self, method: str) -> Front:
        """The front of all that a method found, with any seed.

        With a constraint, of what is feasible; if a method found nothing feasible, of what it found
        with the least violation.

        Raises:
            ValueError: no method is called so.
        """
        if method not in self.methods:
            raise ValueError(f"no method is called {method!r}{nearest(method, self.methods)}")
        front = Front(self.problem.columns, self.problem.maximize)
        for point in self.problem.best(self._points(method)):
            front.add(point)
        return front

    def least_violation(self, method: str | None = None, seed: int | None = None) -> float:
        """How far the best point is beyond the limits: 0 if one is feasible, infinite for none.

        Args:
            method: of which runs; by default of all.
            seed: likewise.
        """
        return min(map(self.problem.violation, self._points(method, seed)), default=math.inf)

    def anytime(self) -> pd.DataFrame:
        """One row per method, seed and evaluation."""
        import pandas as pd

        parts = [
            pd.DataFrame(
                {
                    "method": method,
                    "seed": seed,
                    "evaluations": np.arange(1, self.budget + 1),
                    "hypervolume": curve.hypervolume,
                    "hypervolume_fraction": curve.fraction,
                    "igd_plus": curve.igd_plus,
                }
            )
            for (method, seed), curve in self.curves.items()
        ]
        return pd.concat(parts, ignore_index=True)

    def evaluations(self) -> pd.DataFrame:
        """One row per evaluation of each run: its picks, what it found, whether it failed.

        Where latency is an objective also what runs the networks, such as ``onnxruntime``. With a
        constraint also how far it is beyond the limits, 0 if it is feasible.
        """
        import pandas as pd

        choices = [choice.name for choice in self.problem.choices]
        limited = [objective.column for objective in self.problem.limited]
        beyond = ["violation"] if self.problem.constraint else []
        # By place, not by name: a choice may well be called "method".
        columns = ["method", "seed", "evaluation", *choices, *self.problem.columns, *limited]
        runners = {o.backend_column: o.backend for o in _latencies(self.problem)}
        columns += [*runners, *beyond, "failed"]
        rows: list[tuple[object, ...]] = []
        for (method, seed), record in self.records.items():
            first = 1 + record.ledger.weight_evaluations
            for number, outcome in enumerate(record.outcomes, start=first):
                picks = (outcome.architecture[name] for name in choices)
                point = None if isinstance(outcome, Failure) else outcome
                values = (point and point.objectives[c] for c in self.problem.columns)
                others = (point and point.reported[c] for c in limited)
                far = (point and self.problem.violation(point) for _ in beyond)
                found = (*values, *others, *runners.values(), *far)
                rows.append((method, seed, number, *picks, *found, point is None))
        return pd.DataFrame(rows, columns=columns)

    def write(self, folder: Path) -> None:
        """Write ``anytime.csv``, ``summary.csv``, ``evaluations.csv`` and ``front-METHOD.csv``."""
        import pandas as pd

        files = {
            "anytime": self.anytime(),
            "summary": pd.DataFrame(self.summary).astype({"evaluations": "Int64"}),
            "evaluations": self.evaluations(),
        }
        for name, frame in files.items():
            with replacing(folder / f"{name}.csv") as draft:
                escaped_frame(frame).to_csv(draft, index=False, lineterminator="\n")
        for method in self.methods:
            self.front(method).write(folder / f"front-{method}.csv")

    def _points(self, method: str | None = None, seed: int | None = None) -> Iterator[Point]:
        for (name, number), record in self.records.items():
            if method in (None, name) and seed in (None, number):
                yield from (o for o in record.outcomes if isinstance(o, Point))

    def _costs(self, record: Record, least: float) -> list[Array | None]:
        found = [o for o in record.outcomes if isinstance(o, Point)]
        good = {id(point) for point in found if self.problem.violation(point) <= least}
        rows: Iterator[Array] = iter(self.problem.costs([point.objectives for point in found]))
        costs = {id(point): row for point, row in zip(found, rows, strict=True)}
        before: list[Array | None] = [None] * record.ledger.weight_evaluations
        return before + [costs[id(o)] if id(o) in good else None for o in record.outcomes]


def _makers(methods: Sequence[str] | Mapping[str, Maker]) -> dict[str, Maker]:
    if isinstance(methods, str):
        methods = [name.strip() for name in methods.split(",")]
    if not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"methods must be names, or makers by name, got {methods!r}")
    names = list(methods)
    for name in names:
        if not isinstance(name, str):
            what = f"the class {name.__name__}" if isinstance(name, type) else repr(name)
            raise TypeError(
                "methods must be names such as 'surgery', or makers by name, as in "
                f"{{'mine': lambda problem, seed: Mine(problem, seed=seed)}}, got {what}"
            )
    if isinstance(methods, Mapping) and names:
        for name in names:
            if not re.fullmatch(r"[\w.+-]{1,100}", name):
                raise ValueError(f"the name of a method becomes that of a file, got {name!r}")
            if not callable(methods[name]):
                raise TypeError(
                    f"method {name!r} must be what makes a sampler from a problem and a seed, "
                    f"got {methods[name]!r}"
                )
        return dict(methods)
    return find_methods(names)


def _limited(problem: Problem, constraint: Constraint | str | None) -> Problem:
    """The problem with limits.

    Raises:
        ValueError: it has others already.
    """
    if constraint is None:
        return problem
    if problem.constraint:
        raise ValueError(f"the problem has limits of its own: {problem.constraint}")
    return replace(problem, constraint=constraint)  # type: ignore[arg-type]  # a text is read


def _known(problem: Problem) -> list[Objective]:
    """What is known of an architecture without an evaluation: what is free, or tabulated."""
    return [
        objective
        for objective in problem.evaluated
        if isinstance(objective, Objective)
        and (objective.column in problem.free or isinstance(objective, DifferentiableObjective))
    ]


def _latencies(problem: Problem) -> list[Latency]:
    return [objective for objective in problem.objectives if isinstance(objective, Latency)]


def _backends(problem: Problem) -> dict[str, str]:
    return {objective.column: objective.backend for objective in _latencies(problem)}


def _check(problem: Problem, budget: int, seeds: int, jobs: int | None) -> None:
    if len(problem.columns) < 2:
        raise ValueError(f"a comparison needs at least two objectives, got {problem.columns[0]!r}")
    check_budget(budget, problem)
    if whole("seeds", seeds, 0) < 1:
        raise ValueError(f"a comparison needs at least one seed, got {seeds}")
    if jobs is not None:
        whole("jobs", jobs, 0)


def _truth(table: Table, problem: Problem) -> Reference | None:
    """The scale and the front over the rows that count; None unless every row is there."""
    rows = table.costs[table.allowed]
    values = {
        objective.column: turned(column, maximizes(objective))
        for objective, column in zip(table.objectives, rows.T, strict=True)
    }
    costs = np.column_stack(  # refuses a logarithm of 0 before anything runs
        [problem.costs_of(o, values[o.column]) for o in problem.objectives]
    )
    if problem.constraint:
        limited = {name: values[name].tolist() for name in problem.constraint.limits}
        named = [
            dict(zip(limited, row, strict=True)) for row in zip(*limited.values(), strict=True)
        ]
        feasible = [problem.constraint.satisfied(row) for row in named]
        if not any(feasible):
            raise ValueError(problem.constraint.unmet(named))
        costs = costs[feasible]
    if not table.complete:
        return None
    truth = Reference.of(costs, true=True)
    if truth.hypervolume == 0:
        raise ValueError(
            f"the {len(truth.front)} best rows of {table.name} dominate no volume, so there is "
            "nothing to compare: each is the worst in some objective"
        )
    return truth


def _fingerprint(problem: Problem, table: Table | None) -> str:
    """Changes with the choices, and with the content of a table."""
    content = hashlib.sha256(repr(problem.choices).encode())
    if table is not None:
        content.update(repr(sorted(map(str, table.architectures))).encode())
        order = sorted(range(len(table.architectures)), key=lambda i: str(table.architectures[i]))
        content.update(table.costs[order].tobytes() + table.allowed[order].tobytes())
    return content.hexdigest()[:16]
