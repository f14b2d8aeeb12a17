"""The commands and their options; what they do is imported when they run."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="paretonas",
    help="Find every trade-off worth having between accuracy, latency and memory.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # drawing the help with rich would take longer than all else
)

Space = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="S",
        show_default="digits",
        help="A space by name (digits, toy), pkg.mod:attribute, or dir/my_file.py:attribute.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option("--device", metavar="auto|cpu|cuda", show_default="auto", help="Where to run."),
]
OwnSpace = Annotated[
    str | None,
    typer.Option(
        "--space",
        metavar="S",
        show_default="that of DIR, if it is paretonas' own",
        help="The space of the run. You need it only if the space is your own code.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Allow the code that DIR names to run. Use it only if you trust the author of DIR.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", min=1, show_default="1", help="CPU threads that latency is measured with."
    ),
]

Backend = Annotated[
    str | None,
    typer.Option(
        "--backend",
        metavar="onnxruntime|torch|torch.compile|cuda-graphs",
        show_default="onnxruntime if installed, on a CPU; else torch",
        help="What runs the networks whose latency is measured.",
    ),
]

Timeout = Annotated[
    str | None,
    typer.Option(
        metavar="90s|10m|1h",
        show_default="none",
        help="How long an evaluation may take; then it has failed, and the others go on.",
    ),
]


def _resumed(what: str, more: str = "") -> Any:
    """The option that names a folder to go on in, and with what more."""
    told = f"Continue the {what} in this folder, with its own settings{more and f', or {more}'}."
    return typer.Option(metavar="DIR", exists=True, file_okay=False, help=told)


def _written(default: str) -> Any:
    """The option that names the file to write."""
    return typer.Option(metavar="FILE", show_default=default, help="Where to write.")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"paretonas {version('paretonas')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _paretonas(
    context: typer.Context,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def search(
    space: Space = None,
    device: Device = None,
    threads: Threads = None,
    backend: Backend = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="90s|2m|600steps",
            show_default="about 2m",
            help="How long the search may take.",
        ),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help='A limit such as "latency<=2ms" or "miou>=0.7"; may be given several times.',
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COST",
            help='Find the best metric at one cost, such as "latency=2ms": a limit, below and near '
            "to which the search looks.",
        ),
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            show_default="SmoothTchebycheff",
            help="A solver of paretonas.solvers by name, or one of your own, my_file:Mine.",
        ),
    ] = None,
    minimize: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            show_default="latency,memory",
            help="Objectives beside the metric: latency, memory, parameters, latency@phone (by the "
            "table phone.json), latency@cpu, or one of your own, my_file:joules.",
        ),
    ] = None,
    rays: Annotated[
        int | None, typer.Option(min=1, help="How many preferences to search at once.")
    ] = None,
    finalists: Annotated[
        str | None,
        typer.Option(
            metavar="fresh|inherit[:SHARE[:RATE]]",
            show_default="inherit",
            help="Train finalists from fresh weights, or go on from those of the supernet; for a "
            "share of the epochs, at a multiple of the learning rate.",
        ),
    ] = None,
    early_stopping: Annotated[
        str | None,
        typer.Option(
            metavar="none|halving",
            show_default="none",
            help="Stop the training of finalists that the front cannot need, and train others.",
        ),
    ] = None,
    paths: Annotated[
        str | None,
        typer.Option(
            metavar="fair|sandwich|distill[:N]",
            show_default="fair",
            help="Paths of the supernet in one update of its weights: N random ones; with the "
            "largest and the smallest; and all learning from the largest.",
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Weights that the network starts from: .safetensors, or a state dict of torch.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="threads of this one",
            help="Evaluate finalists in so many processes of their own: a crash costs that one.",
        ),
    ] = None,
    evaluation_timeout: Timeout = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=2**31 - 1, show_default="0", help="Start of all random numbers."),
    ] = None,
    costs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            exists=True,
            dir_okay=False,
            help="Use this cost table, written by paretonas profile; then no table is measured.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default="paretonas-SPACE-1, ...", help="A new folder for the run."
        ),
    ] = None,
    resume: Annotated[Path | None, _resumed("run", "a larger --budget")] = None,
    repeat: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Make the run in this folder once more, in a new folder, and say what differs.",
        ),
    ] = None,
    trust: Trust = False,
) -> None:
    """Search a space; without options the default one, on real images, in about two minutes."""
    from paretonas.cli.find import Consent
    from paretonas.cli.search import Processes, begin, go_on, once_more

    options = {
        "space": space,
        "device": device,
        "threads": threads,
        "backend": backend,
        "budget": budget,
        "constraint": constraint,
        "target": target,
        "solver": solver,
        "minimize": _names(minimize),
        "rays": rays,
        "finalists": finalists,
        "early_stopping": early_stopping,
        "paths": paths,
        "start": None if start is None else str(start.resolve()),
        "seed": seed,
        "costs": costs,
    }
    processes = Processes(workers, evaluation_timeout)
    if repeat is not None:
        if resume is not None:
            raise typer.BadParameter("--resume goes on in a folder, --repeat begins a new one")
        settings = _settings(options, None, repeat, trust, "repeated run", more=())
        once_more(repeat, out, processes, Consent(_named(settings), trust))
        return
    settings = _settings(options, out, resume, trust, "resumed run")
    if resume is None:
        begin(out, processes, **settings)
    else:
        go_on(resume, processes, Consent(_named(settings), trust), settings.get("budget"))


@app.command()
def compare(
    space: Annotated[
        str | None,
        typer.Option(
            metavar="S",
            help="A space: of measurements (nas_bench_graph:cora), of networks, which are trained "
            "(toy), or the one that --table holds measurements of (nas_bench_201).",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .csv or .parquet file: one row per architecture that was measured.",
        ),
    ] = None,
    choices: Annotated[
        list[str] | None,
        typer.Option(metavar="A,B,...", help="The columns of picks; those of --space by default."),
    ] = None,
    minimize: Annotated[
        list[str] | None,
        typer.Option(
            metavar="X,Y",
            help="Columns to minimize; without --table, objectives of the space. Also your own, "
            "my_file:joules.",
        ),
    ] = None,
    maximize: Annotated[
        list[str] | None, typer.Option(metavar="Z", help="Columns to maximize.")
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(metavar="X", help="Objectives that are compared on a logarithmic scale."),
    ] = None,
    free: Annotated[
        list[str] | None,
        typer.Option(metavar="X", help="Objectives that methods may use without an evaluation."),
    ] = None,
    constraint: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT",
            help='A limit such as "latency<=2ms,params<=3e5", also on a column that is no '
            "objective; may be given several times.",
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option(
            metavar="COL", help="A column of true and false; an evaluation of a false row fails."
        ),
    ] = None,
    average: Annotated[
        str | None,
        typer.Option(metavar="COL", help="Rows that share this column's value get their mean."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="auto|cpu|cuda", show_default="cpu", help="Where networks are trained."
        ),
    ] = None,
    methods: Annotated[
        list[str] | None,
        typer.Option(
            metavar="A,B,...",
            show_default="surgery,nsga2,tpe,random",
            help="Methods, each tested against the first: surgery, search (networks only), nsga2, "
            "tpe, random, ridge, local, gp, and others, or your own, my_file:Mine.",
        ),
    ] = None,
    budget: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="100", help="Evaluations of each run."),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="K", show_default="10", help="Runs of each method.")
    ] = None,
    backend: Backend = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, show_default="one per core", help="Number of runs at the same time."),
    ] = None,
    evaluation_timeout: Timeout = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default="compare-NAME-1, ...",
            help="A new folder, or the folder of the same comparison, to continue it.",
        ),
    ] = None,
    resume: Annotated[
        Path | None, _resumed("comparison", "a larger --budget, more --seeds")
    ] = None,
    trust: Trust = False,
) -> None:
    """Compare search methods on equal budgets, on a table of measurements or on a space."""
    from paretonas.cli.compare import begin, go_on
    from paretonas.cli.find import Consent

    options = {
        "space": space,
        "table": None if table is None else str(table),
        "choices": _names(choices),
        "minimize": _names(minimize),
        "maximize": _names(maximize),
        "log": _names(log),
        "free": _names(free),
        "constraint": constraint,
        "where": where,
        "average": average,
        "device": device,
        "methods": _names(methods),
        "budget": budget,
        "seeds": seeds,
        "backend": backend,
    }
    settings = _settings(options, out, resume, trust, "resumed comparison")
    if resume is None:
        begin(out, jobs, evaluation_timeout, **settings)
    else:
        more = {name: settings[name] for name in sorted(_MORE & settings.keys())}
        go_on(resume, jobs, evaluation_timeout, Consent(_named(settings), trust), **more)


_PARTS = {"space", "solver", "methods", "minimize"}  # may be somebody's own code
_MORE = {"budget", "seeds"}  # of which what is resumed may get more


def _settings(
    options: Mapping[str, Any],
    out: Path | None,
    folder: Path | None,
    trust: bool,
    what: str,
    more: Collection[str] = _MORE,
) -> dict[str, Any]:
    """The options that were typed.

    With a folder whose settings are used only those are allowed that name parts, and `more`.
    """
    settings = {name: value for name, value in options.items() if value is not None}
    if trust and folder is None:
        raise typer.BadParameter("--trust is about a folder that is there; give --resume DIR")
    others = [*(settings.keys() - _PARTS - {*more}), *(["out"] if out else [])]
    if folder is not None and others:
        also = ", ".join(f"--{name}" for name in [*options, "out"] if name in others)
        raise typer.BadParameter(f"a {what} keeps its own settings; leave out {also}")
    return settings


def _named(settings: Mapping[str, Any]) -> dict[str, list[str]]:
    """The parts that were named, by option."""
    named = {name: settings[name] for name in settings.keys() & _PARTS}
    return {name: [it] if isinstance(it, str) else list(it) for name, it in named.items()}


def _names(texts: list[str] | None) -> list[str] | None:
    """Names separated by commas, or given one by one; quotes hold a name that has a comma."""
    if texts is None:
        return None
    names = []
    for text in texts:
        try:
            names += next(csv.reader([text], skipinitialspace=True, strict=True), [])
        except csv.Error as error:
            raise typer.BadParameter(
                f"cannot read the list {text}: {error}; a name that has a comma stands between "
                "two quotes, as in --choices '\"a,b\",c'"
            ) from error
    return [name.strip() for name in names if name.strip()]


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a run.")],
    pick: Annotated[
        str,
        typer.Option(
            metavar="WISH",
            help="knee, fastest, most-accurate, smallest, a name such as a03, "
            'or a limit such as "latency<=2ms".',
        ),
    ] = "knee",
    format: Annotated[
        str,
        typer.Option(
            metavar="onnx|onnx-int8|torch|json|graphml|safetensors", help="What kind of file."
        ),
    ] = "onnx",
    out: Annotated[Path | None, _written("in DIR")] = None,
    space: OwnSpace = None,
    trust: Trust = False,
) -> None:
    """Write a point of the front as a trained network, its weights, its picks or its graph."""
    from paretonas.cli.export import export_pick
    from paretonas.cli.find import Consent

    export_pick(folder, pick, format, out, Consent({"space": [space]} if space else {}, trust))


@app.command()
def profile(
    space: Space = None,
    device: Device = None,
    threads: Threads = None,
    backend: Backend = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size", metavar="N", min=1, show_default="1", help="Examples in an input."
        ),
    ] = None,
    input: Annotated[
        str | None,
        typer.Option(
            metavar="3x64x64",
            show_default="that of the task",
            help="The size of an example, if it is one tensor.",
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Correct this table of another device by few networks that are timed here.",
        ),
    ] = None,
    networks: Annotated[
        int | None,
        typer.Option(metavar="N", min=3, show_default="10", help="How many networks for --like."),
    ] = None,
    runner: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Measure nothing here: write a new folder of networks for another machine, and a "
            "script, measure.py, that times them there.",
        ),
    ] = None,
    front: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            exists=True,
            file_okay=False,
            help="For --runner: write the trained networks of this run's front, not those that a "
            "table needs.",
        ),
    ] = None,
    import_: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Measure nothing here: read this folder of --runner, with the times.json of the "
            "machine that has timed it; make its table, or say what became of the front.",
        ),
    ] = None,
    out: Annotated[Path | None, _written("costs.json; DIR/measured.csv of a front")] = None,
    trust: Trust = False,
) -> None:
    """Measure what each option of a space costs on a device, as a table to search with."""
    from paretonas.cli.find import Consent
    from paretonas.cli.profile import import_folder, write_costs, write_folder, write_front_folder

    spec = space or "digits"
    if front is not None and runner is None:
        raise typer.BadParameter("--front is for --runner DIR, the folder to write")
    if trust and front is None:
        raise typer.BadParameter("--trust is about the folder of a run; give --front RUN")
    here: dict[str, object] = {"device": device, "threads": threads, "backend": backend}
    here |= {"like": like, "networks": networks}
    sizes: dict[str, object] = {"batch-size": batch_size, "input": input}
    if runner is not None:
        _leave_out("--runner", {**here, "out": out, "import": import_})
        if front is not None:
            _leave_out("--front", sizes, "has the inputs of the search")
            consent = Consent({"space": [space]} if space else {}, trust)
            write_front_folder(runner, front, consent)
        else:
            write_folder(spec, runner, batch_size, input)
    elif import_ is not None:
        _leave_out("--import", {**here, **sizes})
        import_folder(space, import_, out)
    else:
        write_costs(
            spec,
            device or "auto",
            threads or 1,
            backend,
            out,
            batch_size=batch_size,
            size=input,
            like=like,
            networks=networks,
        )


def _leave_out(
    option: str, others: Mapping[str, object], why: str = "measures nothing here"
) -> None:
    """Refuse options that mean nothing beside another one."""
    given = [f"--{name}" for name, value in others.items() if value is not None]
    if given:
        raise typer.BadParameter(f"{option} {why}; leave out {', '.join(given)}")


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run or of a comparison.")
    ],
    out: Annotated[Path | None, _written("DIR/report.html")] = None,
    space: OwnSpace = None,
    trust: Trust = False,
) -> None:
    """Draw a run as one HTML page, its front, conflict and hypervolume, or redraw a comparison."""
    from paretonas.cli.find import Consent
    from paretonas.cli.report import write_page

    write_page(folder, out, Consent({"space": [space]} if space else {}, trust))
