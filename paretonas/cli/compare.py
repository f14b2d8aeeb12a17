"""`paretonas compare`: methods side by side on a table or a space, shown and written down."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from paretonas._duration import time_limit
from paretonas._threads import cores
from paretonas.cli.display import console
from paretonas.cli.fallback import or_in_torch
from paretonas.cli.find import Consent
from paretonas.cli.fitted import FittedTable
from paretonas.cli.stop import go_on_with
from paretonas.compare import Broken, Comparison, compare
from paretonas.compare.comparison import METHODS
from paretonas.compare.folder import ABOUT, Record, backends_of, columns_of, read_about
from paretonas.compare.summary import disagreement, feasibility, objectives_of
from paretonas.constraint import Constraint, resolve
from paretonas.devices import find_backend, find_device
from paretonas.evaluation import Ledger
from paretonas.names import (
    check_columns,
    check_methods,
    find_any_space,
    find_method,
    find_objectives,
    is_own,
    problem_of,
    short_name,
)
from paretonas.nn import NetworkSpace
from paretonas.objectives import CostTable, Latency
from paretonas.objectives.base import AnyObjective
from paretonas.objectives.default import BESIDE_THE_METRIC, NAMES, default_objectives
from paretonas.objectives.table_latency import is_on_device, kept, table_file
from paretonas.problem import Problem
from paretonas.report.comparison import write_comparison
from paretonas.runs import free_folder
from paretonas.samplers.base import Maker, Sampler
from paretonas.space import SearchSpace, encode, nearest
from paretonas.table import Table
from paretonas.table.file import read_frame
from paretonas.table.spelling import tidy

DEFAULTS: Mapping[str, Any] = {
    "methods": [*METHODS],
    "budget": 100,
    "seeds": 10,
}

_TEXT = "a text", lambda value: isinstance(value, str)
_TEXTS = (
    "a list of texts",
    lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
)
_COUNT = "an integer from 1", lambda value: type(value) is int and 1 <= value < 2**31
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("space", "folder", "table", "where", "average", "device", "backend"), _TEXT),
    **dict.fromkeys(("methods", "choices", "minimize", "maximize"), _TEXTS),
    **dict.fromkeys(("log", "free", "constraint"), _TEXTS),
    **dict.fromkeys(("budget", "seeds"), _COUNT),
}


def begin(out: Path | None, jobs: int | None, timeout: str | None, **settings: Any) -> None:
    """Compare as the settings say; in a folder where the same was begun before, go on."""
    time_limit(timeout)  # refuses what is none before anything else
    settings = {**DEFAULTS, **settings}
    space = find_any_space(settings["space"]) if "space" in settings else None
    begun = read_about(out) if out and (out / ABOUT).exists() else None
    request = _Request.of(settings, Path.cwd(), space, begun)
    if out and begun:
        request = request.with_tables(out, those_gone=True)
    parts = {
        "space": [settings["space"]] if "space" in settings else [],
        "methods": settings["methods"],
        "minimize": [*request.own],
    }
    folder = out or free_folder(_named_after(settings))
    _compare(folder, jobs, timeout, request, Consent(parts))


def go_on(
    folder: Path, jobs: int | None, timeout: str | None, consent: Consent, **more: int
) -> None:
    """Go on with a comparison as it was begun, or with a larger ``budget`` and more ``seeds``."""
    time_limit(timeout)
    request = _recorded(folder, consent, **more).with_tables(folder)
    consent.check("methods", folder, request.settings["methods"])
    consent.check("minimize", folder, request.own)
    if more and "search" in request.settings["methods"]:
        print(
            "search divides its budget between a supernet and finalists: for a larger one it "
            "trains a new supernet; finalists that are known are not trained again",
            flush=True,
        )
    _compare(folder, jobs, timeout, request, consent)


def redraw(folder: Path, page: Path, consent: Consent) -> None:
    """Draw the page of a comparison from the runs that have ended; none is run.

    So no code of methods and objectives is needed, only their names; and nothing is timed, so the
    device, the backend and the tables need not be here.
    """
    request, about = _recorded(folder, consent), read_about(folder)
    measured_here = request.table is None and _is_trained(request.space)
    known = () if measured_here else request.known()
    runners = backends_of(about) if measured_here else {}
    problem = request.problem(known, _stand_ins(about, runners)[len(known) :])
    methods = {short_name(spec): _runs_nothing for spec in request.settings["methods"]}
    comparison = _compared(folder, request, problem, methods, jobs=0)
    write_comparison(comparison, page, request.settings, str(about.get("started", "")))


def _recorded(folder: Path, consent: Consent, **more: int) -> _Request:
    """What a comparison was asked for, with a larger budget and more seeds if they are given."""
    about = read_about(folder)
    settings = {**about["asked"], **more}
    for name, value in {"folder": about["folder"], **settings}.items():
        kind, fits = _KINDS.get(name, ("", lambda _: True))
        if not fits(value):
            raise ValueError(f"{folder}: the setting {name!r} must be {kind}, got {value!r:.80}")
    for name in DEFAULTS:
        if name not in settings:
            raise ValueError(
                f"{folder} has no setting {name!r}; a comparison that was begun from Python goes "
                "on there: give the folder to paretonas.compare, with the arguments of the first "
                "time"
            )
    home = Path(about["folder"])
    space = None
    if "space" in settings or consent.named.get("space"):
        space = consent.space(folder, {"space": settings.get("space"), "folder": home})
    return _Request.of(settings, home, space, about)


@dataclass(frozen=True)
class _Request:
    """What the user wants to compare. No code of methods and objectives has run yet.

    Attributes:
        settings: the options that were given.
        home: where files and parts of the user's own are found.
        space: the one that was named.
        table: the table, if the comparison is on one.
        own: the objectives that are somebody's own.
        backends: what runs networks, by the column of their latency, as the folder tells it with
            which this goes on.
        tables: the names of objectives by tables that this folder keeps, for those of the settings.
    """

    settings: Mapping[str, Any]
    home: Path
    space: SearchSpace | None
    table: Table | None
    own: tuple[str, ...]
    backends: Mapping[str, str] = field(default_factory=dict)
    tables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Any],
        home: Path,
        space: SearchSpace | None,
        begun: Mapping[str, Any] | None = None,
    ) -> _Request:
        """Read the table, and tell objectives of the user's own from columns.

        Args:
            settings: the options that were given.
            home: where files and parts of the user's own are found.
            space: the one that was named.
            begun: what the folder tells with which this goes on.

        Raises:
            ValueError: neither a space nor a table, or options that do not belong together.
        """
        minimize = settings.get("minimize", [])
        if "backend" in settings and ("table" in settings or not _is_trained(space)):
            raise ValueError("--backend runs networks, and these were measured: leave it out")
        if "device" in settings and ("table" in settings or not _is_trained(space)):
            what = "a table" if "table" in settings or space is None else space.name
            raise ValueError(f"--device says where networks are trained; {what} has none")
        if "table" in settings:
            columns = _header(home / settings["table"], minimize)
            own = tuple(name for name in minimize if is_own(name) and tidy(name) not in columns)
            table = _table(space, _with_limited(settings, home, own), home)
            return cls(settings, home, space, table, own)
        if space is None:
            raise ValueError(
                "compare needs --space S, or --table FILE with --choices and --minimize or "
                "--maximize"
            )
        of_a_file = ("maximize", "where", "average", "choices")
        options = [f"--{name}" for name in of_a_file if name in settings]
        if options:
            named = " and ".join(options)
            raise ValueError(f"{named} name columns of a file; give it with --table FILE")
        names = {o.column for o in getattr(space, "objectives", None) or ()}
        own = tuple(name for name in minimize if is_own(name) and name not in names)
        return cls(settings, home, space, None, own, backends_of(begun) if begun else {})

    def with_tables(self, folder: Path, *, those_gone: bool = False) -> _Request:
        """The same, with the latency tables that a folder keeps.

        Args:
            folder: of the comparison.
            those_gone: only in the place of files that are not there any more; one that is there
                and has changed will be refused.
        """
        names = self.settings.get("minimize", ())
        wanted = [n for n in names if not (those_gone and table_file(n, self.home))]
        return replace(self, tables={name: kept(name, folder) for name in wanted})

    def check_backend(self) -> None:
        """Refuse a backend that this machine cannot run; to draw a page nothing is run."""
        if "backend" in self.settings:
            find_backend(self.settings["backend"], self.settings.get("device", "cpu"))

    def runners(self) -> Mapping[str, str] | None:
        """What runs networks by the column of their latency, as far as it is known.

        A backend that was named is that of the comparison's device; another one has its default.
        """
        named = {}
        if "backend" in self.settings:
            device = find_device(self.settings.get("device", "cpu")).type
            named = dict.fromkeys(("latency_ms", f"latency_{device}_ms"), self.settings["backend"])
        return {**named, **self.backends} or None

    def known(self) -> tuple[AnyObjective, ...]:
        """The objectives that are nobody's own, in the order of the settings."""
        if self.table is not None:
            named = [*self.settings.get("minimize", []), *self.settings.get("maximize", [])]
            named = [tidy(name) for name in named if name not in self.own]
            return tuple(o for o in self.table.objectives if o.column in named)
        space = self.space
        assert space is not None
        names = [name for name in self.settings.get("minimize", ()) if name not in self.own]
        if _is_trained(space):
            _check_known([n for n in names if not is_on_device(n)], ["error", *NAMES])
            beside = [name for name in names if name != "error"]
            wanted = beside if "minimize" in self.settings else BESIDE_THE_METRIC
            make = partial(
                default_objectives,
                space,
                [self.tables.get(name, name) for name in wanted],
                folder=self.home,
                device=self.settings.get("device", "cpu"),
            )
            return or_in_torch(make, self.runners())
        if "minimize" not in self.settings:
            return problem_of(space).objectives
        there = getattr(space, "objectives", None)
        by_column = {objective.column: objective for objective in there or ()}
        return tuple(by_column[column] for column in _columns(by_column, names))

    def problem(self, known: Sequence[AnyObjective], own: Sequence[AnyObjective]) -> Problem:
        """The problem that the options stand for."""
        objectives = (*known, *own)
        columns = [objective.column for objective in objectives]
        check_columns(columns)
        space = self.space if self.table is None else self.table
        assert space is not None
        log = _columns(columns, self.settings.get("log", []))
        free = tuple(map(tidy, self.settings.get("free", [])))
        limits: Any = ",".join(self.settings.get("constraint", [])) or None
        return Problem(space, objectives, log, free, limits)


