"""What a person sees while a search runs, and its front at the end."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from paretonas._words import pair_of, spelled, used
from paretonas.cli.fitted import FittedTable
from paretonas.constraint import split_unit
from paretonas.dominance import spread_column

if TYPE_CHECKING:
    from paretonas.front import Front
    from paretonas.front_on_device import FrontOnDevice
    from paretonas.gradient_search.step import Step
    from paretonas.point import Point

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_PICTURES = 0.25
_WIDE = 240  # where nobody's terminal sets a width


def watch(steps: Iterable[Step], stream: TextIO | None = None) -> Iterator[Step]:
    """Show each step and hand it on: a live picture on a terminal, lines elsewhere."""
    stream = stream or sys.stdout
    return _live(steps, stream) if stream.isatty() else _lines(steps, stream)


@contextmanager
def progress_bar(what: str, stream: TextIO | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is that takes a while: a bar on a terminal, nothing elsewhere.

    It is drawn when it is told something, and only then: nothing else runs while networks are
    timed.

    Args:
        what: takes a while.
        stream: by default standard error, since the result may go elsewhere.

    Yields:
        A function of the number of finished steps and of all steps; 0 while that is not known, when
        architectures are looked at.
    """
    stream = stream or sys.stderr
    bar = Progress(
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
        BarColumn(bar_width=20),
        TimeElapsedColumn(table_column=Column(no_wrap=True)),
        console=console(stream),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,
        disable=not stream.isatty(),
    )
    task, drawn = bar.add_task(what, total=None), -math.inf

    def report(done: int, total: int) -> None:
        nonlocal drawn
        told = f"{done / total:.0%}" if total else f"{done} architectures seen"
        bar.update(task, description=f"{what}: {told}", completed=done, total=total or None)
        if perf_counter() - drawn >= _SECONDS_BETWEEN_PICTURES:
            drawn = perf_counter()
            bar.refresh()

    with bar:
        yield report


def front_table(front: Front, about: Mapping[str, object]) -> FittedTable:
    """The front: names, objectives with their units, what is reported, picks of parts that run.

    Args:
        front: the front.
        about: what ``run.json`` tells.
    """
    columns = [*front.objectives]
    tests = [(f"test_{name}", name) for name in columns]
    for reported, after in (*tests, ("parameters", columns[-1])):
        if reported not in columns and any(reported in point.reported for point in front):
            place = columns.index(after) + 1 if after in columns else len(columns)
            columns.insert(place, reported)
    titles = ("point", *map(_title, columns), "picks")
    rows = [
        (
            point.id,
            *(_measurement(point, name) for name in columns),
            str(used(point.architecture, about)),
        )
        for point in front
    ]
    return FittedTable(titles, rows, words=True)


def device_table(found: FrontOnDevice) -> FittedTable:
    """A front as another machine has timed it: what the search told, what it took, what is left."""
    column, spread = found.column, spread_column(found.column)
    others = [name for name in found.front.objectives if name != column]
    rows = []
    for point in found.points:
        before, now = found.searched[point.id].objectives[column], point.objectives[column]
        doubt = float(point.reported[spread])
        better = found.dominated.get(point.id)
        told = "yes" if better is None else f"no, {better[0].id} is better ({better[1]:.2f})"
        rows.append(
            (
                point.id,
                quantity(column, before),
                f"{quantity(column, now)} ± {doubt:.3f}",
                *(quantity(name, point.objectives[name]) for name in others),
                told,
            )
        )
    titles = ("point", "in the search", "on the machine", *map(_title, others), "on the front")
    return FittedTable(titles, rows, words=True)


def console(stream: TextIO | None = None) -> Console:
    """A console on standard output; wide where it is no terminal, so that no row is broken.

    What is printed is taken literally: names may hold brackets and colons.
    """
    stream = stream or sys.stdout
    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _live(steps: Iterable[Step], stream: TextIO) -> Iterator[Step]:
    shown: RenderableType = "getting ready"
    last = ""
    out = console(stream)
    with Live(console=out, get_renderable=lambda: shown, refresh_per_second=4, transient=True):
        for step, seen in _remembering(steps):
            shown, last = _picture(seen), step.message
            yield step
    if last:
        out.print(last)


