"""The page around the sections: one file that contains its figures and loads nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from paretonas._atomic import replacing


def write_page(
    out: str | os.PathLike[str], *, title: str, head: str, started: str, sections: Sequence[str]
) -> Path:
    """Write the page, with the code that draws its figures.

    Args:
        out: the file.
        title: the title of the window; this and the next texts must be escaped HTML.
        head: the heading of the page.
        started: the start time.
        sections: the results of `section`.

    Raises:
        ValueError: the path cannot be written.
    """
    from plotly.offline import get_plotlyjs

    page = _PAGE.format(
        title=title,
        head=head,
        started=started,
        style=_STYLE,
        plotly=get_plotlyjs(),
        sections="\n".join(sections),
    )
    with replacing(out) as draft:
        draft.write_text(page, encoding="utf-8")
    return Path(out)


def section(name: str, content: str | None, note: str) -> str:
    """A heading, a note, and a figure or a table; `content` is None if nothing was logged."""
    if content is None:
        content, note = "", "The run logged nothing for this figure."
    return f"<section><h2>{name}</h2><p>{note}</p>{content}</section>"


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
<header><h1>{head}</h1><p>A report of paretonas; the run started {started}.</p></header>
{sections}
</main>
</body>
</html>
"""