def _stand_ins(about: Mapping[str, Any], runners: Mapping[str, str]) -> list[AnyObjective]:
    """What stands for the objectives of a comparison where nothing is evaluated.

    Args:
        about: what its folder tells.
        runners: what ran its networks, by the column of their latency.
    """
    upward = about["settings"].get("maximize", [])
    return [
        Latency(CostTable((), (), unit="ms"), column.removesuffix("_ms"), backend=runners[column])
        if column in runners
        else _Column(column, maximize=column in upward)
        for column in columns_of(about)
    ]


@dataclass(frozen=True)
class _Column:
    """Stands for an objective where nothing is evaluated."""

    column: str
    maximize: bool

    def exact(self, architecture: Mapping[str, str]) -> float:
        """There is none.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{self.column} of {architecture} is not known here")


def _runs_nothing(problem: Problem, seed: int) -> Sampler:
    """Stands for a method where none is run.

    Raises:
        ValueError: always.
    """
    raise ValueError("a report runs no method")


def _compare(
    out: Path, jobs: int | None, timeout: str | None, request: _Request, consent: Consent
) -> None:
    settings, names = request.settings, request.settings["methods"]
    request.check_backend()
    check_methods(names)
    methods = {}
    for name in names:
        methods[short_name(name)] = find_method(*consent.place("methods", name, out, request.home))
    places = [consent.place("minimize", name, out, request.home) for name in request.own]
    space = request.table or request.space
    assert space is not None
    own = [one for spec, home in places for one in find_objectives(spec, space, home)]
    problem = request.problem(request.known(), own)
    words = consent.words("space", "methods", "minimize")
    work = "" if jobs is None else f" --jobs {jobs}"  # how it is done is not kept in the folder
    work += "" if timeout is None else f" --evaluation-timeout {timeout.strip()}"
    again = f"paretonas compare --resume {out}{words}{work}"
    runs = max(1, len(names) * settings["seeds"])
    go_on_with(again)
    with _Watch(runs) as watch:
        processes = _processes((problem, methods), jobs, runs)
        if processes is None and timeout is not None:
            raise ValueError(
                "--evaluation-timeout needs a process that can be ended, and a part of your own "
                "cannot be sent to one: define its functions and classes at the top of a file"
            )
        comparison = _compared(
            out, request, problem, methods, jobs=processes, timeout=timeout, watch=watch
        )
    if not comparison.records:
        raise RuntimeError(f"all of {runs} runs failed; to try these again: {again}")
    started = read_about(out)["started"]  # or the folder was removed, and is not made again
    comparison.write(out)
    write_comparison(comparison, out / "report.html", settings, started)
    _show(comparison, out)
    if comparison.broken:
        failed = f"{len(comparison.broken)} of {runs} runs failed"
        raise RuntimeError(f"{failed}; to try these again: {again}")


def _compared(
    out: Path,
    request: _Request,
    problem: Problem,
    methods: Mapping[str, Maker],
    *,
    jobs: int | None,
    timeout: str | None = None,
    watch: Callable[[Record | Broken], None] | None = None,
) -> Comparison:
    return compare(
        problem,
        methods,
        budget=request.settings["budget"],
        seeds=request.settings["seeds"],
        jobs=jobs,
        evaluation_timeout=timeout,
        folder=out,
        settings=request.settings,
        watch=watch,
    )


def _header(path: Path, minimize: Sequence[str]) -> set[str]:
    """The columns of a file; they are only needed where a name could be code of one's own."""
    if not any(map(is_own, minimize)):
        return set()
    return {tidy(str(column)) for column in read_frame(path).columns}