def _lines(steps: Iterable[Step], stream: TextIO) -> Iterator[Step]:
    phase, printed, line, planned = "", 0.0, "", False
    for step, seen in _remembering(steps):
        line = ", ".join(_words(seen))
        plan = step.steps > 0 and not planned
        if step.phase != phase or plan or step.seconds - printed >= _SECONDS_BETWEEN_LINES:
            phase, printed, planned = step.phase, step.seconds, planned or plan
            print(line, file=stream, flush=True)
            line = ""
        yield step
    if line:
        print(line, file=stream, flush=True)


def _remembering(steps: Iterable[Step]) -> Iterator[tuple[Step, Step]]:
    """Each step, and the same with the last known cosines and hypervolume, and the time left."""
    seen = begun = None
    for step in steps:
        if begun is None and step.step > 0:
            begun = step  # what came before, tables and imports, does not come again
        cosines, volume, message = step.cosines, step.hypervolume, step.message
        if seen is not None:
            cosines = cosines or seen.cosines
            volume = seen.hypervolume if volume is None else volume
        if begun is not None and begun.step < step.step < step.steps:
            pace = (step.seconds - begun.seconds) / (step.step - begun.step)
            left = f"about {clock(pace * (step.steps - step.step))} left"
            message = f"{left}, {message}" if message else left
        seen = replace(step, cosines=cosines, hypervolume=volume)
        yield step, replace(seen, message=message)


def _picture(step: Step) -> RenderableType:
    phase, *rest = _words(step)
    head = Table.grid(padding=(0, 2))
    head.add_column(no_wrap=True, min_width=len(phase))  # the bar gives way, not the count
    head.add_column(max_width=30)
    head.add_row(Text(phase, "bold"), ProgressBar(max(1, step.steps), step.step))
    return Group(head, *rest)


def _words(step: Step) -> Iterator[str]:
    yield f"{step.phase} {step.step}/{step.steps}" if step.steps else step.phase
    if step.objectives:
        values = (f"{_stem(name)} {quantity(name, x)}" for name, x in step.objectives.items())
        yield ", ".join(values)
    if step.cosines:
        names = step.front.objectives
        pairs = (f"{'/'.join(pair_of(pair, names))} {x:+.2f}" for pair, x in step.cosines.items())
        yield "cosine " + ", ".join(pairs)
    volume = "" if step.hypervolume is None else f", hypervolume {step.hypervolume:.4f}"
    if len(step.front) or volume:
        yield f"front {len(step.front)} points{volume}"
    yield f"{clock(step.seconds)} gone"
    if step.message:
        yield step.message


def quantity(name: str, value: float) -> str:
    """A value with the unit that the column's name ends in; plain if it ends in no known unit.

    >>> quantity("error_percent", 3.14159), quantity("memory_kib", 2048), quantity("energy_mj", 0.5)
    ('3.14 %', '2.00 MiB', '0.5 mJ')
    >>> quantity("miou", 0.71239), quantity("dice_points", 71.2391)
    ('0.7124', '71.24')
    """
    unit = split_unit(name)[1]
    if unit == "percent":
        return f"{value:.2f} %"
    if unit == "ms":
        return f"{value:.3f} ms"
    if unit == "kib":
        return f"{value:.1f} KiB" if value < 1024 else f"{value / 1024:.2f} MiB"
    plain = f"{value:,.0f}" if float(value).is_integer() else f"{value:.4g}"
    return plain if unit is None else f"{plain} {spelled(unit)}"


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(83.4)
    '1:23'
    """
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _stem(name: str) -> str:
    return split_unit(name)[0]


def _title(name: str) -> str:
    return _stem(name).replace("_", " ")


def _measurement(point: Point, name: str) -> str:
    """A cell of the front's table; a measured latency has its spread."""
    known: Mapping[str, float | str] = {**point.reported, **point.objectives}
    if name not in known:
        return ""
    spread = known.get(spread_column(name)) if name.startswith("latency_") else None
    shown = quantity(name, float(known[name]))
    return shown if spread is None else f"{shown} ± {float(spread):.3f}"
