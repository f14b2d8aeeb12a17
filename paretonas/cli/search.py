"""`paretonas search`: begin a run or go on with one, show it, and say where it lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paretonas._duration import time_limit
from paretonas.cli.differences import differences
from paretonas.cli.display import clock, console, front_table, quantity, watch
from paretonas.cli.find import Consent
from paretonas.cli.stop import go_on_with
from paretonas.constraint import Constraint, split_unit
from paretonas.devices import find_device
from paretonas.gradient_search.guessing import Guessing
from paretonas.gradient_search.measured_limits import unmet
from paretonas.gradient_search.objectives import (
    Wanted,
    column_of,
    is_only_measured,
    latency_by,
    understood,
    wanted_of,
)
from paretonas.gradient_search.plan import Budget, last_budget
from paretonas.gradient_search.search import search
from paretonas.gradient_search.target import Target
from paretonas.names import (
    find_objectives,
    find_solver,
    find_space,
    with_networks,
)
from paretonas.nn import NetworkSpace
from paretonas.objectives.base import AnyObjective, maximizes
from paretonas.objectives.default import BESIDE_THE_METRIC, NAMES, OBJECTIVES
from paretonas.objectives.table_latency import kept, read_table
from paretonas.point import Point
from paretonas.report import write_report
from paretonas.runs import ABOUT, Run, free_folder
from paretonas.space import encode
from paretonas.tasks.task import metrics_of

_DEFAULTS: Mapping[str, Any] = {"space": "digits", "device": "auto", "threads": 1, "seed": 0}
_TEXT = "a text", lambda value: isinstance(value, str)
_TEXTS = (
    "a list of texts",
    lambda value: isinstance(value, list) and all(isinstance(one, str) for one in value),
)
_COUNT = "an integer from 1", lambda value: type(value) is int and value >= 1
_KINDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "device": _TEXT,
    "budget": _TEXT,
    "solver": _TEXT,
    "costs": _TEXT,
    "finalists": _TEXT,
    "early_stopping": _TEXT,
    "paths": _TEXT,
    "backend": _TEXT,
    "target": _TEXT,
    "start": _TEXT,
    "threads": _COUNT,
    "rays": _COUNT,
    "seed": ("an integer from 0 to 2147483647", lambda v: type(v) is int and 0 <= v < 2**31),
    "constraint": _TEXTS,
    "minimize": _TEXTS,
}
Place = Callable[[str, str], tuple[str, Path]]  # of an option and a part: its name, and its folder


@dataclass(frozen=True)
class Processes:
    """How finalists are evaluated here; a run may go on elsewhere, and otherwise.

    Attributes:
        workers: how many processes there are for them; None: this one.
        evaluation_timeout: how long each may take, such as "10m".

    Raises:
        ValueError: a timeout that is no time.
    """

    workers: int | None = None
    evaluation_timeout: str | None = None

    def __post_init__(self) -> None:
        time_limit(self.evaluation_timeout)

    def __str__(self) -> str:
        """As options."""
        workers = "" if self.workers is None else f" --workers {self.workers}"
        timeout = (self.evaluation_timeout or "").strip()
        return workers + (timeout and f" --evaluation-timeout {timeout}")


def begin(out: Path | None, processes: Processes, **options: Any) -> None:
    """Search, with the options that were given, into a new folder."""
    settings = {**_DEFAULTS, **options}
    if "costs" in settings:
        settings["costs"] = str(Path(settings["costs"]).resolve())
    here = Path.cwd()
    settings["folder"] = str(here)  # where parts of the user's own were found
    # What cannot be read is refused before a folder is made.
    space = find_space(settings["space"])
    arguments = _arguments(settings, space, lambda _, spec: (spec, here))
    folder = out or free_folder(f"paretonas-{arguments['space'].name}")
    run = Run.create(folder, settings, device=arguments["device"], seed=settings["seed"])
    _search(run, processes, arguments, Consent(_parts(settings)))


def go_on(folder: Path, processes: Processes, consent: Consent, budget: str | None = None) -> None:
    """Search on from the last checkpoint of a run, with the settings that it was begun with.

    Args:
        folder: of the run.
        processes: how finalists are evaluated.
        consent: to run code that the folder names.
        budget: a larger one; by default the last one that the run had.
    """
    run = Run.open(folder)
    _search(run, processes, _taken_up(run, _settings(run, budget), consent), consent)


def once_more(folder: Path, out: Path | None, processes: Processes, consent: Consent) -> None:
    """Search once more with the settings of a run, in a new folder, and say what differs.

    Args:
        folder: of the run. It stays as it is.
        out: the new folder.
        processes: how finalists are evaluated.
        consent: to run code that the folder names.

    Raises:
        ValueError: the run has no front, or has other settings than `begin` writes.
    """
    first = Run.open(folder)
    first.front()  # refused now, not when all is done
    settings = _settings(first)
    arguments = _taken_up(first, settings, consent)
    place = out or free_folder(f"paretonas-{arguments['space'].name}")
    again = Run.create(place, settings, device=arguments["device"], seed=settings["seed"])
    _search(again, processes, arguments, consent)
    console().print(f"compared with {folder}:", soft_wrap=True)
    for line in differences(first, again):
        console().print(f"- {line}", soft_wrap=True)


def _settings(run: Run, budget: str | None = None) -> dict[str, Any]:
    """The settings of a run, with this budget, or by default the last one that it had."""
    settings = dict(run.settings)
    if budget is not None or (budget := last_budget(run)) is not None:
        settings["budget"] = budget
    return settings


def _taken_up(run: Run, settings: Mapping[str, Any], consent: Consent) -> dict[str, Any]:
    """The arguments of `search` that the settings of a run stand for.

    Raises:
        ValueError: a setting is none, or the space or the objectives are not those of the run.
    """
    folder = run.folder
    space = with_networks(consent.space(folder, settings), "--space")
    _check(folder / ABOUT, settings)
    parts = _parts(settings)
    for option in ("solver", "minimize"):
        consent.check(option, folder, parts[option])
    for point in run.evaluations():
        encode(space.choices, point.architecture)  # refuses those of another space
    home = Path(str(settings.get("folder", ".")))

    def place(option: str, spec: str) -> tuple[str, Path]:
        spec = kept(spec, folder) if option == "minimize" else spec
        return consent.place(option, spec, folder, home)

    arguments = _arguments(settings, space, place)
    if "minimize" in settings:
        metrics = [metric.column for metric in metrics_of(space.load_task())]
        _check_columns(run, [*metrics, *map(column_of, arguments["objectives"])])
    return arguments


def _check_columns(run: Run, columns: Sequence[str]) -> None:
    """Refuse objectives other than those that the points of a run have.

    Raises:
        ValueError: a point has others, as after a change of a user's own objective.
    """
    for point in run.evaluations():
        if set(point.objectives) != set(columns):
            raise ValueError(
                f"{run.folder} holds points with {', '.join(point.objectives)}; the objectives "
                f"are now {', '.join(columns)}"
            )


def _parts(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The parts that settings name, by option."""
    return {
        "space": [settings["space"]] if "space" in settings else [],
        "solver": [settings["solver"]] if "solver" in settings else [],
        "minimize": list(settings.get("minimize", [])),
    }