def _with_limited(
    settings: Mapping[str, Any], folder: Path, own: Sequence[str]
) -> Mapping[str, Any]:
    """The settings of a table; it also gets the columns with a limit that are no objectives.

    Raises:
        ValueError: a limit is on no column of the file, and on no objective.
    """
    minimize = [name for name in settings.get("minimize", []) if name not in own]
    maximize = list(settings.get("maximize", []))
    limits = Constraint.names(",".join(settings["constraint"])) if "constraint" in settings else {}
    for name, sign in limits.items():
        objectives = [tidy(objective) for objective in (*minimize, *maximize)]
        with suppress(ValueError):
            resolve(name, objectives)
            continue
        picks = {tidy(choice) for choice in settings.get("choices", [])}
        columns = [tidy(str(c)) for c in read_frame(folder / settings["table"]).columns]
        others = [column for column in columns if column not in picks]
        try:
            (minimize if sign == "<=" else maximize).append(resolve(name, others))
        except ValueError:
            if not own:  # the limit may be on an objective of the user's own
                raise
    return {**settings, "minimize": minimize, "maximize": maximize}


def _table(space: SearchSpace | None, settings: Mapping[str, Any], folder: Path) -> Table:
    decisions = None if space is None else space.choices
    choices = settings.get("choices")
    if choices is None:
        if decisions is None:
            raise ValueError("--table FILE needs --choices A,B,...: the columns of picks")
        choices = [choice.name for choice in decisions]
    table = Table.read(
        folder / settings["table"],
        choices,
        settings["minimize"],
        settings["maximize"],
        where=settings.get("where"),
        average=settings.get("average"),
    )
    if space is not None and decisions is not None:
        for architecture in table.architectures:
            encode(decisions, architecture)  # refuses what the space has not
        structure = getattr(space, "structure", None) or table.structure
        table = replace(table, name=space.name, choices=decisions, structure=structure)
    return table


