"""The report of a search."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from paretonas._words import cell, picks, title, used
from paretonas.front import Front, roles
from paretonas.gradient_search.guessing import Guessing
from paretonas.objectives.calibration import Calibration
from paretonas.point import Cell
from paretonas.report.figures import (
    between,
    calibration_figure,
    conflict_figure,
    cosine_columns,
    front_figure,
    hypervolume_figure,
    series,
)
from paretonas.report.frame import section, write_page
from paretonas.runs import Run


def write_report(run: Run, out: str | os.PathLike[str]) -> Path:
    """Write a page with the front, the history of the search, and its settings.

    The page is one file: it contains its figures and the code that draws them, and loads nothing.

    Args:
        run: a run that has written a front.
        out: the file, usually ``report.html`` in the run's folder.

    Raises:
        ValueError: the run has no front yet, or the path cannot be written.
    """
    front, history, measured = run.front(), run.history(), run.evaluations()
    space = cell(run.settings.get("space", "")) or "a search"
    sections = [
        section("Front", front_figure(front, measured), _front_note(run, front, len(measured)))
        if len(front)
        else section("Front", "", "The front is empty: no architecture was measured."),
        section(
            "Points",
            _front_table(front, run.about),
            "Export a point by its id or by one of its names.",
        ),
        section(
            "Hypervolume",
            hypervolume_figure(history),
            "The volume that the front dominates. If the curve is flat at its end, more time would "
            "probably not improve the front much.",
        ),
        section(
            "Conflict",
            conflict_figure(history, front.objectives),
            _conflict_note(history, front.objectives),
        ),
        *_tables(run),
        *_failures(run),
        section("Settings", _run_table(run), ""),
    ]
    return write_page(
        out,
        title=f"paretonas: {space}",
        head=f"{space} on {cell(run.about.get('device', 'an unknown device'))}",
        started=cell(run.about.get("started", "")),
        sections=sections,
    )


def _front_note(run: Run, front: Front, measured: int) -> str:
    among = f" among {measured:,} measured architectures" if measured else ""
    count = "One trade-off" if len(front) == 1 else f"{len(front)} trade-offs"
    guessing = Guessing.told(run.about)
    doubt = guessing.remark(front) if guessing else ""
    return (
        f"{count}{among}; each is better than every other in at least one objective. "
        "Each axis says which values are better. Move the mouse over a point to see its picks."
        f"{f' <b>{cell(doubt[0].upper() + doubt[1:])}.</b>' if doubt else ''}"
    )


def _front_table(front: Front, about: Mapping[str, object]) -> str:
    called = roles(front)
    reported = list(dict.fromkeys(name for point in front for name in point.reported))
    columns = [*front.objectives, *reported]
    head = "".join(f"<th>{text}</th>" for text in ["id", *map(title, columns)])
    rows = []
    for point in front:
        names = "".join(f"<span class=tag>{name}</span>" for name in called.get(point.id, []))
        values: Mapping[str, Cell] = {**point.objectives, **point.reported}
        cells = []
        for name in columns:
            value = values.get(name)
            kind = "" if isinstance(value, str) else " class=number"
            cells.append(f"<td{kind}>{cell(value)}</td>")
        text = " ".join(picks(used(point.architecture, about)))
        rows.append(
            f"<tbody><tr><td rowspan=2><b>{cell(point.id)}</b>{names}</td>{''.join(cells)}</tr>"
            f"<tr><td class=picks colspan={len(columns)}>{text}</td></tr></tbody>"
        )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead>{''.join(rows)}</table></div>"


def _conflict_note(history: Sequence[Mapping[str, Cell]], objectives: Sequence[str]) -> str:
    parts = []
    for name in cosine_columns(history):
        _, values = series(history, "step", name)
        against = sum(value < 0 for value in values) / len(values)
        parts.append(f"{between(name, objectives)} in {against:.0%} of the steps")
    return (
        "The cosine between the gradients of two objectives. Below zero they conflict: a step that "
        f"helps one harms the other. Conflicts: {', '.join(parts)}."
    )


def _tables(run: Run) -> list[str]:
    """A section for each latency table that was corrected: what it predicts, what was measured."""
    found = []
    tables = run.about.get("tables")
    for number, (column, about) in enumerate(tables.items() if isinstance(tables, Mapping) else ()):
        told = Calibration.told(about) if isinstance(about, Mapping) else None
        if told is None or not told.predicted_ms:
            continue
        runner, device = cell(about.get("backend", "")), cell(about.get("device", ""))
        note = f"{cell(column)} is that of {runner} on {device}, a batch of 1"
        if told.correction == "measured":  # nothing is predicted, so there is nothing to draw
            found.append(section("Latency table", "", f"{note}; {cell(str(told))}."))
            continue
        note += f". How well the table that guides the search predicts it: {cell(str(told))}."
        found.append(section("Latency table", calibration_figure(told, f"table-{number}"), note))
    return found


def _failures(run: Run) -> list[str]:
    """The section on options and architectures that were set aside, if there are any."""
    rows = [
        f"<tr><td>{' '.join(picks(failure.architecture))}</td><td>{cell(failure.reason)}</td></tr>"
        for failure in run.failures()
    ]
    if not rows:
        return []
    table = (
        f"<div class=wide><table><tr><th>picks</th><th>why</th></tr>{''.join(rows)}</table></div>"
    )
    note = "Options and architectures that did not run, or gave numbers that are not finite."
    return [section("Set aside", table, note)]


def _run_table(run: Run) -> str:
    about = {key: v for key, v in run.about.items() if key not in ("settings", "tables")}
    rows = [
        f"<tr><th>{cell(name)}</th><td>{cell(value)}</td></tr>"
        for name, value in {**run.settings, **about}.items()
    ]
    return f"<div class=wide><table class=facts>{''.join(rows)}</table></div>"
