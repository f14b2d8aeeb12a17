"""`paretonas compare`: methods side by side on a table or a space, shown and written down."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from paretonas.cli.display import console
from paretonas.cli.find import Consent
from paretonas.cli.fitted import FittedTable
from paretonas.compare import Broken, Comparison, compare
from paretonas.compare.comparison import METHODS
from paretonas.compare.folder import Record, read_about
from paretonas.compare.summary import disagreement
from paretonas.names import find_any_space, problem_of
from paretonas.objectives.base import Objective
from paretonas.problem import Problem
from paretonas.report.comparison import write_comparison
from paretonas.report.objectives import shown_objectives
from paretonas.space import SearchSpace, encode, nearest
from paretonas.table import Table
from paretonas.table.spelling import tidy

DEFAULTS: Mapping[str, Any] = {
    "methods": [*METHODS],
    "budget": 100,
    "seeds": 10,
}


def begin(out: Path | None, jobs: int | None, **settings: Any) -> None:
    """Compare as the settings say; in a folder where the same was begun before, go on."""
    settings = {**DEFAULTS, **settings}
    spec = settings.get("space")
    space = None if spec is None else find_any_space(spec)
    _compare(out or _free_folder(settings), jobs, settings, Path.cwd(), space, Consent(spec))


def go_on(folder: Path, jobs: int | None, consent: Consent) -> None:
    """Go on with a comparison as it was begun."""
    settings, home = _recorded(folder)
    _compare(folder, jobs, settings, home, _space(folder, settings, home, consent), consent)


def redraw(folder: Path, page: Path, consent: Consent) -> None:
    """Draw the page of a comparison from the runs that have ended; none is run."""
    settings, home = _recorded(folder)
    problem = _problem(settings, home, _space(folder, settings, home, consent))
    comparison = _compared(folder, settings, problem, jobs=0)
    write_comparison(comparison, page, settings, read_about(folder)["started"])


def _recorded(folder: Path) -> tuple[dict[str, Any], Path]:
    """What a comparison was asked for, and where."""
    about = read_about(folder)
    return about["asked"], Path(about["folder"])


def _space(
    folder: Path, settings: Mapping[str, Any], home: Path, consent: Consent
) -> SearchSpace | None:
    """The space of a comparison, if it is on one."""
    if "space" not in settings and consent.space is None:
        return None
    return consent.find(folder, {"space": settings.get("space"), "folder": home})


def _compare(
    out: Path,
    jobs: int | None,
    settings: Mapping[str, Any],
    home: Path,
    named: SearchSpace | None,
    consent: Consent,
) -> None:
    problem = _problem(settings, home, named)
    again = f"paretonas compare --resume {out}{consent.words}"
    runs = max(1, len(settings["methods"]) * settings["seeds"])
    try:
        with _Watch(runs) as watch:
            spec = consent.space or settings.get("space", "")
            processes = _processes(spec, problem.space, jobs, runs)
            comparison = _compared(out, settings, problem, jobs=processes, watch=watch)
    except KeyboardInterrupt:
        print(f"paretonas: stopped; to go on: {again}", file=sys.stderr)
        raise
    if not comparison.records:
        raise RuntimeError(f"all of {runs} runs failed; to try these again: {again}")
    comparison.write(out)
    write_comparison(comparison, out / "report.html", settings, read_about(out)["started"])
    _show(comparison, out)
    if comparison.broken:
        failed = f"{len(comparison.broken)} of {runs} runs failed"
        raise RuntimeError(f"{failed}; to try these again: {again}")


def _compared(
    out: Path,
    settings: Mapping[str, Any],
    problem: Problem,
    *,
    jobs: int | None,
    watch: Callable[[Record | Broken], None] | None = None,
) -> Comparison:
    return compare(
        problem,
        settings["methods"],
        budget=settings["budget"],
        seeds=settings["seeds"],
        jobs=jobs,
        folder=out,
        settings=settings,
        watch=watch,
    )


def _problem(settings: Mapping[str, Any], folder: Path, space: SearchSpace | None) -> Problem:
    """The problem that the options stand for; files are found from a folder."""
    columns = ("minimize", "maximize", "where", "average", "choices")
    options = [f"--{name}" for name in columns if name in settings]
    if "table" in settings:
        problem = Problem(_table(space, settings, folder))
    elif space is None:
        raise ValueError(
            "compare needs --space S, or --table FILE with --choices and --minimize or --maximize"
        )
    elif options:
        named = " and ".join(options)
        raise ValueError(f"{named} name columns of a file; give it with --table FILE")
    else:
        problem = problem_of(space)
    log, free = (_columns(problem.objectives, settings.get(name, [])) for name in ("log", "free"))
    return replace(problem, log=log, free=free)


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
        settings.get("minimize", []),
        settings.get("maximize", []),
        where=settings.get("where"),
        average=settings.get("average"),
    )
    if space is not None and decisions is not None:
        for architecture in table.architectures:
            encode(decisions, architecture)  # refuses what the space has not
        structure = getattr(space, "structure", None) or table.structure
        table = replace(table, name=space.name, choices=decisions, structure=structure)
    return table


def _columns(objectives: Sequence[Objective], names: Sequence[str]) -> tuple[str, ...]:
    """The columns that the user names; a maximized one by its name in the file."""
    columns = [objective.column for objective in objectives]
    by_name = {shown.name: shown.column for shown in shown_objectives(objectives)}
    found = []
    for name in map(tidy, names):
        if name not in {*columns, *by_name}:
            raise ValueError(f"no objective is called {name!r}{nearest(name, [*by_name])}")
        found.append(by_name.get(name, name))
    return tuple(found)


def _processes(spec: str, space: SearchSpace, jobs: int | None, runs: int) -> int | None:
    """How many; None, this one alone, for code in a file that other processes cannot import."""
    place = spec.partition(":")[0]
    if (place.endswith(".py") or "/" in place) and not isinstance(space, Table):
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(jobs or cores or 1, runs)


def _free_folder(settings: Mapping[str, Any]) -> Path:
    what = settings.get("space") or Path(settings.get("table", "")).stem or "compare"
    name = "".join(c if c.isalnum() or c in "-_" else "-" for c in Path(what).name)
    number = 1
    while (folder := Path(f"compare-{name}-{number}")).exists():
        number += 1
    return folder


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
                f"{run.ledger.evaluations} evaluations, "
                f"{run.ledger.thinking_seconds:.1f} s of thinking",
                flush=True,
            )


def _show(comparison: Comparison, out: Path) -> None:
    """A short table: how good, how sure, how soon, and at what price."""
    budget = comparison.budget
    value = {(r.method, r.measure, r.evaluations, r.statistic): r.value for r in comparison.summary}
    share = "hypervolume_fraction"
    half = (budget + 1) // 2
    titles = ["method", f"at {budget}", "quartiles", "worst seed", f"at {half}"]
    titles += ["to 95 %", "to 99 %", "p (Holm)", "failed", "thinking"]
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
    shown = shown_objectives(comparison.problem.objectives)
    objectives = ", ".join(f"{objective.name} {objective.sense}" for objective in shown)
    screen.print(
        f"Share of the hypervolume of {whose} in {objectives}: median and quartiles over {seeds}, "
        "and the worst one; evaluations to reach a share and what failed: median; thinking: per "
        f"evaluation; p: against {comparison.methods[0]}."
    )
    if doubt := disagreement(comparison):
        screen.print(doubt)
    screen.print(f"all of it is in {out}; look at {out / 'report.html'}", soft_wrap=True)