def _is_trained(space: SearchSpace | None) -> TypeGuard[NetworkSpace]:
    """Whether the space has networks, which are trained and timed, and no measurements."""
    return isinstance(space, NetworkSpace) and getattr(space, "objectives", None) is None


def _columns(known: Collection[str], names: Sequence[str]) -> tuple[str, ...]:
    """The columns that the user names."""
    tidied = tuple(tidy(name) for name in names)
    _check_known(tidied, known)
    return tidied


def _check_known(names: Sequence[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"no objective is called {name!r}{nearest(name, [*known])}")


def _processes(parts: object, jobs: int | None, runs: int) -> int | None:
    """How many; None, this one alone, where a user's own part cannot be sent to others."""
    try:
        pickle.dumps(parts)
    except Exception:  # whatever the part raises when it is pickled
        return None
    return min(jobs or cores(), runs)


def _named_after(settings: Mapping[str, Any]) -> str:
    """What the folder of a comparison is called, if the user does not name it."""
    what = settings.get("space") or Path(settings.get("table", "")).stem or "compare"
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(what).name)
    return f"compare-{name}"


class _Watch:
    """Shows how far the runs are: a bar on a terminal, a line for each run elsewhere."""

    def __init__(self, runs: int) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(overflow="fold")),
            BarColumn(),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("runs"),
            TimeElapsedColumn(table_column=Column(no_wrap=True)),
            console=console(),
            transient=True,
            disable=not sys.stdout.isatty(),
        )
        self._runs, self._done = runs, 0
        self._task = self._bar.add_task("comparing", total=runs)

    def __enter__(self) -> Callable[[Record | Broken], None]:
        self._bar.start()
        return self._ended

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def _ended(self, run: Record | Broken) -> None:
        self._done += 1
        self._bar.update(self._task, advance=1, description=f"{run.method}, seed {run.seed}")
        if isinstance(run, Broken):
            reason = " ".join(run.reason.split())
            print(f"paretonas: {run.method}, seed {run.seed} failed: {reason}", file=sys.stderr)
        elif self._bar.disable:
            print(
                f"{self._done}/{self._runs} {run.method}, seed {run.seed}: "
                f"{run.ledger.evaluations} evaluations{_for_weights(run.ledger)}, "
                f"{run.ledger.thinking_seconds:.1f} s of method overhead",
                flush=True,
            )