def _check(path: Path, settings: Mapping[str, Any]) -> None:
    """See that settings that were read from a file are as `begin` writes them.

    Raises:
        ValueError: one is missing, as in a run that was begun from Python, or is of another kind.
    """
    for name in ("device", "threads", "seed"):
        if name not in settings:
            raise ValueError(
                f"{path} has no setting {name!r}; a run that was begun from Python goes on there: "
                "give Run.open(folder) to paretonas.search, with the arguments of the first time"
            )
    for name, value in settings.items():
        kind, fits = _KINDS.get(name, ("", lambda _: True))
        if not fits(value):
            raise ValueError(f"{path}: the setting {name!r} must be {kind}, got {value!r:.80}")


def _arguments(settings: Mapping[str, Any], space: NetworkSpace, place: Place) -> dict[str, Any]:
    """The arguments of `search` that settings of plain values stand for."""
    if "start" in settings:
        space = space.start_from(settings["start"])
    arguments: dict[str, Any] = {
        "space": space,
        "device": str(find_device(settings["device"])),
        "threads": settings["threads"],
        "seed": settings["seed"],
    }
    metrics = metrics_of(space.load_task())
    columns = [metric.column for metric in metrics]
    upward = [metric.column for metric in metrics if metric.maximize]
    measured: list[str] = []
    if "minimize" in settings:
        objectives = _objectives(settings, space, place)
        arguments["objectives"] = objectives
        columns += map(column_of, objectives)
        upward += [column_of(one) for one in objectives if maximizes(one)]
        measured = [column_of(one) for one in objectives if is_only_measured(one)]
    else:
        columns += [OBJECTIVES[name].column for name in BESIDE_THE_METRIC]
    if "costs" in settings and "minimize" not in settings:
        arguments["objectives"] = wanted_of(
            Path(settings["costs"]),
            space,
            arguments["device"],
            arguments["threads"],
            settings.get("backend"),
        )
    if "constraint" in settings:
        arguments["constraint"] = Constraint.parse(
            ",".join(settings["constraint"]), columns, upward
        )
    if "target" in settings:
        names = [metric.column for metric in metrics]
        target = arguments["target"] = Target.parse(settings["target"], columns, names, measured)
        target.within(arguments.get("constraint", Constraint({})))  # refuses what rules it out
    if "budget" in settings:
        arguments["budget"] = Budget.parse(settings["budget"])
    if "solver" in settings:
        arguments["solver"] = find_solver(*place("solver", settings["solver"]))
    for name in ("rays", "finalists", "early_stopping", "paths", "backend"):
        if name in settings:
            arguments[name] = settings[name]
    return arguments


