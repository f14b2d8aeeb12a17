"""The page around the figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from paretonas._atomic import replacing
from paretonas.front import Front
from paretonas.point import Cell
from paretonas.report.figures import (
    between,
    conflict_figure,
    cosine_columns,
    front_figure,
    hypervolume_figure,
    series,
)
from paretonas.report.words import cell, picks, roles, title
from paretonas.runs import Run


def write_report(run: Run, out: str | os.PathLike[str]) -> Path:
    """Write a page with the front, how the search got there, and what it was asked.

    The page is one file: it holds its figures and the code that draws them, and loads nothing.

    Args:
        run: a run that has written a front.
        out: the file, usually ``report.html`` in the run's folder.

    Raises:
        ValueError: the run has no front yet, or the place cannot be written.
    """
    from plotly.offline import get_plotlyjs

    front, history, measured = run.front(), run.history(), run.evaluations()
    space = cell(run.settings.get("space", "")) or "a search"
    sections = [
        _section("The front", front_figure(front, measured), _front_note(front, len(measured)))
        if len(front)
        else _section("The front", "", "The front is empty: no architecture was measured."),
        _section("Its points", _front_table(front), "Export one by its id or by one of its names."),
        _section(
            "Hypervolume",
            hypervolume_figure(history),
            "The volume that the front dominates. A curve that has gone flat says that more time "
            "would probably have brought little.",
        ),
        _section("Conflict", conflict_figure(history), _conflict_note(history)),
        _section("What was asked", _run_table(run), ""),
    ]
    page = _PAGE.format(
        title=f"paretonas: {space}",
        head=f"{space} on {cell(run.about.get('device', 'an unknown device'))}",
        started=cell(run.about.get("started", "")),
        style=_STYLE,
        plotly=get_plotlyjs(),
        sections="\n".join(sections),
    )
    with replacing(out) as draft:
        draft.write_text(page, encoding="utf-8")
    return Path(out)


def _section(name: str, content: str | None, note: str) -> str:
    if content is None:
        content, note = "", "The run logged nothing for this figure."
    return f"<section><h2>{name}</h2><p>{note}</p>{content}</section>"


def _front_note(front: Front, measured: int) -> str:
    among = f" among {measured:,} measured architectures" if measured else ""
    count = "One trade-off" if len(front) == 1 else f"{len(front)} trade-offs"
    return (
        f"{count}{among}; each is better than every other in something. "
        "Down and left is better. Point at one to see its picks."
    )


def _front_table(front: Front) -> str:
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
        text = " ".join(picks(point.architecture))
        rows.append(
            f"<tbody><tr><td rowspan=2><b>{cell(point.id)}</b>{names}</td>{''.join(cells)}</tr>"
            f"<tr><td class=picks colspan={len(columns)}>{text}</td></tr></tbody>"
        )
    return f"<div class=wide><table><thead><tr>{head}</tr></thead>{''.join(rows)}</table></div>"


def _conflict_note(history: Sequence[Mapping[str, Cell]]) -> str:
    parts = []
    for name in cosine_columns(history):
        _, values = series(history, "step", name)
        against = sum(value < 0 for value in values) / len(values)
        parts.append(f"{between(name)} in {against:.0%} of the steps")
    return (
        "The cosine between the objectives' gradients: below zero, a step that helps one harms the "
        f"other. Opposed were {', '.join(parts)}."
    )


def _run_table(run: Run) -> str:
    about = {key: value for key, value in run.about.items() if key != "settings"}
    rows = [
        f"<tr><th>{cell(name)}</th><td>{cell(value)}</td></tr>"
        for name, value in {**run.settings, **about}.items()
    ]
    return f"<div class=wide><table class=facts>{''.join(rows)}</table></div>"


_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #24292f; background: #f6f7f9; margin: 0; }
main { max-width: 1060px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 26px; margin: 0; }
header p, section > p { color: #57606a; margin: 4px 0 12px; max-width: 76ch; }
section { background: white; border: 1px solid #dfe3e8; border-radius: 8px; padding: 18px 22px;
  margin-top: 18px; }
h2 { font-size: 18px; margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; width: 100%; }
th { text-align: left; font-weight: 600; white-space: nowrap; color: #57606a; }
th, td { padding: 6px 14px 6px 0; vertical-align: top; }
tbody, thead, .facts tr { border-bottom: 1px solid #eaedf0; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.picks { font: 12px/1.5 ui-monospace, monospace; color: #57606a; padding-top: 0; }
.tag { display: block; width: fit-content; font-size: 12px; background: #e7f0f8; color: #0b4f80;
  border-radius: 9px; padding: 0 8px; margin: 2px 0 0; white-space: nowrap; }
table.facts th { width: 12em; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<script>{plotly}</script>
</head>
<body>
<main>
<header><h1>{head}</h1><p>Found by paretonas, started {started}.</p></header>
{sections}
</main>
</body>
</html>
"""