def _for_weights(ledger: Ledger) -> str:
    """What the training of a supernet counts as, if there was one."""
    return f" and {ledger.weight_evaluations} for a supernet" if ledger.weight_evaluations else ""


def _show(comparison: Comparison, out: Path) -> None:
    """A short table: how good, how sure, how soon, and at what price."""
    budget = comparison.budget
    value = {(r.method, r.measure, r.evaluations, r.statistic): r.value for r in comparison.summary}
    share = "hypervolume_fraction"
    half = (budget + 1) // 2
    titles = ["method", f"at {budget}", "quartiles", "worst seed", f"at {half}"]
    titles += ["to 95 %", "to 99 %", "p (Holm)", "failed", "overhead"]
    rows = []
    for method in comparison.methods:

        def at(measure: str, statistic: str, number: int | None = None, form: str = ".4f") -> str:
            found = value.get((method, measure, number, statistic))  # noqa: B023
            return "" if found is None else format(found, form)

        if (method, share, budget, "median") not in value:
            rows.append([f"{method}: no run finished", *[""] * (len(titles) - 1)])
            continue
        row = [
            method,
            at(share, "median", budget),
            f"{at(share, 'q1', budget)} to {at(share, 'q3', budget)}",
            at(share, "min", budget),
            at(share, "median", half),
            at("evaluations_to_95_percent", "median", form=".0f") or "-",
            at("evaluations_to_99_percent", "median", form=".0f") or "-",
            at(share, "p_holm", budget, ".3g"),
            at("failures", "median", form=".0f"),
            at("thinking_seconds_per_evaluation", "median", form=".3f") + " s",
        ]
        rows.append(row)
    screen = console()
    screen.print(FittedTable(titles, rows))
    whose = (
        "the true front"
        if comparison.reference.true
        else "the best front of all methods together (the true one is not known)"
    )
    seeds = "one seed" if comparison.seeds == 1 else f"{comparison.seeds} seeds"
    screen.print(
        f"Share of the hypervolume of {whose} in {objectives_of(comparison)}: median and "
        f"quartiles over {seeds}, and the worst one; evaluations to reach a share and what failed: "
        "median; overhead: of the method itself, per evaluation; p: against "
        f"{comparison.methods[0]}."
    )
    for remark in (feasibility(comparison), disagreement(comparison)):
        if remark:
            screen.print(remark)
    screen.print(f"all of it is in {out}; look at {out / 'report.html'}", soft_wrap=True)