def _objectives(settings: Mapping[str, Any], space: NetworkSpace, place: Place) -> list[Wanted]:
    """What is minimized beside the metrics; the package's own are built when a search begins."""
    names = settings["minimize"]
    if not names:
        raise ValueError(f"--minimize names no objective; there are {', '.join(NAMES)}")

    def find(name: str) -> tuple[AnyObjective, ...]:
        spec, folder = place("minimize", name)
        return find_objectives(
            spec, space, folder, settings["threads"], settings["device"], settings.get("backend")
        )

    columns = [metric.column for metric in metrics_of(space.load_task())]
    found = list(understood(names, find, columns))
    if "costs" in settings:
        if "latency" not in found:
            raise ValueError("--costs is a table of latencies; add latency to --minimize")
        table = read_table(settings["costs"], space)
        found[found.index("latency")] = latency_by(
            table,
            space.load_task().example(),
            str(find_device(settings["device"])),
            settings["threads"],
            settings.get("backend"),
        )
    return found


def _told(point: Point) -> str:
    """A point in one line."""
    values = (f"{split_unit(name)[0]} {quantity(name, v)}" for name, v in point.objectives.items())
    return f"{point.id}, {', '.join(values)}"


def _search(run: Run, processes: Processes, arguments: Mapping[str, Any], consent: Consent) -> None:
    last = None
    words = f"{consent.words('space', 'solver', 'minimize')}{processes}"
    go_on_with(f"paretonas search --resume {run.folder}{words}")
    try:
        # Closed at once when interrupted: it may have begun processes.
        with closing(search(**arguments, **vars(processes), run=run)) as steps:
            for step in watch(steps):
                last = step
    except Exception:
        run.discard()  # what was refused before it began needs no folder that was made here
        raise
    if last is None:
        raise ValueError("the budget made no step possible; give more with --budget")
    failures = run.failures()
    for failure in failures:
        print(f"set aside {failure}")
    if not len(last.front):
        if failures and not run.evaluations():
            raise RuntimeError(f"{last.message}; what was tried is in {run.folder}")
        limits = arguments.get("constraint", Constraint({}))
        limits = target.within(limits) if (target := arguments.get("target")) else limits
        told = unmet(run.evaluations(), limits)
        raise ValueError(f"{told}; what was tried is in {run.folder}")
    out = console()
    out.print(front_table(last.front, run.about))
    page = run.folder / "report.html"
    write_report(run, page)
    guessing = Guessing.told(run.about)
    doubt = guessing.remark(last.front) if guessing else ""
    backends = {point.reported.get("latency_backend") for point in last.front} - {None}
    if backends:
        threads = arguments["threads"]
        out.print(
            f"latency: {', '.join(sorted(map(str, backends)))} on {arguments['device']}, batch of "
            f"1, {threads} thread{'s' if threads > 1 else ''}; ± holds a second measurement in 9 "
            "of 10 cases",
            soft_wrap=True,
        )
    for column, told in run.about.get("tables", {}).items():
        if told.get("predicted"):
            device = ", ".join(str(told[name]) for name in ("device", "backend") if name in told)
            out.print(f"{column}: predicted by the table of {device or 'a file'}", soft_wrap=True)
    if why := run.about.get("backend_why"):
        out.print(str(why), soft_wrap=True)
    if doubt:
        out.print(doubt)
    points = f"{len(last.front)} point{'s' if len(last.front) != 1 else ''}"
    found = f"{points} in {clock(last.seconds)}; all of it is in {run.folder}"
    out.print(found, soft_wrap=True)
    pick = "most-accurate" if doubt else "knee"
    if target := arguments.get("target"):
        pick = f'"{target.constraint}"'
        out.print(
            f"best with {target.constraint}: {_told(last.front.pick(str(target.constraint)))}"
        )
    take = f"paretonas export {run.folder}{consent.words('space')} --pick {pick}"
    out.print(f"look at {page}, or take one: {take}", soft_wrap=True)
