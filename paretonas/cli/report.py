"""`paretonas report`: the HTML page of a run."""

from __future__ import annotations

from pathlib import Path

from paretonas.report import write_report
from paretonas.runs import Run


def write_page(folder: Path, out: Path | None) -> None:
    """Draw the page and say where it is."""
    run = Run.open(folder)
    page = out or run.folder / "report.html"
    write_report(run, page)
    print(f"the report is {page}")
